"""Where a recording was stopped and went on, nothing is taken for a signal."""

from pathlib import Path

import mne
import numpy as np
import pytest
import scipy.io

from mtkd.config import Table
from mtkd.signals.masks import fill
from mtkd.signals.readers.raw import read_streams
from mtkd.signals.recording import Stream

SFREQ, N_TIMES = 128, 20 * 128
DATA = np.random.default_rng(0).normal(0, 1e-5, (2, N_TIMES))


def info() -> mne.Info:
    return mne.create_info(["Fz", "Cz"], float(SFREQ), "eeg")


def fif(folder: Path) -> Path:
    raw = mne.io.RawArray(np.r_["1", DATA[:, : 10 * SFREQ], 0 * DATA[:, : 3 * SFREQ], DATA], info(), verbose="error")
    raw.set_annotations(mne.Annotations([10.0], [3.0], ["BAD_ACQ_SKIP"]))
    raw.crop(2.0).save(folder / "x_raw.fif", verbose="error")  # what is left begins at its own zero
    return folder / "x_raw.fif"


def brainvision(folder: Path) -> Path:
    path = folder / "x.vhdr"
    path.write_text(
        "Brain Vision Data Exchange Header File Version 1.0\n[Common Infos]\nCodepage=UTF-8\nDataFile=x.eeg\n"
        "MarkerFile=x.vmrk\nDataFormat=BINARY\nDataOrientation=MULTIPLEXED\nNumberOfChannels=2\n"
        f"SamplingInterval={1e6 / SFREQ}\n[Binary Infos]\nBinaryFormat=IEEE_FLOAT_32\n[Channel Infos]\n"
        "Ch1=Fz,,1,µV\nCh2=Cz,,1,µV\n",
        encoding="utf-8",
    )
    path.with_suffix(".vmrk").write_text(
        "Brain Vision Data Exchange Marker File, Version 1.0\n[Marker Infos]\n"
        "Mk1=New Segment,,1,1,0,20200101100000000000\n"
        f"Mk2=New Segment,,{8 * SFREQ + 1},1,0,20200101101500000000\n"
    )
    (1e6 * DATA.T).astype("<f4").tofile(folder / "x.eeg")
    return path


def eeglab(folder: Path, said: str | float = "boundary", latency: float = 8 * SFREQ + 0.5) -> Path:
    event = np.array([(said, latency, 0.0)], dtype=[("type", object), ("latency", float), ("duration", float)])
    labels = np.array([("Fz",), ("Cz",)], dtype=[("labels", object)])
    content = {"setname": "x", "nbchan": 2, "trials": 1, "pnts": N_TIMES, "srate": float(SFREQ), "xmin": 0.0}
    content |= {"xmax": (N_TIMES - 1) / SFREQ, "data": 1e6 * DATA, "chanlocs": labels, "event": event, "icawinv": []}
    content |= {"icasphere": [], "icaweights": [], "icaact": [], "epoch": []}
    scipy.io.savemat(folder / "x.set", {"EEG": content})
    return folder / "x.set"


@pytest.mark.parametrize(("make", "gap"), [(fif, (8, 11)), (brainvision, (8, 8)), (eeglab, (8, 8))])
def test_gaps_and_joints_are_masked(make, gap, tmp_path) -> None:
    stream: Stream = read_streams(make(tmp_path), Table(reader="table", folder="x", channels={"*": "eeg"}), {}, {})[
        "eeg"
    ]
    first, last = (round(edge * SFREQ) for edge in gap)
    if first == last:  # the samples beside a joint
        first, last = first - 1, last + 1
    whole = stream.read(0, stream.n_times)
    expected = np.zeros(stream.n_times, bool)
    expected[first:last] = True
    assert np.array_equal(np.isnan(whole), np.stack([expected, expected]))
    for start, stop in ((0, first), (first, last), (first - 5, first + 1), (last - 1, last + 300), (last, last + 1)):
        assert np.array_equal(stream.read(start, stop), whole[:, start:stop], equal_nan=True)
    assert set(stream.joints) == {first}
    masked = ~fill(whole, SFREQ, "eeg").valid
    assert masked.any(1).all()
    assert set(np.flatnonzero(masked[0])) == set(range(first // SFREQ, -(-last // SFREQ)))


def masked(path: Path) -> list[int]:
    stream = read_streams(path, Table(reader="table", folder="x", channels={"*": "eeg"}), {}, {})["eeg"]
    return np.flatnonzero(np.isnan(stream.read(0, stream.n_times)).any(0)).tolist()


@pytest.mark.parametrize("said", ["boundary", "Boundary", "boundary ", -99.0])
@pytest.mark.parametrize("behind", [-0.5, -0.25, 0.0, 0.5])
def test_a_joint_of_eeglab_is_known_by_all_its_names_wherever_it_lies_between_two_samples(said, behind, tmp_path):
    """Latencies count from one; a whole one is that of the sample behind the joint."""
    for number in (8 * SFREQ, 8 * SFREQ + 1):
        path = eeglab(tmp_path, said, number + 1 + behind)
        second = number + (behind > 0)
        assert masked(path) == [second - 1, second]


def test_other_events_are_no_joints(tmp_path):
    for said in ("boundaries", "S 99", -9.0, 99.0, "a boundary"):
        assert masked(eeglab(tmp_path, said)) == []


@pytest.mark.parametrize("start_s", [0.0, 100.0, 40_000.0])
def test_what_mne_puts_together_is_two_signals(tmp_path, start_s):
    """FIF writes times in single precision: after eleven hours, half a sample more or less."""
    for n_first in (8 * SFREQ, 8 * SFREQ + 1, 1000):
        parts = [
            mne.io.RawArray(part, info(), first_samp=round(start_s * SFREQ), verbose="error")
            for part in np.split(DATA, [n_first], axis=1)
        ]
        mne.concatenate_raws(parts, verbose="error").save(tmp_path / "x_raw.fif", overwrite=True, verbose="error")
        found = masked(tmp_path / "x_raw.fif")
        assert {n_first - 1, n_first} <= set(found)
        assert len(found) == 2 if start_s < 1000 else len(found) <= 4
