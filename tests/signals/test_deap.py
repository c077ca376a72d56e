"""DEAP's files: units, ratings, and everything a file can be instead."""

import io
import pickle
import resource
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mtkd.config import Deap
from mtkd.errors import MtkdError
from mtkd.signals.channels import GENEVA
from mtkd.signals.readers import deap
from mtkd.signals.recording import File, Recording
from mtkd.signals.simulated import dump_as_python2

DATA = Deap(reader="deap", folder="x", baseline_s=1.0)
N_TRIALS, N_TIMES = 2, 3 * 128
PLACE = {name: row for row, name in enumerate([*GENEVA, *deap.PERIPHERALS])}


def python2(arrays: dict[str, np.ndarray]) -> bytes:
    """As DEAP's own files were pickled."""
    buffer = io.BytesIO()
    dump_as_python2(arrays, buffer)
    return buffer.getvalue()


def arrays(n_times: int = N_TIMES) -> dict[str, np.ndarray]:
    random = np.random.default_rng(0)
    data = random.normal(size=(N_TRIALS, 40, n_times))
    data[:, PLACE["GSR"]] = 1e5 + 1e4 * data[:, PLACE["GSR"]]
    return {"labels": random.uniform(1, 9, (N_TRIALS, 4)), "data": data}


@pytest.fixture(scope="module")
def whole() -> bytes:
    return python2(arrays())


def read(content: bytes, folder: Path) -> list[Recording]:
    path = folder / "s07.dat"
    path.write_bytes(content)
    return list(deap.read(File("s07", "s07", (path,)), DATA))


def values(recording: Recording) -> dict[str, np.ndarray]:
    """Every channel with what it holds."""
    found = {}
    for stream in recording.streams.values():
        assert stream.sfreq == 128
        found |= zip(stream.ch_names, stream.read(0, stream.n_times), strict=True)
    return found


def refused(content: bytes, folder: Path) -> str:
    with pytest.raises(MtkdError) as caught:
        read(content, folder)
    sentence = str(caught.value)
    assert sentence.startswith(str(folder / "s07.dat"))
    assert "\n" not in sentence
    return sentence


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """One folder for all examples of a property."""
    return tmp_path_factory.mktemp("deap")


@pytest.fixture(scope="module")
def bounded_memory():
    """What would ask for more than a gigabyte gets a MemoryError instead of the machine's memory."""
    before = resource.getrlimit(resource.RLIMIT_AS)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + 2**30, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_AS, before)


def test_signals_come_in_si_units_under_their_own_names(tmp_path):
    content = arrays()
    recordings = read(python2(content), tmp_path)
    assert len(recordings) == N_TRIALS
    for recording, trial in zip(recordings, content["data"], strict=True):
        found = values(recording)
        assert list(found) == list(PLACE)
        for name in [*GENEVA, "hEOG", "vEOG", "zEMG", "tEMG"]:
            np.testing.assert_allclose(found[name], 1e-6 * trial[PLACE[name]], rtol=1e-12)
        np.testing.assert_allclose(found["GSR"], 1 / trial[PLACE["GSR"]], rtol=1e-12)
        for name in ("Resp", "Plet", "Temp"):
            np.testing.assert_array_equal(found[name], trial[PLACE[name]])


def test_channels_stand_in_the_geneva_order_with_their_modalities(tmp_path):
    streams = read(python2(arrays()), tmp_path)[0].streams
    modality = {name: kind for kind, stream in streams.items() for name in stream.ch_names}
    geneva = (
        "Fp1 AF3 F3 F7 FC5 FC1 C3 T7 CP5 CP1 P3 P7 PO3 O1 Oz Pz Fp2 AF4 Fz F4 F8 FC6 FC2 Cz C4 T8 CP6 CP2 P4 P8 PO4 O2"
    )
    assert " ".join(list(modality)[:32]) == geneva
    assert set(list(modality.values())[:32]) == {"eeg"}
    assert list(modality.items())[32:] == [
        ("hEOG", "eog"),
        ("vEOG", "eog"),
        ("zEMG", "emg"),
        ("tEMG", "emg"),
        ("GSR", "eda"),
        ("Resp", "resp"),
        ("Plet", "ppg"),
        ("Temp", "temp"),
    ]


def test_a_trial_is_what_follows_the_baseline(tmp_path):
    content = arrays()
    spans = [recording.spans for recording in read(python2(content), tmp_path)]
    assert [len(each) for each in spans] == [1, 1]
    for index, (span,) in enumerate(spans):
        assert (span.start_s, span.stop_s) == (1.0, 3.0)
        assert (span.name, span.stimulus) == (f"t{index + 1:02d}", f"video-{index + 1:02d}")
        named = dict(zip(("valence", "arousal", "dominance", "liking"), content["labels"][index], strict=True))
        assert span.ratings == named
        assert all(type(rating) is float for rating in span.ratings.values())


def test_a_resistance_that_no_skin_has_gives_nan_and_no_warning(tmp_path):
    content = arrays()
    content["data"][0, PLACE["GSR"], :4] = [0.0, -0.0, -5e4, np.nan]
    gsr = values(read(python2(content), tmp_path)[0])["GSR"]
    assert np.isnan(gsr[:4]).all()
    assert np.isfinite(gsr[4:]).all()
    assert (gsr[4:] > 0).all()


@pytest.mark.parametrize("protocol", range(2, 5))
@pytest.mark.parametrize("dtype", ["<f8", "<f4", "<i4", ">f8", "<u2"])
def test_python_3_pickles_of_any_number_type_read_the_same(tmp_path, protocol, dtype):
    content = {name: np.abs(array).astype(dtype) for name, array in arrays().items()}
    content["labels"] = np.clip(content["labels"], 1, 9)
    recordings = read(pickle.dumps(content, protocol), tmp_path)
    found, expected = values(recordings[1]), content["data"][1].astype(float)
    np.testing.assert_allclose(found["Fp1"], 1e-6 * expected[0], rtol=1e-12)
    assert np.isfinite(found["GSR"]).all() == (expected[PLACE["GSR"]] >= 1e4).all()


def test_fortran_order_reads_the_same(tmp_path):
    content = arrays()
    turned = {name: np.asfortranarray(array) for name, array in content.items()}
    one, other = read(python2(content), tmp_path), read(pickle.dumps(turned, 2), tmp_path)
    for mine, theirs in zip(values(one[1]).values(), values(other[1]).values(), strict=True):
        np.testing.assert_array_equal(mine, theirs)


@pytest.mark.parametrize("missing", [[0], [1, 2], [0, 1, 2, 3]])
def test_a_missing_rating_is_left_out(tmp_path, missing):
    content = arrays()
    content["labels"][0, missing] = np.nan
    ratings = [recording.spans[0].ratings for recording in read(python2(content), tmp_path)]
    assert list(ratings[0]) == [name for index, name in enumerate(deap.RATINGS) if index not in missing]
    assert len(ratings[1]) == 4


@pytest.mark.parametrize("rating", [0.0, 0.99, 9.01, -3.0, 1e9])
def test_a_rating_that_is_none_is_refused_by_its_number(tmp_path, rating):
    content = arrays()
    content["labels"][1, 2] = rating
    assert f"{rating:g}" in refused(python2(content), tmp_path)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"data": np.zeros((2, 39, 384))}, "(2, 39, 384)"),
        ({"data": np.zeros((2, 40))}, "(2, 40)"),
        ({"data": np.zeros((3, 40, 384))}, "(2, 4)"),
        ({"labels": np.full((2, 3), 5.0)}, "(2, 3)"),
        ({"labels": np.full(2, 5.0)}, "(2,)"),
        ({"data": np.zeros((2, 40, 384), complex)}, ""),
        ({"data": np.zeros((2, 40, 384), bool)}, "'data'"),
        ({"data": np.zeros((2, 40, 384), "S1")}, ""),
        ({"data": np.zeros((2, 40, 384), "U1")}, ""),
        ({"data": np.zeros((2, 40, 4), object)}, ""),
        ({"labels": np.full((2, 4), "5", object)}, ""),
        ({"data": np.zeros((2, 40, 384), [("a", "f8")])}, ""),
        ({"data": [[1.0]]}, "'data'"),
        ({"labels": None}, "'labels'"),
        ({"data": np.zeros((2, 40, 128))}, "baseline"),
        ({"data": np.zeros((2, 40, 0))}, ""),
    ],
)
def test_arrays_of_another_kind_are_refused(tmp_path, change, words):
    assert words in refused(pickle.dumps(arrays() | change, 2), tmp_path)


@pytest.mark.parametrize("content", [{}, {"data": arrays()["data"]}, {"labels": arrays()["labels"]}, [1], 3, None, "x"])
def test_pickles_without_the_two_arrays_are_refused(tmp_path, content):
    refused(pickle.dumps(content, 2), tmp_path)


def test_a_file_cut_off_anywhere_is_refused(folder, whole):
    short = python2(arrays(n_times=129))
    ends = [*range(400), *range(400, len(short), 997), *range(len(short) - 50, len(short))]
    for end in ends:
        refused(short[:end], folder)
    assert len(read(short, folder)) == N_TRIALS


@settings(max_examples=300)
@given(st.data())
def test_a_damaged_file_reads_or_is_refused_and_nothing_else(bounded_memory, folder, whole, data):
    damaged = bytearray(whole)
    # most of a file is samples, and there damage shows only as another number
    header = st.integers(0, 300) | st.integers(0, len(whole) - 1)
    for place, value in data.draw(st.lists(st.tuples(header, st.integers(0, 255)), min_size=1, max_size=4)):
        damaged[place] = value
    try:
        recordings = read(bytes(damaged), folder)
    except MtkdError as error:
        assert str(error).startswith(str(folder / "s07.dat"))  # noqa: PT017
        assert "\n" not in str(error)  # noqa: PT017
    else:
        assert all(list(values(recording)) == list(PLACE) for recording in recordings)


@pytest.mark.parametrize(
    "settings", [{"units": {"GSR": "uS"}}, {"bipolar": {"ECG": ["Fp1", "Fp2"]}}, {"rename": {"GSR": "EDA"}}]
)
def test_what_says_nothing_of_a_preprocessed_file_is_refused(tmp_path, whole, settings):
    (tmp_path / "s07.dat").write_bytes(whole)
    with pytest.raises(MtkdError, match=r"s07\.dat: data\.units, bipolar and rename are for DEAP's \.bdf files"):
        list(deap.read(File("s07", "s07", (tmp_path / "s07.dat",)), DATA.model_copy(update=settings)))


def test_only_files_of_subjects_are_taken(tmp_path):
    for name in ("s01.dat", "s10.dat", "s1.dat.bak", "notes.txt", "xs03.dat", "s02.mat", "S04.dat"):
        (tmp_path / name).write_bytes(b"")
    found = deap.find(tmp_path, DATA)
    assert {file.path.name: file.subject for file in found.files} == {
        "s01.dat": "s01",
        "s02.mat": "s02",
        "S04.dat": "s04",
        "s10.dat": "s10",
    }
    assert found.left_out == {}
