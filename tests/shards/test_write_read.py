"""Shards: anybody can read them, they hold what was written, and damage is told by file and trial."""

import io
import json
import pickle
import subprocess
import sys
import tarfile
import time
import zlib

import numpy as np
import pytest
import webdataset
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from mtkd.errors import MtkdError
from mtkd.shards.index import NAME, read_index
from mtkd.shards.read import ShardSet
from mtkd.shards.schema import SampleInfo, decode_array, encode, encode_array, sample_key
from mtkd.shards.write import write_shard
from mtkd.signals.preprocess import Signal
from mtkd.signals.recording import Span


@pytest.fixture
def shards(tmp_path, make_set, make_trial) -> ShardSet:
    """Two tars, three trials."""
    rated = make_trial("t01", ratings={"valence": 7.0})
    return make_set(
        tmp_path / "set",
        {"s01.tar": [rated, make_trial("t02", 4.5)], "s02.tar": [make_trial("t01", subject="s02", seed=1)]},
    )


def test_trials_come_back_as_they_were_written(shards, make_trial):
    _, _, signals = make_trial("t01", ratings={"valence": 7.0})
    assert list(shards.samples) == ["s01_t01", "s01_t02", "s02_t01"]
    for modality, signal in signals.items():
        np.testing.assert_array_equal(shards.read("s01_t01", f"{modality}.npy"), signal.data)
        np.testing.assert_array_equal(shards.read("s01_t01", f"{modality}.valid.npy"), signal.valid)
    sample = shards.samples["s01_t01"]
    assert (sample.subject, sample.stimulus, sample.duration_s, sample.ratings) == (
        "s01",
        "video-t01",
        6.0,
        {"valence": 7.0},
    )
    assert sample.modalities["eeg"].model_dump() == {"ch_names": ["F3", "F4"], "sfreq": 16.0}
    assert shards.samples["s01_t02"].duration_s == 4.5
    assert shards.index.subjects == ["s01", "s02"]


def test_a_trial_knows_itself_without_the_index(shards):
    for key, sample in shards.samples.items():
        with tarfile.open(shards.path(key)) as tar:
            assert json.load(tar.extractfile(f"{key}.meta.json")) == sample.model_dump(exclude={"members"})


def test_plain_tar_tools_read_it(shards):
    with tarfile.open(shards.folder / "s01.tar") as tar:
        names = tar.getnames()
        assert names[0].startswith("s01_t01.")
        assert {name for name in names if name.startswith("s01_t01.")} == {
            f"s01_t01.{member}" for member in ("eeg.npy", "eeg.valid.npy", "eda.npy", "eda.valid.npy", "meta.json")
        }
        array = np.load(io.BytesIO(tar.extractfile("s01_t01.eeg.npy").read()), allow_pickle=False)
        np.testing.assert_array_equal(array, shards.read("s01_t01", "eeg.npy"))
        assert json.load(tar.extractfile("s01_t01.meta.json"))["key"] == "s01_t01"


def test_webdataset_reads_it(shards):
    found = list(webdataset.WebDataset(str(shards.folder / "s01.tar"), shardshuffle=False).decode())
    assert [sample["__key__"] for sample in found] == ["s01_t01", "s01_t02"]
    for sample in found:
        for member in ("eeg.npy", "eeg.valid.npy", "eda.npy"):
            np.testing.assert_array_equal(sample[member], shards.read(sample["__key__"], member))
        assert sample["meta.json"] == shards.samples[sample["__key__"]].model_dump(exclude={"members"})


numbers = st.sampled_from(["f4", "f2", "f8", "?", "i8"]).flatmap(
    lambda dtype: arrays.arrays(dtype, arrays.array_shapes(min_dims=1, max_dims=3, min_side=0, max_side=3))
)


@given(numbers)
def test_an_array_goes_through_bytes_and_back(array):
    found = decode_array(encode_array(array))
    assert found.dtype == array.dtype
    assert found.shape == array.shape
    np.testing.assert_array_equal(found, array)
    assert not found.flags.writeable


@pytest.mark.parametrize("turn", [np.transpose, np.asfortranarray, lambda array: array[:, ::2]])
def test_arrays_of_any_order_in_memory_come_back(turn):
    array = turn(np.arange(24.0).reshape(4, 6))
    np.testing.assert_array_equal(decode_array(encode_array(array)), array)


@pytest.mark.parametrize("content", [b"", b"\x93NUMPY", b"not an array at all", encode_array(np.zeros(3))[:-1]])
def test_bytes_that_are_no_array_are_refused(content):
    with pytest.raises(ValueError):  # noqa: PT011 - which one NumPy raises is its own affair
        decode_array(content)


def test_an_array_of_objects_is_neither_written_nor_read():
    with pytest.raises(ValueError, match="Object arrays"):
        encode_array(np.array([{}]))
    header = b"{'descr': '|O', 'fortran_order': False, 'shape': (1,), }"
    header += b" " * (117 - len(header)) + b"\n"
    with pytest.raises(ValueError, match="plain"):
        decode_array(b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + b"A" * 8)


KEYS = st.text(st.characters(exclude_characters="/.\\", exclude_categories=["Cs", "Cc"]), min_size=1, max_size=120)


@given(st.dictionaries(KEYS, st.lists(st.binary(max_size=1100), min_size=1, max_size=3), min_size=1, max_size=4))
def test_a_tar_is_that_of_webdatasets_own_writer(tmp_path_factory, samples):
    members = {key: {f"{n}.npy": content for n, content in enumerate(found)} for key, found in samples.items()}
    about = {"subject": "s", "stimulus": "v", "duration_s": 1.0, "ratings": {}}
    about |= {"modalities": {"eda": {"ch_names": ["GSR"], "sfreq": 4.0}}, "valid": {"eda": 1.0}}
    path = tmp_path_factory.getbasetemp() / "ours.tar"
    entries = write_shard(path, ((SampleInfo(key=key, **about), members[key]) for key in members))
    theirs = io.BytesIO()
    with webdataset.TarWriter(theirs, encoder=False, mtime=0, user="mtkd", group="mtkd") as tar:
        for key, found in members.items():
            tar.write({"__key__": key, **found})
    assert path.read_bytes() == theirs.getvalue()
    for entry in entries:
        for name, place in entry.members.items():
            content = path.read_bytes()[place.offset : place.offset + place.size]
            assert (content, zlib.crc32(content)) == (members[entry.key][name], place.crc32)


words = st.text(min_size=1, max_size=8)


@given(words, words)
def test_a_key_is_a_name_that_webdataset_and_file_systems_take(subject, name):
    key = sample_key(subject, name)
    assert "." not in key
    assert "/" not in key
    assert key.count("_") == 1


@settings(max_examples=30)
@given(
    st.lists(st.tuples(st.sampled_from("abcdef"), st.integers(1, 9)), min_size=1, max_size=5, unique_by=lambda t: t[0])
)
def test_any_trials_go_through_a_tar_and_back(tmp_path_factory, make_set, make_trial, drawn):
    trials = [make_trial(name, seconds, seed=seconds) for name, seconds in drawn]
    found = make_set(tmp_path_factory.mktemp("set"), {"x.tar": trials})
    assert [sample.key for sample in found.index.samples] == [f"s01_{name}" for name, _ in drawn]
    for (name, _), (_, _, signals) in zip(drawn, trials, strict=True):
        for modality, signal in signals.items():
            np.testing.assert_array_equal(found.read(f"s01_{name}", f"{modality}.npy"), signal.data)


def test_equal_trials_give_equal_bytes(tmp_path, make_trial):
    def written(name: str, seed: int) -> bytes:
        write_shard(tmp_path / name, (encode(*make_trial(trial, seed=seed)) for trial in ("t01", "t02")))
        return (tmp_path / name).read_bytes()

    first = written("one.tar", seed=0)
    time.sleep(1.1)  # tars carry whole seconds
    assert written("two.tar", seed=0) == first
    assert written("three.tar", seed=1) != first


@pytest.mark.parametrize("name", ["t01", "t-01", "t.01"])
def test_two_trials_of_one_key_are_refused(tmp_path, make_trial, name):
    clash = "t-01" if name != "t01" else "t01"
    with pytest.raises(MtkdError, match=rf"x\.tar: the trial s01_{clash} comes twice"):
        write_shard(tmp_path / "x.tar", (encode(*make_trial(each)) for each in (name, clash)))


def test_a_flipped_bit_of_any_member_is_told_by_file_and_trial(shards):
    path = shards.folder / "s01.tar"
    whole = path.read_bytes()
    for key in ("s01_t01", "s01_t02"):
        for member, place in shards.samples[key].members.items():
            for at in {place.offset, place.offset + place.size // 2, place.offset + place.size - 1}:
                damaged = bytearray(whole)
                damaged[at] ^= 1
                path.write_bytes(damaged)
                again = ShardSet(shards.folder)
                with pytest.raises(MtkdError, match=rf"s01\.tar: {key}\.{member} is damaged"):
                    again.read(key, member)
                others = [other for other in shards.samples[key].members if other not in (member, "meta.json")]
                again.read(key, others[0])  # the rest is as good as ever


@pytest.mark.parametrize("keep", [0.5, 0.99])
def test_a_tar_cut_off_is_told_by_file_and_trial(shards, keep):
    path = shards.folder / "s01.tar"
    whole = path.read_bytes()
    last = shards.samples["s01_t02"].members["eeg.npy"]
    path.write_bytes(whole[: int((last.offset + last.size) * keep)])
    with pytest.raises(MtkdError, match=r"s01\.tar: s01_t02\.eeg\.npy is damaged"):
        ShardSet(shards.folder).read("s01_t02", "eeg.npy")


@pytest.mark.parametrize("damage", [lambda path: path.unlink(), lambda path: path.write_bytes(b"")])
def test_a_tar_that_is_not_there_is_told_by_its_name(shards, damage):
    damage(shards.folder / "s02.tar")
    with pytest.raises(MtkdError, match=r"s02\.tar: missing or empty"):
        ShardSet(shards.folder).read("s02_t01", "eeg.npy")
    ShardSet(shards.folder).read("s01_t01", "eeg.npy")


def test_a_tar_of_another_set_is_refused(shards, tmp_path, make_set, make_trial):
    make_set(tmp_path / "other", {"s01.tar": [make_trial("t01", seed=5), make_trial("t02", 4.5, seed=5)]})
    (shards.folder / "s01.tar").write_bytes((tmp_path / "other" / "s01.tar").read_bytes())
    with pytest.raises(MtkdError, match=r"s01_t01\.eeg\.npy is damaged"):
        ShardSet(shards.folder).read("s01_t01", "eeg.npy")


def test_what_is_not_there_is_told_by_its_name(shards):
    with pytest.raises(MtkdError, match=r"set: holds no trial s09_t01"):
        shards.read("s09_t01", "eeg.npy")
    with pytest.raises(MtkdError, match=r"s01\.tar: the trial s01_t01 has no member ppg\.npy"):
        shards.read("s01_t01", "ppg.npy")


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"{}", b'{"shards": {"s01.tar": [{}]}}', b"\xff"])
def test_a_damaged_index_is_told_by_its_name(shards, content):
    (shards.folder / NAME).write_bytes(content)
    with pytest.raises(MtkdError, match=r"set/index\.json: "):
        ShardSet(shards.folder)


def test_a_folder_without_an_index_is_no_shard_set(tmp_path):
    with pytest.raises(MtkdError, match=r"index\.json: no such file"):
        read_index(tmp_path)


def test_an_open_set_travels_to_another_process(shards):
    shards.read("s01_t01", "eeg.npy")  # its maps do not travel
    code = (
        "import pickle, sys\nshards = pickle.load(sys.stdin.buffer)\n"
        "sys.stdout.write(str(float(shards.read('s01_t01', 'eeg.npy').sum())))"
    )
    done = subprocess.run([sys.executable, "-c", code], input=pickle.dumps(shards), capture_output=True, check=True)
    assert float(done.stdout) == float(shards.read("s01_t01", "eeg.npy").sum())


def test_the_duration_is_that_of_the_shortest_modality():
    signals = {
        "eeg": Signal(np.zeros((1, 100), np.float32), np.ones((1, 7), bool), 16.0, ["Cz"]),
        "eda": Signal(np.zeros((1, 24), np.float32), np.ones((1, 6), bool), 4.0, ["GSR"]),
    }
    info, members = encode("s01", Span("t01", "x", 0.0, 6.25), signals)
    assert info.duration_s == 6.0
    assert set(members) == {"eeg.npy", "eeg.valid.npy", "eda.npy", "eda.valid.npy", "meta.json"}
