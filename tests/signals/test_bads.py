"""What a file's annotations call bad, of all channels or of some, is masked as MNE leaves it out."""

from pathlib import Path

import mne
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mtkd.config import Table
from mtkd.signals.readers.formats import _named
from mtkd.signals.readers.raw import read_streams
from mtkd.signals.recording import Stream

SFREQ, N_TIMES = 128, 20 * 128
NAMES = ["Fz", "Cz", "ECG"]
DATA = np.random.default_rng(0).normal(0, 1e-5, (3, N_TIMES))


def write(path: Path, notes, ch_names=None, first_samp: int = 0, **options) -> mne.io.BaseRaw:
    info = mne.create_info(NAMES, float(SFREQ), ["eeg", "eeg", "ecg"])
    raw = mne.io.RawArray(DATA, info, first_samp=first_samp, verbose="error")
    onsets, durations, said = zip(*notes, strict=True)
    raw.set_annotations(mne.Annotations(onsets, durations, said, ch_names=ch_names))
    if path.suffix == ".fif":
        raw.save(path, overwrite=True, fmt="double", verbose="error")
    else:
        raw.export(path, overwrite=True, verbose="error", **options)
    return raw


def streams(path: Path) -> dict[str, Stream]:
    data = Table(reader="table", folder="x", channels={"ECG": "ecg", "*": "eeg"})
    return read_streams(path, data, {}, {})


def lost(path: Path) -> np.ndarray:
    """Which samples of the three channels are none."""
    return np.vstack([np.isnan(each.read(0, each.n_times)) for each in streams(path).values()])


WORDS = st.sampled_from(["BAD_muscle", "bad", "Bad jump", "BAD", "stim", "EDGE", "abad", "blink"])


@settings(max_examples=15)
@given(st.lists(st.tuples(st.floats(0, 17), st.floats(0, 2), WORDS), min_size=1, max_size=4), st.booleans())
def test_what_mne_leaves_out_is_masked(tmp_path_factory, notes, is_cropped):
    path = tmp_path_factory.mktemp("bads") / "x_raw.fif"
    raw = write(path, notes, first_samp=500 * is_cropped)
    read = mne.io.read_raw(path, verbose="error")
    left = read.get_data(reject_by_annotation="NaN", verbose="error")
    np.testing.assert_array_equal(lost(path), np.isnan(left))
    assert raw.n_times == left.shape[1]


def test_what_is_bad_of_some_channels_is_masked_of_them(tmp_path):
    write(tmp_path / "x_raw.fif", [(5, 2, "BAD_pop"), (10, 1, "BAD_move")], [["Cz"], []])
    found = lost(tmp_path / "x_raw.fif")
    expected = np.zeros((3, N_TIMES), bool)
    expected[1, 5 * SFREQ : 7 * SFREQ] = expected[:, 10 * SFREQ : 11 * SFREQ] = True
    np.testing.assert_array_equal(found, expected)
    ours = streams(tmp_path / "x_raw.fif")
    assert ours["eeg"].left_out == {"3 s of eeg": "its annotations call them bad (BAD_move, BAD_pop)"}
    assert ours["ecg"].left_out == {"1 s of ecg": "its annotations call them bad (BAD_move)"}
    for start, stop in ((0, 700), (650, 651), (640, 900), (895, 896), (896, 2560)):
        np.testing.assert_array_equal(np.isnan(ours["eeg"].read(start, stop)), expected[:2, start:stop])


def test_an_edf_calls_it_bad_alike(tmp_path):
    write(tmp_path / "x.edf", [(5, 2, "BAD_muscle"), (9, 1, "stim")])
    assert np.flatnonzero(lost(tmp_path / "x.edf").all(axis=0)).tolist() == [*range(5 * SFREQ, 7 * SFREQ)]
    assert all(f"2 s of {kind}" in stream.left_out for kind, stream in streams(tmp_path / "x.edf").items())


@pytest.mark.parametrize("channels", [{"ECG": "ecg", "*": "eeg"}, {"ECG": "ecg", "Cz": "ignore", "*": "eeg"}])
def test_an_edf_calls_it_bad_of_some_channels_alike(tmp_path, channels):
    """Of which MNE opens those of one modality at a time, and leaves the names of others in an annotation's words."""
    write(tmp_path / "x.edf", [(5, 2, "BAD_pop"), (10, 1, "BAD_move")], [["Cz"], ["Cz", "ECG"]])
    found = read_streams(tmp_path / "x.edf", Table(reader="table", folder="x", channels=channels), {}, {})
    n_lost = {
        name: int(np.isnan(row).sum())
        for stream in found.values()
        for name, row in zip(stream.ch_names, stream.read(0, stream.n_times), strict=True)
    }
    assert n_lost == {"Fz": 0, "ECG": SFREQ} | ({} if "Cz" in channels else {"Cz": 3 * SFREQ})


@pytest.mark.parametrize("said", ["badge shown", "BADGER video", "Badminton"])
def test_a_stimulus_is_not_bad_by_its_first_letters(tmp_path, said):
    write(tmp_path / "x_raw.fif", [(5, 2, said)])
    assert not lost(tmp_path / "x_raw.fif").any()


def test_a_file_without_such_words_tells_nothing(tmp_path):
    write(tmp_path / "x_raw.fif", [(5, 2, "stim"), (6, 0, "BAD_point")])
    assert not lost(tmp_path / "x_raw.fif").any()
    assert all(not stream.left_out for stream in streams(tmp_path / "x_raw.fif").values())


@pytest.mark.parametrize("said", ["BAD_x@@", "BAD_x@@op7", "BAD_x@@EEG op7"])
def test_what_is_bad_of_no_channel_there_is_is_bad_of_all(tmp_path, said):
    write(tmp_path / "x.edf", [(5, 2, said)])
    assert lost(tmp_path / "x.edf").sum(axis=1).tolist() == [2 * SFREQ] * 3


def test_an_edf_may_name_its_channels_without_their_type(tmp_path):
    """As MNE writes it: labels of EDF+, with the type before the name, and the name alone in annotations."""
    write(tmp_path / "x.edf", [(5, 2, "BAD_pop"), (10, 1, "BAD_move")], [["Cz"], ["Cz", "ECG"]], add_ch_type=True)
    given = Table(reader="table", folder="x", channels={"ECG*": "ecg", "*": "eeg"})
    found = read_streams(tmp_path / "x.edf", given, {}, {})
    n_lost = [np.isnan(each.read(0, each.n_times)).sum(axis=1).tolist() for each in found.values()]
    assert sorted(n_lost) == [[0, 3 * SFREQ], [SFREQ]]


CHANNELS = ["EEG Fz", "Cz", "RESP belt", "EMG 1", "1", ""]


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("Fz", ["EEG Fz"]),
        ("FZ", ["EEG Fz"]),
        ("EEG Cz", ["Cz"]),
        ("belt", ["RESP belt"]),
        ("resp belt", ["RESP belt"]),
        ("EMG 1", ["EMG 1"]),
        ("1", ["1"]),
        ("Cz,Fz", ["Cz", "EEG Fz"]),
        ("", []),
        (",", []),
        ("op7", []),
    ],
)
def test_channels_an_annotation_names(said, expected):
    assert _named(said, CHANNELS) == set(expected)


def test_a_channel_without_a_name_is_not_the_one_that_an_annotation_leaves_out(tmp_path):
    write(tmp_path / "x.edf", [(5, 2, "BAD_move")])
    content = bytearray((tmp_path / "x.edf").read_bytes())
    assert content.count(b"ECG             ") == 1
    (tmp_path / "x.edf").write_bytes(content.replace(b"ECG             ", b" " * 16))
    given = Table(reader="table", folder="x", channels={"": "ignore", "*": "eeg"})
    (found,) = read_streams(tmp_path / "x.edf", given, {}, {}).values()
    assert np.isnan(found.read(0, found.n_times)).sum(axis=1).tolist() == [2 * SFREQ] * 2
