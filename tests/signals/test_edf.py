"""EDF: units, names of files and channels, and everything a file can be instead."""

from pathlib import Path

import edfio
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from mtkd.config import Condition, Edf, Source
from mtkd.errors import MtkdError
from mtkd.signals.readers import edf
from mtkd.signals.readers.raw import read_streams
from mtkd.signals.recording import Recording

SFREQ = 64
CONDITIONS = {"rest": Condition(ratings={"task": 0}), "task": Condition(ratings={"task": 1}, start_s=2, stop_s=-3)}


def wave(seed: int = 0, seconds: int = 10) -> np.ndarray:
    return np.random.default_rng(seed).uniform(10, 90, seconds * SFREQ)


def write(
    path: Path, channels: dict[str, str], seconds: int = 10, values: np.ndarray | None = None, top: float = 100
) -> np.ndarray:
    """Write channels with their units; return what each holds, up to steps of sixteen bits from 0 to ``top``."""
    values = wave(seconds=seconds) * top / 100 if values is None else values
    signals = [
        edfio.EdfSignal(values, SFREQ, label=name, physical_dimension=unit, physical_range=(0, top))
        for name, unit in channels.items()
    ]
    edfio.Edf(signals).write(path)
    return values


def data(**changes) -> Edf:
    given = {"reader": "edf", "folder": "x", "conditions": CONDITIONS, "channels": {"EEG *": "eeg", "*": "eda"}}
    return Edf(**given | changes)


def read_raw(
    path: Path, channels: dict[str, str], any_rate: bool = False
) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """What each channel holds, and its modality."""
    streams = read_streams(path, Source(folder="x"), channels, {})
    assert any_rate or {stream.sfreq for stream in streams.values()} == {SFREQ}
    values, kinds = {}, {}
    for kind, stream in streams.items():
        values |= zip(stream.ch_names, stream.read(0, stream.n_times), strict=True)
        kinds |= dict.fromkeys(stream.ch_names, kind)
    return values, kinds


def recordings(path: Path, settings: Edf) -> list[Recording]:
    """A file as the reader finds and reads it."""
    (file,) = [file for file in edf.find(path.parent, settings).files if file.path == path]
    return list(edf.read(file, settings))


def refused(call, path: Path, *arguments) -> str:
    with pytest.raises(MtkdError) as caught:
        list(call(path, *arguments))
    sentence = str(caught.value)
    assert sentence.startswith(str(path))
    assert "\n" not in sentence
    return sentence


@pytest.mark.parametrize(
    ("kind", "unit", "top", "to_si"),
    [
        ("eeg", "uV", 100, lambda x: x * 1e-6),
        ("eeg", "mV", 100, lambda x: x * 1e-3),
        ("eeg", "nV", 100, lambda x: x * 1e-9),
        ("eog", "nV", 100, lambda x: x * 1e-9),
        ("emg", "V", 100, lambda x: x),
        ("ecg", "uV", 100, lambda x: x * 1e-6),
        ("eda", "S", 0.0001, lambda x: x),
        ("eda", "mS", 0.1, lambda x: x * 1e-3),
        ("eda", "uS", 100, lambda x: x * 1e-6),
        ("eda", "nS", 100_000, lambda x: x * 1e-9),
        ("eda", "Ohm", 1_000_000, lambda x: 1 / x),
        ("eda", "kOhm", 1000, lambda x: 1 / (x * 1e3)),
        ("resp", "", 100, lambda x: x),
        ("ppg", "", 100, lambda x: x),
        ("temp", "degC", 100, lambda x: x),
        ("temp", "", 100, lambda x: x),
    ],
)
def test_every_unit_becomes_si(tmp_path, kind, unit, top, to_si):
    path = tmp_path / "x.edf"
    values = write(path, {"X": unit}, top=top)
    found, modality = read_raw(path, {"X": kind})
    assert modality == {"X": kind}
    np.testing.assert_allclose(found["X"], to_si(values), rtol=2e-4)


@pytest.mark.parametrize("unit", ["", "uV", "foo", "%", "degC", "pS"])
def test_skin_conductance_in_another_unit_is_refused_by_it(tmp_path, unit):
    write(tmp_path / "x.edf", {"GSR": unit})
    assert repr(unit) in refused(read_raw, tmp_path / "x.edf", {"*": "eda"})


@pytest.mark.parametrize("unit", ["", "pV", "foo", "uS"])
@pytest.mark.parametrize("kind", ["eeg", "eog", "emg", "ecg"])
def test_a_voltage_in_another_unit_is_refused_by_it(tmp_path, kind, unit):
    write(tmp_path / "x.edf", {"X": unit})
    assert repr(unit) in refused(read_raw, tmp_path / "x.edf", {"*": kind})


def test_a_resistance_of_zero_is_no_conductance(tmp_path):
    values = wave() * 10
    values[:3] = 0
    write(tmp_path / "x.edf", {"GSR": "kOhm"}, values=values, top=1000)
    conductance = read_raw(tmp_path / "x.edf", {"*": "eda"})[0]["GSR"]
    assert np.isfinite(conductance[3:]).all()
    assert np.isnan(conductance[:3]).all()  # neither taken for a good conductor nor for an insulator


def test_a_unit_that_cannot_be_that_of_skin_is_refused(tmp_path):
    write(tmp_path / "x.edf", {"GSR": "S"})
    assert "so not in the unit 'S'" in refused(read_raw, tmp_path / "x.edf", {"*": "eda"})


@pytest.mark.parametrize("unit", ["degF", "K", "mV", "uV"])
def test_a_temperature_in_another_unit_is_refused_by_it(tmp_path, unit):
    write(tmp_path / "x.edf", {"Temp": unit})
    assert repr(unit) in refused(read_raw, tmp_path / "x.edf", {"*": "temp"})


def test_channels_of_one_name_are_refused_not_read_in_a_wrong_unit(tmp_path):
    path = tmp_path / "x.edf"
    twice = [edfio.EdfSignal(wave(), SFREQ, label="GSR", physical_dimension="uS") for _ in range(2)]
    edfio.Edf(twice).write(path)
    assert "share a name" in refused(read_raw, path, {"GSR*": "eda"})


def test_channels_whose_plain_names_agree_are_refused(tmp_path):
    write(tmp_path / "x.edf", {"EEG Fz": "uV", "Fz": "uV"})
    assert "share a name" in refused(read_raw, tmp_path / "x.edf", {"*": "eeg"})


def test_the_first_pattern_that_matches_decides_and_prefixes_go(tmp_path):
    write(tmp_path / "x.edf", {"EEG Fz": "uV", "EEG A2-A1": "uV", "ECG ECG": "mV", "Status": "", "eeg Cz": "uV"})
    patterns = {"EEG A*": "ignore", "EEG *": "eeg", "ECG *": "ecg", "Status": "ignore", "eeg *": "eeg"}
    _, modality = read_raw(tmp_path / "x.edf", patterns)
    assert list(modality.items()) == [("Fz", "eeg"), ("Cz", "eeg"), ("ECG", "ecg")]


def test_a_channel_that_no_pattern_names_is_refused_by_its_name(tmp_path):
    write(tmp_path / "x.edf", {"EEG Fz": "uV", "Mystery": "uV"})
    assert "'Mystery'" in refused(read_raw, tmp_path / "x.edf", {"EEG *": "eeg"})


def test_a_file_all_of_whose_channels_are_ignored_is_refused(tmp_path):
    write(tmp_path / "x.edf", {"A": "uV"})
    assert "no channel" in refused(read_raw, tmp_path / "x.edf", {"*": "ignore"})


def test_a_trial_is_the_conditions_cut_of_its_file(tmp_path):
    for name, span in {"s1_rest.edf": (0, 10), "s1_task.edf": (2, 7)}.items():
        write(tmp_path / name, {"EEG Fz": "uV"})
        (recording,) = recordings(tmp_path / name, data())
        (found,) = recording.spans
        assert (found.start_s, found.stop_s) == span
        assert (recording.subject, found.name, found.stimulus) == ("s1", name[3:7], name[3:7])
        assert found.ratings == {"task": float(name == "s1_task.edf")}


@pytest.mark.parametrize(
    ("cut", "expected"),
    [
        ({"start_s": -4}, (6, 10)),
        ({"start_s": -4, "stop_s": -1}, (6, 9)),
        ({"stop_s": 10}, (0, 10)),
        ({"start_s": 11}, None),
        ({"stop_s": 11}, None),
        ({"start_s": -11}, None),
        ({"start_s": 5, "stop_s": 5}, None),
        ({"start_s": 5, "stop_s": -6}, None),
    ],
)
def test_cuts_count_from_both_ends_and_a_file_too_short_is_refused(tmp_path, cut, expected):
    path = tmp_path / "s1_rest.edf"
    write(path, {"EEG Fz": "uV"})
    settings = data(conditions={"rest": Condition(**cut)})
    if expected is None:
        assert "10 s" in refused(recordings, path, settings)
    else:
        (span,) = recordings(path, settings)[0].spans
        assert (span.start_s, span.stop_s) == expected


def test_an_unknown_condition_is_refused_by_its_file(tmp_path):
    write(tmp_path / "s1_sleep.edf", {"EEG Fz": "uV"})
    assert "rest, task" in refused(recordings, tmp_path / "s1_sleep.edf", data())


def test_the_pattern_says_which_files_are_taken_and_whose_they_are(tmp_path):
    for name in ("Subject01_1.edf", "Subject01_2.edf", "Subject2_1.edf", "Subject01_1.edf.bak", "xSubject01_1.edf"):
        (tmp_path / name).write_bytes(b"")
    for name in ("Subject01-1.edf", "Subject_1.edf", "SubjectX01_1_2.edf", "Subject01_1xedf", "SHA256SUMS.txt"):
        (tmp_path / name).write_bytes(b"")
    found = edf.find(tmp_path, data(pattern="Subject{subject}_{condition}.edf"))
    assert {file.path.name: (file.name, file.subject) for file in found.files} == {
        "Subject01_1.edf": ("01_1", "01"),
        "Subject01_2.edf": ("01_2", "01"),
        "Subject2_1.edf": ("2_1", "2"),
    }


@pytest.mark.parametrize("content", [b"", b"0", b"a text file, not a recording\n" * 50, bytes(3000), b"\xffBIOSEMI"])
@pytest.mark.parametrize("suffix", [".edf", ".bdf", ".fif", ".vhdr", ".set", ".xyz"])
def test_a_foreign_file_is_refused(tmp_path, content, suffix):
    path = tmp_path / f"s1_rest{suffix}"
    path.write_bytes(content)
    refused(read_raw, path, {"*": "eeg"})


@pytest.mark.parametrize("name", ["nothing.edf", "folder.edf"])
def test_what_is_no_file_is_refused(tmp_path, name):
    (tmp_path / "folder.edf").mkdir()
    assert "no such file" in refused(read_raw, tmp_path / name, {"*": "eeg"})


def test_files_whose_names_do_not_fit_are_told(tmp_path):
    for name in ("a_rest.edf", "S01_task.EDF", "S-02_rest.edf", "a_rest_2.edf", "notes.txt"):
        (tmp_path / name).touch()
    found = edf.find(tmp_path, data())
    assert [file.path.name for file in found.files] == ["a_rest.edf"]
    others = ("S01_task.EDF", "S-02_rest.edf", "a_rest_2.edf")
    assert found.left_out == dict.fromkeys(sorted(others), "data.pattern does not fit its name")


def test_a_pattern_whose_parts_touch_is_refused():
    """``S0111`` would be S01 in condition 11 or S011 in condition 1."""
    with pytest.raises(ValidationError, match="something must stand between its two parts"):
        data(pattern="{subject}{condition}.edf")


@pytest.fixture(scope="module")
def small(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("edf") / "small.edf"
    write(path, {"EEG Fz": "uV", "GSR": "uS"}, seconds=3)
    return path


def test_a_file_cut_off_anywhere_is_refused(small):
    whole, path = small.read_bytes(), small.with_name("cut.edf")
    for end in [*range(0, 768, 13), *range(768, len(whole), 7), len(whole) - 1]:
        path.write_bytes(whole[:end])
        refused(read_raw, path, {"EEG *": "eeg", "*": "eda"})


@pytest.mark.parametrize("name", [b"GS\x00", b"G\nSR", b"\x1b[2J", b"\x00"])
def test_a_channel_whose_name_is_no_text_is_refused(small, name):
    damaged, path = bytearray(small.read_bytes()), small.with_name("named.edf")
    damaged[272 : 272 + 16] = name.ljust(16)
    path.write_bytes(damaged)
    assert "\x1b" not in refused(read_raw, path, {"*": "eda"})


@pytest.mark.parametrize("name", [b"GSR\xa0", b"\xa0GSR", b"\xa0 GSR \xa0", b" GSR\t"])
def test_blanks_around_a_name_are_none_of_it_whatever_mne_makes_of_them(small, name):
    """MNE keeps those that do not break, and is asked by the name that it gives."""
    padded, path = bytearray(small.read_bytes()), small.with_name("padded.edf")
    padded[272 : 272 + 16] = name.ljust(16)
    path.write_bytes(padded)
    expected, found = (read_raw(each, {"EEG *": "eeg", "*": "eda"})[0] for each in (small, path))
    np.testing.assert_array_equal(found["GSR"], expected["GSR"])


@settings(max_examples=300)
@given(st.data())
def test_a_damaged_header_reads_or_is_refused_and_nothing_else(small, data):
    damaged, path = bytearray(small.read_bytes()), small.with_name("damaged.edf")
    texts = st.sampled_from([b"-1", b"0", b"1", b"99999999", b"nan", b"1e300", b" ", b"EDF+D", b"\xff", b"uV"])
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, 767))
        new = data.draw(texts | st.binary(min_size=1, max_size=8))
        damaged[place : place + len(new)] = new
    path.write_bytes(damaged)
    try:
        values, modality = read_raw(path, {"EEG *": "eeg", "*": "eda"}, any_rate=True)
    except MtkdError as error:
        sentence = str(error)
    else:
        sentence = str(path)
        assert list(values) == list(modality)
    assert sentence.startswith(str(path))
    assert "\n" not in sentence
