"""Real EDF+ and BDF files: they read as their study says and as MNE reads them, and not when cut off."""

from pathlib import Path

import mne
import numpy as np
import pytest

from mtkd.config import Kind, Source
from mtkd.errors import MtkdError
from mtkd.signals.readers import edf
from mtkd.signals.readers.raw import read_streams
from mtkd.study import read_study


def read_raw(path: Path, channels: dict[str, Kind]) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """What each channel holds, and its modality."""
    streams = read_streams(path, Source(folder="x"), channels, {})
    values, kinds = {}, {}
    for kind, stream in streams.items():
        values |= zip(stream.ch_names, stream.read(0, stream.n_times), strict=True)
        kinds |= dict.fromkeys(stream.ch_names, kind)
    return values, kinds


def refused(path: Path) -> str:
    with pytest.raises(MtkdError) as caught:
        read_raw(path, {"*": "eeg"})
    assert str(caught.value).startswith(str(path))
    return str(caught.value)


@pytest.mark.parametrize("subject", ["Subject01", "Subject10"])
def test_real_eegmat_files_read_as_their_study_says(repo, shared_data, subject):
    study = read_study(repo / "configs" / "study" / "eegmat.yaml")
    for condition, label in (("1", 0.0), ("2", 1.0)):
        path = shared_data / "eegmat" / f"{subject}_{condition}.edf"
        (file,) = [file for file in edf.find(path.parent, study.data).files if file.path == path]
        assert file.subject == subject.removeprefix("Subject")
        (recording,) = edf.read(file, study.data)
        (span,) = recording.spans
        assert span.stop_s - span.start_s == 60
        assert span.ratings == {"task": label}
        values, modality = read_raw(path, study.data.channels)
        assert list(modality.values()) == ["eeg"] * 19 + ["ecg"]
        assert {"Fp1", "Cz", "ECG"} <= set(values)
        typical = {name: np.std(found) for name, found in values.items()}
        assert all(1e-6 < value < 1e-4 for name, value in typical.items() if name != "ECG")  # microvolts
        assert 1e-5 < typical["ECG"] < 5e-3  # tenths of a millivolt


def test_a_real_file_cut_off_is_refused(shared_data, tmp_path):
    whole = (shared_data / "eegmat" / "Subject01_2.edf").read_bytes()
    path = tmp_path / "Subject01_2.edf"
    path.write_bytes(whole[: len(whole) // 2])
    assert str(len(whole)) in refused(path)


@pytest.mark.parametrize("name", ["test.bdf", "test_bdf_stim_channel.bdf"])
def test_real_bdf_files_agree_with_mne(shared_data, name):
    path = shared_data / "biosemi" / name
    values, modality = read_raw(path, {"Status": "ignore", "EXG*": "emg", "*EOG": "eog", "*": "eeg"})
    expected = mne.io.read_raw_bdf(path, verbose="error").drop_channels(["Status"])
    assert set(values) == set(expected.ch_names) == set(modality)
    for name, found in values.items():
        np.testing.assert_array_equal(found, expected.get_data([name])[0])


def test_a_real_bdf_file_cut_off_is_refused(shared_data, tmp_path):
    whole = (shared_data / "biosemi" / "test.bdf").read_bytes()
    path = tmp_path / "x.bdf"
    path.write_bytes(whole[:-1])
    assert f"{len(whole) - 1} bytes of the {len(whole)}" in refused(path)
