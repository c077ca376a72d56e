"""Files as streams: rates, units, differences of channels, converters at their ends, reading in pieces."""

import shutil
from pathlib import Path

import edfio
import mne
import numpy as np
import pytest
import scipy.io
from hypothesis import given, settings
from hypothesis import strategies as st

from mtkd.config import Kind, Table
from mtkd.errors import MtkdError
from mtkd.signals.readers.raw import read_streams
from mtkd.signals.recording import Stream

TOP = 100
STEP = TOP / 65535


def data(channels: dict[str, Kind] | None = None, **changes) -> Table:
    return Table(**{"reader": "table", "folder": "x", "channels": channels or {}} | changes)


def signal(values: np.ndarray, sfreq: float, name: str, unit: str = "uV") -> edfio.EdfSignal:
    """A channel in sixteen bits from 0 to ``TOP``."""
    return edfio.EdfSignal(values, sfreq, label=name, physical_dimension=unit, physical_range=(0, TOP))


def wave(n: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(1, 90, n)


def edf(path: Path, *signals: edfio.EdfSignal) -> Path:
    edfio.Edf(list(signals)).write(path)
    return path


def whole(stream: Stream) -> np.ndarray:
    return stream.read(0, stream.n_times)


def refused(path: Path, *arguments, **settings) -> str:
    with pytest.raises(MtkdError) as caught:
        read_streams(path, *arguments, **settings)
    sentence = str(caught.value)
    assert sentence.startswith(f"{path}: ")
    assert sentence.isprintable()
    return sentence


RATES = {"EEG Fz": 128, "EEG Cz": 128, "ECG": 256, "EDA": 4, "TEMP": 1, "BVP": 64}
KINDS: dict[str, Kind] = {"EEG *": "eeg", "ECG": "ecg", "EDA": "eda", "TEMP": "temp", "BVP": "ppg"}


def test_each_modality_comes_at_its_own_rate_as_it_stands_in_the_file(tmp_path):
    rows = {name: wave(10 * rate, rate) for name, rate in RATES.items()}
    units = {"EDA": "uS", "TEMP": "degC", "BVP": ""}
    path = edf(tmp_path / "x.edf", *(signal(rows[name], RATES[name], name, units.get(name, "uV")) for name in RATES))
    streams = read_streams(path, data(KINDS), {}, {})
    assert {kind: (stream.ch_names, stream.sfreq, stream.n_times) for kind, stream in streams.items()} == {
        "eeg": (["Fz", "Cz"], 128, 1280),
        "ecg": (["ECG"], 256, 2560),
        "eda": (["EDA"], 4, 40),
        "temp": (["TEMP"], 1, 10),
        "ppg": (["BVP"], 64, 640),
    }
    expected = {"ecg": rows["ECG"] * 1e-6, "eda": rows["EDA"] * 1e-6, "temp": rows["TEMP"], "ppg": rows["BVP"]}
    for kind, row in expected.items():
        np.testing.assert_allclose(whole(streams[kind])[0], row, rtol=1e-3)
    np.testing.assert_allclose(whole(streams["eeg"]), np.stack([rows["EEG Fz"], rows["EEG Cz"]]) * 1e-6, rtol=1e-3)


@pytest.mark.parametrize("changes", [{"channels": {"*": "eeg"}}, {"bipolar": {"ab": ["A", "B"]}}])
def test_channels_of_one_modality_at_two_rates_are_refused(tmp_path, changes):
    path = edf(tmp_path / "x.edf", signal(wave(640), 64, "A"), signal(wave(1280), 128, "B"))
    assert "are sampled at 64 and 128 Hz" in refused(path, data(**{"channels": {"ab": "eeg"}} | changes), {}, {})


def test_a_bipolar_channel_is_a_difference_and_takes_the_place_of_both(tmp_path):
    a, b, c = (wave(640, seed) for seed in range(3))
    path = edf(tmp_path / "x.edf", *(signal(row, 64, name) for name, row in {"A": a, "B": b, "C": c}.items()))
    streams = read_streams(path, data({"C": "eeg", "ab": "eog"}, bipolar={"ab": ["A", "B"]}), {}, {})
    assert {kind: stream.ch_names for kind, stream in streams.items()} == {"eeg": ["C"], "eog": ["ab"]}
    np.testing.assert_allclose(whole(streams["eog"])[0], (a - b) * 1e-6, atol=STEP * 1e-6)
    np.testing.assert_allclose(whole(streams["eeg"])[0], c * 1e-6, atol=STEP * 1e-6)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"bipolar": {"C": ["A", "B"]}}, "has a channel 'C' already"),
        ({"bipolar": {"ac": ["A", "C"]}}, "A and C are in different units"),
        ({"units": {"A": "uS"}}, "A is in the unit 'uS'; known of eeg are V, mV, uV"),
        ({"channels": {"A": "eeg"}}, "channel 'B' matches no pattern"),
        ({"channels": {"*": "ignore"}}, "no channel is left"),
    ],
)
def test_what_a_study_asks_of_channels_is_refused_where_it_does_not_hold(tmp_path, changes, told):
    units = {"A": "uV", "B": "uV", "C": "mV"}
    path = edf(tmp_path / "x.edf", *(signal(wave(64), 64, name, unit) for name, unit in units.items()))
    assert told in refused(path, data(**{"channels": {"*": "eeg"}} | changes), {}, {})


@pytest.mark.parametrize("said", ["", "uV", "mV", "V", "Ohm", "foo"])
@pytest.mark.parametrize(("kind", "unit", "factor"), [("eda", "uS", 1e-6), ("ecg", "mV", 1e-3), ("temp", "degC", 1)])
def test_the_study_corrects_a_unit_whatever_the_header_says(tmp_path, said, kind, unit, factor):
    row = wave(64)
    path = edf(tmp_path / "x.edf", signal(row, 64, "A", said))
    stream = read_streams(path, data({"A": kind}, units={"A": unit}), {}, {})[kind]
    np.testing.assert_allclose(whole(stream)[0], row * factor, atol=STEP * factor)


def test_a_resistance_may_be_what_a_unit_is_corrected_to(tmp_path):
    row = wave(64)
    path = edf(tmp_path / "x.edf", signal(row, 64, "A", "uV"))
    stream = read_streams(path, data({"A": "eda"}, units={"A": "kOhm"}), {}, {})["eda"]
    expected = np.where(row >= 10, 1 / (row * 1e3), np.nan)
    np.testing.assert_allclose(whole(stream)[0], expected, rtol=1e-3)


@pytest.mark.parametrize("said", [("uV", ""), ("", "uV"), ("mV", "uV"), ("", "foo")])
def test_a_difference_of_two_channels_needs_both_in_one_unit_after_correction(tmp_path, said):
    a, b = wave(64, 1), wave(64, 2)
    path = edf(tmp_path / "x.edf", signal(a, 64, "A", said[0]), signal(b, 64, "B", said[1]))
    units = {name: "uV" for name, unit in zip("AB", said, strict=True) if unit != "uV"}
    streams = read_streams(path, data({"ab": "eog"}, bipolar={"ab": ["A", "B"]}, units=units), {}, {})
    np.testing.assert_allclose(whole(streams["eog"])[0], (a - b) * 1e-6, atol=STEP * 1e-6)


@pytest.mark.parametrize(("sfreq", "n"), [(4, 3), (64, 3), (128, 3), (256, 5), (1000, 20)])
@pytest.mark.parametrize("end", [0, TOP])
def test_a_converter_that_stays_at_its_end_gives_nothing_from_then_on(tmp_path, sfreq, n, end):
    row = wave(4 * sfreq)
    row[0], row[sfreq : sfreq + n - 1], row[2 * sfreq : 2 * sfreq + n + 2] = end, end, end
    path = edf(tmp_path / "x.edf", signal(row, sfreq, "A"))
    found = whole(read_streams(path, data({"A": "eeg"}), {}, {})["eeg"])[0]
    assert np.flatnonzero(np.isnan(found)).tolist() == list(range(2 * sfreq + n - 1, 2 * sfreq + n + 2))


def test_a_difference_is_nothing_where_one_of_its_channels_is(tmp_path):
    a, b = wave(64, 1), wave(64, 2)
    a[10:15], b[30:35] = TOP, 0
    path = edf(tmp_path / "x.edf", signal(a, 64, "A"), signal(b, 64, "B"))
    streams = read_streams(path, data({"ab": "eog"}, bipolar={"ab": ["A", "B"]}), {}, {})
    assert np.flatnonzero(np.isnan(whole(streams["eog"])[0])).tolist() == [12, 13, 14, 32, 33, 34]


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> dict[str, Path]:
    """The same channels, at their ends now and then, as EDF, BDF and FIF."""
    folder = tmp_path_factory.mktemp("raw")
    rng = np.random.default_rng(0)
    rows = {name: np.repeat(rng.choice([0, 50, TOP], 6 * sfreq), 2) for name, sfreq in (("A", 128), ("B", 32))}
    edf(folder / "x.edf", signal(rows["A"], 256, "A"), signal(rows["B"], 64, "B", "uS"))
    signals = [edfio.BdfSignal(rows["A"], 256, label="A", physical_dimension="uV", physical_range=(0, TOP))]
    edfio.Bdf(signals).write(folder / "x.bdf")
    raw = mne.io.RawArray(rows["A"][None] * 1e-6, mne.create_info(["A"], 256, "eeg"), verbose="error")
    raw.save(folder / "x_raw.fif", verbose="error")
    return {path.suffix: path for path in folder.iterdir()}


@settings(max_examples=30)
@given(st.sampled_from([".edf", ".bdf", ".fif"]), st.data())
def test_reading_pieces_is_reading_the_whole(files, suffix, drawn):
    for stream in read_streams(files[suffix], data({"A": "eeg", "B": "eda"}), {}, {}).values():
        start = drawn.draw(st.integers(0, stream.n_times - 1))
        stop = drawn.draw(st.integers(start + 1, min(start + 50, stream.n_times)) | st.just(stream.n_times))
        np.testing.assert_array_equal(stream.read(start, stop), whole(stream)[:, start:stop])


@pytest.mark.parametrize("name", ["ecg", "eeg", "gsr", "resp", "data", "misc"])
def test_a_channel_may_be_called_what_mne_calls_a_type(tmp_path, name):
    row = wave(128)
    raw = mne.io.RawArray(np.stack([row, row * 2]) * 1e-6, mne.create_info([name, "X"], 64, "ecg"), verbose="error")
    raw.save(tmp_path / "x_raw.fif", verbose="error")
    edf(tmp_path / "x.edf", signal(row, 64, name), signal(row / 2, 64, "X"))
    for file in ("x_raw.fif", "x.edf"):
        streams = read_streams(tmp_path / file, data({name: "ecg", "X": "ignore"}), {}, {})
        assert streams["ecg"].ch_names == [name]
        np.testing.assert_allclose(whole(streams["ecg"])[0], row * 1e-6, atol=STEP * 1e-6)


def test_other_formats_are_in_si_units_unless_the_study_says_otherwise(files):
    path = files[".fif"]
    plain, corrected = (read_streams(path, data({"A": "eeg"}, units=units), {}, {}) for units in ({}, {"A": "mV"}))
    np.testing.assert_allclose(whole(corrected["eeg"]), whole(plain["eeg"]) * 1e-3)
    assert "A is in the unit 'uS'" in refused(path, data({"A": "eeg"}, units={"A": "uS"}), {}, {})


@pytest.mark.parametrize(("kind", "units"), [("eeg", {}), ("eda", {"A": "uS"}), ("temp", {"A": "degC"}), ("resp", {})])
def test_a_file_of_eeglab_is_in_microvolt_unless_the_study_says_otherwise(tmp_path, kind, units):
    row, path = np.linspace(1, 40, 64), tmp_path / "x.set"
    labels = np.array([("A",)], [("labels", object)])
    lists = {name: [] for name in ("event", "urevent", "epoch", "icawinv", "icaweights", "icasphere")}
    sizes = {"nbchan": 1.0, "srate": 64.0, "pnts": 64.0, "trials": 1.0, "xmin": 0.0, "xmax": 1.0}
    eeg = {"data": row[None], "chanlocs": labels, "setname": "x", **sizes, **lists}
    scipy.io.savemat(path, {"EEG": eeg}, appendmat=False)
    stream = read_streams(path, data({"A": kind}, units=units), {}, {})[kind]
    np.testing.assert_allclose(whole(stream)[0], row * (1 if kind in ("temp", "resp") else 1e-6))
    if units:
        assert "A is in the unit 'uV'" in refused(path, data({"A": kind}), {}, {})


def test_a_readers_own_patterns_come_after_the_studys(tmp_path):
    path = edf(tmp_path / "x.edf", *(signal(wave(64), 64, name) for name in ("A", "B", "C")))
    streams = read_streams(path, data({"A": "ecg"}), {"C": "ignore", "*": "eeg"}, {})
    assert {kind: stream.ch_names for kind, stream in streams.items()} == {"ecg": ["A"], "eeg": ["B"]}


def test_channels_may_be_renamed_to_what_the_study_calls_them(tmp_path):
    path = edf(tmp_path / "x.edf", *(signal(wave(64), 64, name) for name in ("A", "B")))
    streams = read_streams(path, data({"Fz": "eeg", "*": "ignore"}), {}, {"A": "Fz"})
    assert streams["eeg"].ch_names == ["Fz"]
    assert "no channel 'X' that could be renamed 'Fz'" in refused(path, data({"*": "eeg"}), {}, {"X": "Fz"})
    assert "cannot rename its channel 'A' 'B'" in refused(path, data({"*": "eeg"}), {}, {"A": "B"})


def test_what_one_file_has_not_another_may_have(tmp_path):
    path = edf(tmp_path / "x.edf", signal(wave(64), 64, "A"), signal(wave(64), 64, "GSR", ""))
    asked = data({"A": "ecg", "GSR": "eda"}, bipolar={"bc": ["B", "C"]}, units={"Temp": "degC", "GSR": "uS"})
    streams = read_streams(path, asked, {}, {})
    assert {kind: stream.ch_names for kind, stream in streams.items()} == {"ecg": ["A"], "eda": ["GSR"]}
    assert streams["ecg"].unheard == {"data.bipolar: bc", "data.units: Temp"}
    assert refused(path, data({"Z": "eeg"}), {"*": "ignore"}, {}, hint="; so").endswith("it has A, GSR; so")


def test_damage_that_shows_only_while_reading_is_refused(files, tmp_path):
    for suffix, file in files.items():
        path = tmp_path / f"x_raw{suffix}"
        shutil.copy(file, path)
        stream = next(iter(read_streams(path, data({"A": "eeg", "B": "eda"}), {}, {}).values()))
        path.write_bytes(path.read_bytes()[:1500])
        with pytest.raises(MtkdError, match="damaged") as caught:
            whole(stream)
        assert str(caught.value).startswith(f"{path}: ")
        assert str(caught.value).isprintable()


def test_microvolts_in_shift_jis_are_those_of_any_other_spelling(tmp_path):
    """MNE multiplies them; a correction that did not know would be wrong by a million."""
    values = wave(640)
    path = edf(tmp_path / "x.edf", signal(values, 64, "A", "uuV"))
    path.write_bytes(path.read_bytes().replace(b"uuV", b"\x83\xcaV"))
    for units in ({}, {"A": "uV"}, {"A": "mV"}):
        found = whole(read_streams(path, data({"A": "eeg"}, units=units), {}, {})["eeg"])[0]
        np.testing.assert_allclose(found, values * {"uV": 1e-6, "mV": 1e-3}[units.get("A", "uV")], rtol=1e-2)


def test_channels_of_two_modalities_may_share_a_name(tmp_path):
    """EDF+ puts the signal's type before it, and each recorder numbers its electrodes from one on."""
    names = ["EOG 1", "EMG 1", "EOG 2"]
    path = edf(tmp_path / "x.edf", *(signal(wave(256, seed), 128, name) for seed, name in enumerate(names)))
    streams = read_streams(path, data({"EOG *": "eog", "EMG *": "emg"}), {}, {})
    assert {kind: stream.ch_names for kind, stream in streams.items()} == {"eog": ["1", "2"], "emg": ["1"]}
    np.testing.assert_allclose(whole(streams["emg"])[0], 1e-6 * wave(256, 1), atol=1e-6 * STEP)
    assert "two channels share a name" in refused(path, data({"EOG *": "eog", "EMG *": "eog"}), {}, {})
