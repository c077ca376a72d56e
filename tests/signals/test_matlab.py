"""DEAP's MATLAB files: the same recordings as the pickles, and everything a file can be instead."""

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import scipy.io
from hypothesis import given, settings
from hypothesis import strategies as st

from mtkd.config import Deap
from mtkd.errors import MtkdError
from mtkd.signals import readers
from mtkd.signals.readers import matlab
from mtkd.signals.simulated import dump_as_python2

DATA = Deap(reader="deap", folder="x", baseline_s=0.5)
N_TRIALS, N_TIMES = 2, 100


def arrays() -> dict[str, np.ndarray]:
    random = np.random.default_rng(0)
    data = random.normal(size=(N_TRIALS, 40, N_TIMES))
    data[:, 36] = 1e5 + 1e4 * data[:, 36]
    return {"data": data, "labels": random.uniform(1, 9, (N_TRIALS, 4))}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """One folder for all examples of a property."""
    return tmp_path_factory.mktemp("matlab")


@pytest.fixture(scope="module", params=[True, False], ids=["compressed", "plain"])
def whole(request, folder) -> bytes:
    scipy.io.savemat(folder / "s01.mat", arrays(), do_compression=request.param)
    return (folder / "s01.mat").read_bytes()


def read(path: Path) -> list:
    (file,) = readers.find(path.parent, DATA).files
    return list(readers.read(file, DATA))


def saved(folder: Path, content: dict, **options) -> Path:
    scipy.io.savemat(folder / "s01.mat", content, **options)
    return folder / "s01.mat"


def refused(path: Path) -> str:
    with pytest.raises(MtkdError) as caught:
        read(path)
    sentence = str(caught.value)
    assert sentence.startswith(f"{path}: ")
    assert "\n" not in sentence
    return sentence.removeprefix(f"{path}: ")


@pytest.mark.parametrize("options", [{}, {"do_compression": True}, {"oned_as": "column"}])
def test_a_matlab_file_gives_what_the_pickle_of_its_arrays_does(tmp_path, options):
    (tmp_path / "dat").mkdir()
    (tmp_path / "mat").mkdir()
    with (tmp_path / "dat" / "s01.dat").open("wb") as file:
        dump_as_python2(arrays(), file)
    both = zip(read(tmp_path / "dat" / "s01.dat"), read(saved(tmp_path / "mat", arrays(), **options)), strict=True)
    for pickled, recording in both:
        assert recording.subject == pickled.subject == "s01"
        assert recording.spans == pickled.spans
        assert list(recording.streams) == list(pickled.streams)
        for kind, stream in recording.streams.items():
            other = pickled.streams[kind]
            assert (stream.ch_names, stream.sfreq, stream.n_times) == (other.ch_names, 128, N_TIMES)
            np.testing.assert_array_equal(stream.read(3, 90), other.read(3, 90))


@pytest.mark.parametrize("dtype", ["<f4", "<i2", "<i4", "<u2", ">f8"])
def test_any_number_type_reads_the_same(tmp_path, dtype):
    content = {name: np.clip(array, 1, 9).astype(dtype) for name, array in arrays().items()}
    recording = read(saved(tmp_path, content))[1]
    values = 1e-6 * content["data"][1, :32].astype(float)
    np.testing.assert_allclose(recording.streams["eeg"].read(0, N_TIMES), values, rtol=1e-6)


def test_other_variables_of_a_file_are_left_alone(tmp_path):
    read(saved(tmp_path, {**arrays(), "notes": "x", "cell": np.array([1, "a"], object), "more": {"a": 1}}))


@pytest.mark.parametrize("name", ["data", "labels"])
@pytest.mark.parametrize(
    ("value", "words"),
    [
        (np.array([[1, "a"]], object), "is a cell, not an array of numbers"),
        ({"a": 1.0}, "is a struct, not an array of numbers"),
        ("text", "is a char, not an array of numbers"),
        (np.ones((2, 4), bool), "is a logical, not an array of numbers"),
        (np.ones((2, 4), complex), "is a complex one, not an array of numbers"),
        (np.ones((2, 3)), ""),
        (np.full((2, 4), 10.0), ""),
        (np.zeros((0, 0)), ""),
    ],
)
def test_arrays_of_another_kind_are_refused(tmp_path, name, value, words):
    assert words in refused(saved(tmp_path, arrays() | {name: value}))


@pytest.mark.parametrize("name", ["data", "labels"])
def test_a_file_that_lacks_one_of_the_arrays_is_refused(tmp_path, name):
    content = arrays()
    del content[name]
    assert refused(saved(tmp_path, content)) == f"no numeric array {name!r}, so not a DEAP file"


@pytest.mark.parametrize("content", [b"", b"x", bytes(200), b"a text file\n" * 50, b"\x89HDF\r\n\x1a\n" + bytes(600)])
def test_a_foreign_file_is_refused(tmp_path, content):
    (tmp_path / "s01.mat").write_bytes(content)
    refused(tmp_path / "s01.mat")


@pytest.mark.parametrize("rest", [b"", b"\x89HDF\r\n\x1a\n" + bytes(600)])
def test_a_file_of_version_7_3_is_refused_by_what_helps(tmp_path, rest):
    head = b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(124) + b"\x00\x02IM"
    (tmp_path / "s01.mat").write_bytes(head.ljust(512, b"\0") + rest)
    assert refused(tmp_path / "s01.mat") == "a MATLAB file of version 7.3; save it with -v7"


def test_a_file_cut_off_anywhere_is_refused(folder, whole):
    path = folder / "s01.mat"
    for end in [*range(200), *range(200, len(whole) - 200, 997), *range(len(whole) - 200, len(whole))]:
        path.write_bytes(whole[:end])
        refused(path)


@pytest.mark.parametrize("compressed", [True, False])
def test_an_array_beyond_the_limit_is_refused_before_it_is_read(tmp_path, monkeypatch, compressed):
    monkeypatch.setattr(matlab, "MAX_BYTES", 8 * N_TRIALS * 40 * N_TIMES)
    path = saved(tmp_path, arrays(), do_compression=compressed)
    assert len(read(path)) == N_TRIALS
    monkeypatch.setattr(matlab, "MAX_BYTES", matlab.MAX_BYTES - 1)
    assert refused(path).startswith("'data' claims the size (2, 40, 100), more than 63999 bytes")


def element(kind: int, content: bytes, order: str = "<") -> bytes:
    return struct.pack(f"{order}II", kind, len(content)) + content + bytes(-len(content) % 8)


def test_a_file_of_the_other_byte_order_reads_the_same(tmp_path):
    written = b""
    for name, array in arrays().items():
        flags, shape = struct.pack(">II", 6, 0), struct.pack(f">{array.ndim}i", *array.shape)
        values = array.astype(">f8").tobytes(order="F")
        parts = zip((6, 5, 1, 9), (flags, shape, name.encode(), values), strict=True)
        written += element(14, b"".join(element(*part, ">") for part in parts), ">")
    path = tmp_path / "s01.mat"
    path.write_bytes(b"MATLAB 5.0 MAT-file".ljust(124) + b"\x01\x00MI" + written)
    assert [recording.spans[0].ratings["valence"] for recording in read(path)] == arrays()["labels"][:, 0].tolist()
    np.testing.assert_allclose(read(path)[1].streams["eeg"].read(0, 9), 1e-6 * arrays()["data"][1, :32, :9])


def test_a_small_array_that_unpacks_to_more_than_it_says_is_refused(tmp_path, monkeypatch):
    """Of compressed zeros a kilobyte makes a megabyte, whatever size the array has."""
    monkeypatch.setattr(matlab, "MAX_BYTES", 2**20)
    path = saved(tmp_path, {})
    flags, shape = element(6, struct.pack("<II", 6, 0)), element(5, struct.pack("<ii", 1, 1))
    array = element(14, flags + shape + element(1, b"data") + element(9, bytes(2**21)))
    packed = zlib.compress(array)
    path.write_bytes(path.read_bytes()[:128] + struct.pack("<II", 15, len(packed)) + packed)
    assert "unpacks to more than" in refused(path)


@settings(max_examples=150)
@given(st.data())
def test_a_damaged_file_reads_or_is_refused_and_nothing_else(folder, whole, data):
    damaged, path = bytearray(whole), folder / "s01.mat"
    header = st.integers(100, 260) | st.integers(0, len(whole) - 1)
    for place, value in data.draw(st.lists(st.tuples(header, st.integers(0, 255)), min_size=1, max_size=4)):
        damaged[place] = value
    path.write_bytes(damaged)
    try:
        recordings = read(path)
    except MtkdError as error:
        assert str(error).startswith(f"{path}: ")  # noqa: PT017
        assert "\n" not in str(error)  # noqa: PT017
    else:
        assert all(len(recording.streams) == 7 for recording in recordings)


@settings(max_examples=40, deadline=None)
@given(st.permutations(["data", "labels", "a", "b"]), st.lists(st.booleans(), min_size=4, max_size=4), st.data())
def test_compressed_and_plain_variables_may_follow_one_another(folder, names, compressed, data):
    """A compressed one is not filled up to eight bytes, so that the next may begin anywhere."""
    content = arrays() | {"a": np.arange(data.draw(st.integers(1, 9)), dtype=np.uint8), "b": np.ones(3)}
    parts = []
    for name, packed in zip(names, compressed, strict=True):
        part = io.BytesIO()
        scipy.io.savemat(part, {name: content[name]}, do_compression=packed)
        parts.append(part.getvalue())
    (folder / "s01.mat").write_bytes(parts[0][:128] + b"".join(part[128:] for part in parts))
    found = matlab.load_matlab(folder / "s01.mat", ("data", "labels"))
    for name, array in found.items():
        np.testing.assert_array_equal(array, content[name])
    assert set(found) == {"data", "labels"}
