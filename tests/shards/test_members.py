"""Members that are none of their kind, and an index that cannot be meant: a set may come from anywhere."""

import io
import json
import re
from typing import Any, get_args

import numpy as np
import psutil
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from mtkd.config import Modality, Windows
from mtkd.errors import MtkdError
from mtkd.shards.batch import Cutter, layouts
from mtkd.shards.index import read_index, write_index
from mtkd.shards.read import _MOST_MAPS, ShardSet
from mtkd.shards.schema import SampleInfo, encode
from mtkd.shards.write import write_shard
from mtkd.signals.preprocess import Signal
from mtkd.signals.recording import Span

N_CHANS, N_TIMES, N_SECS = 2, 96, 6  # of the trial that tests are given


def npy(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def header(text: str) -> bytes:
    said = text.encode()
    return b"\x93NUMPY\x01\x00" + len(said).to_bytes(2, "little") + said + bytes(64)


def with_nan() -> np.ndarray:
    data = np.zeros((N_CHANS, N_TIMES), np.float32)
    data[1, 7] = np.nan
    return data


@pytest.mark.parametrize(
    ("member", "content"),
    [
        ("eeg.npy", npy(np.zeros(N_TIMES, np.float32))),
        ("eeg.npy", npy(np.zeros((N_CHANS - 1, N_TIMES), np.float32))),
        ("eeg.npy", npy(np.zeros((N_CHANS, N_TIMES - 2), np.float32))),
        ("eeg.npy", npy(np.zeros((N_CHANS, 0), np.float32))),
        ("eeg.npy", npy(np.zeros((N_CHANS, 2 * N_TIMES), np.float32))),
        ("eeg.npy", npy(np.zeros((N_CHANS, N_TIMES), np.complex128))),
        ("eeg.npy", npy(np.full((N_CHANS, N_TIMES), "x"))),
        ("eeg.npy", npy(np.zeros((N_CHANS, N_TIMES), "datetime64[s]"))),
        ("eeg.npy", npy(np.zeros((N_CHANS, N_TIMES), [("a", "<f4")]))),
        ("eeg.npy", npy(with_nan())),
        ("eeg.npy", header("{'descr': '<f4', 'shape': (1, ")),
        ("eeg.npy", header("  {'descr':\n 1}\n   x")),
        ("eeg.npy", header("-" * 9000 + "1")),
        ("eeg.npy", b""),
        ("eeg.valid.npy", npy(np.ones((N_CHANS, N_SECS), np.float32))),
        ("eeg.valid.npy", npy(np.ones((1, 1), bool))),
        ("eeg.valid.npy", npy(np.ones((N_CHANS, N_SECS - 2), bool))),
    ],
)
def test_a_member_that_is_no_such_array_is_refused_by_its_tar(tmp_path, make_trial, member, content):
    info, members = encode(*make_trial("t01"))
    write_index(tmp_path, {"s01.tar": write_shard(tmp_path / "s01.tar", [(info, members | {member: content})])})
    shards = ShardSet(tmp_path)
    for _ in range(2):  # nor is it taken for checked
        with pytest.raises(MtkdError) as caught:
            shards.read("s01_t01", member)
        sentence = str(caught.value)
        assert sentence.startswith(f"{tmp_path / 's01.tar'}: s01_t01.{member} is no such array (")
        assert "\n" not in sentence
        assert len(sentence) < 1000


@pytest.mark.parametrize("seconds", [5.93, 6.0, 6.07, 7.4])
@pytest.mark.parametrize(
    "rates", [{"eeg": 128.0, "eda": 4.0}, {"eeg": 250.0, "ecg": 32.0, "temp": 0.5}, {"eeg": 128.0, "temp": 0.2}]
)
def test_trials_of_any_length_and_rates_are_what_they_must_be(tmp_path, make_trial, make_set, seconds, rates):
    shards = make_set(tmp_path, {"s01.tar": [make_trial("t01", seconds, rates)]})
    for modality in rates:
        for member in (f"{modality}.npy", f"{modality}.valid.npy"):
            assert len(shards.read("s01_t01", member))


def test_a_trial_that_an_index_has_twice_is_refused(tmp_path, make_trial, make_set):
    make_set(tmp_path, {"s01.tar": [make_trial("t01")]})
    said = json.loads((tmp_path / "index.json").read_text())
    said["shards"]["other.tar"] = said["shards"]["s01.tar"]
    (tmp_path / "index.json").write_text(json.dumps(said))
    with pytest.raises(
        MtkdError, match=rf"^{re.escape(str(tmp_path))}/index\.json: damaged index, .*names a trial twice"
    ):
        read_index(tmp_path)


@pytest.mark.parametrize(
    "changes",
    [
        {"subject": "\x1b]0;x\x07"},
        {"subject": "a\nmtkd: all fine"},
        {"subject": ""},
        {"ratings": {"\x1b[2J": 1.0}},
        {"modalities": {"eeg": {"ch_names": ["F3", "F3"], "sfreq": 16.0}}},
        {"modalities": {"eeg": {"ch_names": ["F3", "\x9b2J"], "sfreq": 16.0}}},
    ],
)
def test_texts_that_a_terminal_would_obey_and_twins_are_refused(make_trial, changes: dict[str, Any]):
    info, _ = encode(*make_trial("t01", rates={"eeg": 16.0}))
    SampleInfo.model_validate(info.model_dump())
    with pytest.raises(ValidationError):
        SampleInfo.model_validate(info.model_dump() | changes)


def test_a_tar_that_is_cut_while_it_is_read_is_refused_and_ends_no_process(tmp_path, make_trial, make_set):
    shards = make_set(tmp_path, {"s01.tar": [make_trial("t01"), make_trial("t02")]})
    read = shards.read("s01_t01", "eeg.npy").copy()
    with (tmp_path / "s01.tar").open("r+b") as file:
        file.truncate(0)
    for key in ("s01_t01", "s01_t02"):
        with pytest.raises(MtkdError, match=rf"^{re.escape(str(tmp_path))}/s01\.tar: was cut short while"):
            shards.read(key, "eeg.npy")
    assert read.size


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_what_is_written_is_what_reading_takes(tmp_path_factory, data):
    """Signals of one trial come out as long as their rates, and those that were resampled up, round them."""
    rates = data.draw(st.lists(st.sampled_from([0.2, 1.0, 4.0, 16.0, 128.0, 250.0]), min_size=1, max_size=4))
    signals = {}
    for modality, rate in zip(get_args(Modality), rates, strict=False):
        native = data.draw(st.sampled_from([rate, rate / 4, 1.0]))
        n_times = round(max(1, round(data.draw(st.floats(10.0, 13.0)) * native)) * rate / native)
        n_secs = int(np.ceil(n_times / rate - 1e-9))
        valid = np.ones((1, n_secs), bool)
        valid[0, : data.draw(st.integers(0, n_secs))] = False
        signals[modality] = Signal(np.zeros((1, n_times), np.float32), valid, rate, ["x"])
    folder = tmp_path_factory.mktemp("set")
    sample = encode("s01", Span("t01", "x", 0.0, 10.0), signals)
    write_index(folder, {"s01.tar": write_shard(folder / "s01.tar", [sample])})
    shards = ShardSet(folder)
    for modality, signal in signals.items():
        read = shards.read("s01_t01", f"{modality}.npy")
        assert 0 <= read.shape[1] / signal.sfreq - shards.samples["s01_t01"].duration_s + 1e-6 <= 1 / signal.sfreq
        assert shards.read("s01_t01", f"{modality}.valid.npy").shape[1] == np.ceil(read.shape[1] / signal.sfreq - 1e-9)


def test_room_is_made_for_what_is_there_and_not_for_what_the_index_tells(tmp_path, make_trial, make_set):
    make_set(tmp_path, {"s01.tar": [make_trial("t01")]})
    said = json.loads((tmp_path / "index.json").read_text())
    said["shards"]["s01.tar"][0]["duration_s"] = 1e8
    (tmp_path / "index.json").write_text(json.dumps(said))
    shards = ShardSet(tmp_path)
    layout = {"eeg": shards.samples["s01_t01"].modalities["eeg"]}
    with pytest.raises(MtkdError, match=r"s01\.tar: s01_t01\.eeg has \d+ bytes, too few for the 1e\+08 s"):
        Cutter(shards, layout, Windows(window_s=2, hop_s=2), {}).batch(["s01_t01"])


def test_a_modality_at_two_rates_is_refused(tmp_path, make_trial, make_set):
    trials = [make_trial("t01", rates={"eeg": 16.0}), make_trial("t02", rates={"eeg": 32.0})]
    shards = make_set(tmp_path, {"s01.tar": trials})
    with pytest.raises(MtkdError, match=r"^eeg: the set has it at 16 and 32 Hz, not at one rate$"):
        layouts(shards.index.samples, ["eeg"])


def test_an_array_shorter_than_its_trial_is_refused(tmp_path, make_trial):
    """One sample fewer was once read from its end, as one value throughout."""
    info, members = encode(*make_trial("t01", rates={"eeg": 16.0}))
    short = npy(np.zeros((N_CHANS, N_TIMES - 1), np.float32))
    write_index(tmp_path, {"s01.tar": write_shard(tmp_path / "s01.tar", [(info, members | {"eeg.npy": short})])})
    with pytest.raises(MtkdError, match=r"is no such array \(ValueError: shape \(2, 95\) for 6 s at 16 Hz"):
        ShardSet(tmp_path).read("s01_t01", "eeg.npy")


@pytest.mark.parametrize("told", [1.0, 0.25])
def test_a_mask_is_that_of_the_array_and_not_what_the_index_says(tmp_path, make_trial, told):
    info, members = encode(*make_trial("t01", rates={"eeg": 16.0}))
    half = np.zeros((N_CHANS, N_SECS), bool)
    half[0] = True
    write_index(
        tmp_path,
        {
            "s01.tar": write_shard(
                tmp_path / "s01.tar",
                [(info.model_copy(update={"valid": {"eeg": told}}), members | {"eeg.valid.npy": npy(half)})],
            )
        },
    )
    with pytest.raises(MtkdError, match=rf"50\.00% of it valid, and {told:.2%} by the index"):
        ShardSet(tmp_path).read("s01_t01", "eeg.valid.npy")


def test_sets_of_more_tars_than_a_process_may_open_are_read(tmp_path, make_trial, make_set):
    names = [f"s{number:03d}" for number in range(3 * _MOST_MAPS)]
    shards = make_set(tmp_path, {f"{name}.tar": [make_trial("t01", 1.0, {"eda": 4.0}, subject=name)] for name in names})
    before = psutil.Process().num_fds()
    kept = {name: shards.read(f"{name}_t01", "eda.npy") for name in names[:10]}
    copies = {name: array.copy() for name, array in kept.items()}
    for _ in range(2):
        for name in names:
            shards.read(f"{name}_t01", "eda.npy")
    assert psutil.Process().num_fds() - before <= _MOST_MAPS + 10
    for name, array in kept.items():
        np.testing.assert_array_equal(array, copies[name])


@pytest.mark.parametrize("kind", ["folder", "loop"])
def test_a_tar_that_is_no_file_is_refused(tmp_path, make_trial, make_set, kind):
    shards = make_set(tmp_path, {"s01.tar": [make_trial("t01")]})
    (tmp_path / "s01.tar").unlink()
    if kind == "folder":
        (tmp_path / "s01.tar").mkdir()
    else:
        (tmp_path / "s01.tar").symlink_to("s01.tar")
    with pytest.raises(MtkdError, match=rf"^{re.escape(str(tmp_path))}/s01\.tar: cannot be read \("):
        shards.read("s01_t01", "eeg.npy")
