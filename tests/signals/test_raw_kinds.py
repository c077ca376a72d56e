"""What a file says of its channels: triggers are no electrodes, bad ones are left out, the study mends names."""

from pathlib import Path

import edfio
import mne
import numpy as np
import pytest

from mtkd.config import Kind, Table
from mtkd.errors import MtkdError
from mtkd.signals.montage import electrode
from mtkd.signals.readers.formats import rows_of_raw
from mtkd.signals.readers.raw import read_streams
from mtkd.signals.recording import Stream

SFREQ = 64


UNITS = {"uV": 1, "nV": 1e-3, "mV": 1e3, "V": 1e6, "arb": 1}


def data(channels: dict[str, Kind], **changes) -> Table:
    return Table(**{"reader": "table", "folder": "x", "channels": channels} | changes)


def edf(path: Path, units: dict[str, str]) -> np.ndarray:
    values = np.random.default_rng(0).uniform(1, 90, (len(units), 10 * SFREQ))
    signals = [
        edfio.EdfSignal(row, SFREQ, label=name, physical_dimension=unit, physical_range=(0, 100))
        for row, (name, unit) in zip(values, units.items(), strict=True)
    ]
    edfio.Edf(signals).write(path)
    return values


@pytest.fixture
def fif(tmp_path: Path) -> Path:
    kinds = {"Fz": "eeg", "P3": "eeg", "VEOG": "eog", "STI 014": "stim", "acc": "misc", "ECG": "ecg"}
    info = mne.create_info(list(kinds), SFREQ, list(kinds.values()))
    info["bads"] = ["P3"]
    values = 1e-5 * np.random.default_rng(0).normal(size=(len(kinds), 10 * SFREQ))
    mne.io.RawArray(values, info, verbose="error").save(tmp_path / "x_raw.fif", verbose="error")
    return tmp_path / "x_raw.fif"


def test_what_a_file_calls_no_electrode_is_none_for_a_pattern_of_all_the_rest(fif):
    with pytest.raises(MtkdError) as caught:
        read_streams(fif, data({"ECG": "ecg", "*": "eeg"}), {}, {})
    told = "makes electrodes of VEOG (eog), STI 014 (stim), acc (misc), which the file says are none"
    assert told in str(caught.value)
    named = data({"ECG": "ecg", "VEOG": "eog", "STI*": "ignore", "acc": "eeg", "*": "eeg"})
    found = read_streams(fif, named, {}, {})
    assert {kind: stream.ch_names for kind, stream in found.items()} == {
        "eeg": ["Fz", "acc"],
        "eog": ["VEOG"],
        "ecg": ["ECG"],
    }
    only = read_streams(fif, data({"ECG": "ecg", "*": "eeg"}).only(["ecg"]), {}, {})
    assert list(only) == ["ecg"]  # where nobody asks for the EEG


def test_a_trigger_of_a_bdf_is_no_electrode(tmp_path):
    signals = [edfio.BdfSignal(np.arange(640.0), 64, label=name) for name in ("Fz", "Status")]
    edfio.Bdf(signals).write(tmp_path / "x.bdf")
    with pytest.raises(MtkdError, match=r"makes electrodes of Status \(stim\)"):
        read_streams(tmp_path / "x.bdf", data({"*": "eeg"}), {}, {})


def test_what_a_file_calls_bad_is_left_out_and_told_unless_the_study_names_it(fif):
    rest: dict[str, Kind] = {"ECG": "ecg", "VEOG": "ignore", "STI*": "ignore", "acc": "ignore", "*": "eeg"}
    found = read_streams(fif, data(rest), {}, {})["eeg"]
    assert (found.ch_names, dict(found.left_out)) == (["Fz"], {"P3": "its file calls it bad"})
    kept = read_streams(fif, data({"P3": "eeg"} | rest), {}, {})["eeg"]
    assert (kept.ch_names, dict(kept.left_out)) == (["Fz", "P3"], {})


def test_a_study_gives_one_sensor_one_name(tmp_path):
    (lead,) = edf(tmp_path / "a.edf", {"ECG II": "uV"})
    edf(tmp_path / "b.edf", {"ECG": "uV"})
    study = data({"ECG": "ecg"}, rename={"ECG II": "ECG"})
    for name in "ab":
        stream = read_streams(tmp_path / f"{name}.edf", study, {}, {})["ecg"]
        assert stream.ch_names == ["ECG"]
        np.testing.assert_allclose(stream.read(0, 640)[0], lead * 1e-6, atol=1e-9)
    edf(tmp_path / "both.edf", {"ECG II": "uV", "ECG": "uV"})
    with pytest.raises(MtkdError, match="cannot rename its channel 'ECG II' 'ECG', of which it has one"):
        read_streams(tmp_path / "both.edf", study, {}, {})


@pytest.mark.parametrize(
    ("name", "usual"),
    [("FZ", "Fz"), ("fp1", "Fp1"), ("FP1-REF", "Fp1"), ("Cz-LE", "Cz"), ("C3-A2", "C3-A2"), ("T3", "T3"), ("X1", "X1")],
)
def test_electrodes_have_their_usual_names(tmp_path, name, usual):
    assert electrode(name) == usual
    edf(tmp_path / "x.edf", {f"EEG {name}": "uV"})
    assert read_streams(tmp_path / "x.edf", data({"*": "eeg"}), {}, {})["eeg"].ch_names == [usual]
    assert read_streams(tmp_path / "x.edf", data({"*": "emg"}), {}, {})["emg"].ch_names == [name]


@pytest.mark.parametrize(
    ("unit", "factor", "corrected"),
    [
        *((unit, factor, corrected) for unit, factor in UNITS.items() for corrected in (False, True)),
        ("", 1, False),  # a study cannot say that there is none
    ],
)
def test_belts_are_in_microvolts_where_files_have_volts_and_in_their_numbers_elsewhere(
    tmp_path, unit, factor, corrected
):
    (values,) = edf(tmp_path / "x.edf", {"RESP": "xx" if corrected else unit})
    study = data({"RESP": "resp"}, units={"RESP": unit} if corrected and unit else {})
    stream: Stream = read_streams(tmp_path / "x.edf", study, {}, {})["resp"]
    np.testing.assert_allclose(stream.read(0, 640)[0], values * factor, rtol=2e-3)


def test_a_channel_that_nobody_asks_for_may_be_as_it_is(tmp_path):
    edf(tmp_path / "x.edf", {"ECG": "uV", "Temp": "Degree C"})
    study = data({"ECG": "ecg", "Temp": "temp"})
    with pytest.raises(MtkdError, match=r"Temp is in the unit 'Degree C'; .* \(data\.units\)$"):
        read_streams(tmp_path / "x.edf", study, {}, {})
    assert list(read_streams(tmp_path / "x.edf", study.only(["ecg"]), {}, {})) == ["ecg"]


def test_a_channel_without_a_name_is_refused(tmp_path):
    edf(tmp_path / "x.edf", {"": "uV", "Fz": "uV"})
    with pytest.raises(MtkdError, match="a channel of eeg has no name"):
        read_streams(tmp_path / "x.edf", data({"*": "eeg"}), {}, {})


def test_a_channel_of_no_known_kind_is_refused(fif):
    """As in a damaged file: MNE opens it, and says so only when it is asked."""
    raw = mne.io.read_raw_fif(fif, verbose="error")
    raw.info["chs"][0]["kind"] = 1795162114
    with pytest.raises(MtkdError, match=r"x_raw\.fif: damaged or foreign file \(Unknown channel type"):
        rows_of_raw(fif, raw)


def test_belts_of_a_fif_are_in_microvolts_too(tmp_path):
    values = np.random.default_rng(0).uniform(1, 90, (2, 640))
    info = mne.create_info(["Resp", "Fz"], 64, ["resp", "eeg"])
    mne.io.RawArray(values * 1e-6, info, verbose="error").save(tmp_path / "x_raw.fif", verbose="error")
    streams = read_streams(tmp_path / "x_raw.fif", data({"Resp": "resp", "Fz": "eeg"}), {}, {})
    np.testing.assert_allclose(streams["resp"].read(0, 640)[0], values[0], rtol=1e-5)
    np.testing.assert_allclose(streams["eeg"].read(0, 640)[0], values[1] * 1e-6, rtol=1e-5)


@pytest.mark.parametrize("name", ["TRIG", "Trigger 1", "Events", "STI 014", "photic", "status"])
def test_what_triggers_are_called_is_no_electrode(tmp_path, name):
    edf(tmp_path / "x.edf", {"Fz": "uV", name: "uV"})
    with pytest.raises(MtkdError, match=rf"makes electrodes of {name} \(stim\)"):
        read_streams(tmp_path / "x.edf", data({"*": "eeg"}), {}, {})


@pytest.mark.parametrize("name", ["Status", "STATUS", "Trigger", "trigger", "TRIGGER"])
@pytest.mark.parametrize("kind", ["ecg", "resp", "eeg"])
def test_what_mne_reads_as_triggers_is_no_signal_even_where_the_study_names_it(tmp_path, name, kind):
    """MNE leaves their numbers without a unit, and masks them."""
    path = tmp_path / "x.edf"
    values = edf(path, {"Fz": "uV", name: "uV"})
    for study in (
        data({name: kind, "*": "emg"}),
        data({"X": kind, "*": "emg"}, rename={name: "X"}),
        data({"X": kind, "*": "emg"}, bipolar={"X": ["Fz", name]}),
    ):
        with pytest.raises(MtkdError, match=rf"^{path}: {name} can be no {kind}: .* is read as triggers"):
            read_streams(path, study, {}, {})
    found = read_streams(path, data({name: "ignore", "*": "emg"}), {}, {})["emg"]
    np.testing.assert_allclose(found.read(0, 640)[0], values[0] * 1e-6, atol=1e-9)


@pytest.mark.parametrize("name", ["Trigger 1", "STI 014", "Status2"])
def test_what_is_only_called_like_a_trigger_is_a_signal_where_the_study_names_it(tmp_path, name):
    (values,) = edf(tmp_path / "x.edf", {name: "uV"})
    found = read_streams(tmp_path / "x.edf", data({name: "ecg"}), {}, {})["ecg"]
    np.testing.assert_allclose(found.read(0, 640)[0], values * 1e-6, atol=1e-9)


def test_gdf_has_triggers_of_the_same_names(tmp_path):
    raw = mne.io.RawArray(np.zeros((2, 64)), mne.create_info(["Status", "Fz"], SFREQ, ["stim", "eeg"]), verbose="error")
    for suffix, masked in ((".gdf", True), (".fif", False)):
        rows = rows_of_raw(tmp_path / f"x{suffix}", raw)
        assert {name: row.is_masked for name, row in rows.items()} == {"Status": masked, "Fz": False}
