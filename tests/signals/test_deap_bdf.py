"""DEAP's original sessions: both sites, their Status channel, and the table of their ratings."""

import csv
import shutil
from pathlib import Path

import edfio
import numpy as np
import pytest

from mtkd.config import Deap
from mtkd.errors import MtkdError
from mtkd.signals import readers
from mtkd.signals.channels import GENEVA
from mtkd.signals.readers import deap_bdf

DATA = Deap(reader="deap", folder="x")
TWENTE = (  # noqa: SIM905
    "Fp1 AF3 F7 F3 FC1 FC5 T7 C3 CP1 CP5 P7 P3 Pz PO3 O1 Oz O2 PO4 P4 P8 CP6 CP2 C4 T8 FC6 FC2 F4 F8 AF4 Fp2 Fz Cz"
).split()
EXG = [f"EXG{n}" for n in range(1, 9)]
SFREQ, VIDEO_S, SECONDS = 32, 2.0, 14
STARTS = (2, 6, 10)
VIDEOS = {1: 31, 2: 7, 3: 18}
"""What each trial showed."""
HIGH = {"Twente": 0, "some": 0x18FF00, "others": 0x58FF00}
"""What Status holds above its lowest byte: 4 is then 1638148 or 5832452."""
COLUMNS = [*"Participant_id Trial Experiment_id Start_time Valence Arousal Dominance Liking Familiarity".split()]  # noqa: SIM905


@pytest.fixture(autouse=True)
def short_videos(monkeypatch):
    monkeypatch.setattr(deap_bdf, "VIDEO_S", VIDEO_S)
    monkeypatch.setattr(deap_bdf, "_CLOCK_S", 0.5)


def wave(name: str) -> np.ndarray:
    """What the channel of a name holds, in its own unit."""
    unit = np.random.default_rng(list(name.encode())).uniform(1, 2, SECONDS * SFREQ)
    return unit * {"GSR": 1e5, "Tem": 17}.get(name[:3], 40)


def status(starts=STARTS, high: int = 0) -> np.ndarray:
    """Fixation, video and its end as DEAP marks them."""
    codes = np.full(SECONDS * SFREQ, high)
    for start in starts:
        for at, code in ((start - 0.5, 3), (start, deap_bdf.VIDEO), (start + VIDEO_S, 5)):
            if at < SECONDS:
                codes[int(at * SFREQ)] = high | code
    codes[-1] = high | 7
    return codes


def session(path: Path, eeg=GENEVA, codes=None, name="Status", gsr="Ohm", but: tuple[str, ...] = ()) -> Path:
    """A file as BioSemi writes it; without the channels ``but``."""
    units = {**dict.fromkeys([*eeg, *EXG], "uV"), "GSR1": gsr, "GSR2": gsr, "Erg1": "uV", "Erg2": "uV"}
    units |= {"Resp": "uV", "Plet": "uV", "Temp": "degC"}
    signals = []
    for label, unit in units.items():
        top = 8388607 if label.startswith("GSR") else 262144
        about = {"label": label, "physical_dimension": unit, "physical_range": (-top, top)}
        signals.append(edfio.BdfSignal(wave(label), SFREQ, **about))
    codes = (status() if codes is None else codes).astype(np.int32)
    span = (-8388608, 8388607)
    last = {"label": name, "physical_dimension": "Boolean", "physical_range": span, "digital_range": span}
    signals.append(edfio.BdfSignal.from_digital(codes, SFREQ, **last))
    kept = [signal for signal in signals if signal.label not in but]
    path.parent.mkdir(parents=True, exist_ok=True)
    edfio.Bdf(kept, data_record_duration=1).write(path)
    return path


def row(participant: int, trial: int, **changes) -> dict:
    ratings = {"Valence": 1 + trial, "Arousal": 8.5, "Dominance": 9, "Liking": 1.25, "Familiarity": 5}
    number = {"Participant_id": participant, "Trial": trial, "Experiment_id": VIDEOS[trial], "Start_time": 1}
    return number | ratings | changes


def table(folder: Path, rows: list[dict], columns=COLUMNS) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "participant_ratings.csv"
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, columns, extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)
    return path


def read(folder: Path, data: Deap = DATA):
    (file,) = readers.find(folder, data).files
    (recording,) = readers.read(file, data)
    return recording


def refused(folder: Path, named: str, data: Deap = DATA) -> str:
    with pytest.raises(MtkdError) as caught:
        read(folder, data)
    sentence = str(caught.value)
    assert sentence.startswith(f"{folder / named}: ")
    assert "\n" not in sentence
    return sentence.removeprefix(f"{folder / named}: ")


@pytest.mark.parametrize(
    ("participant", "eeg", "high", "name"),
    [(1, TWENTE, "Twente", "Status"), (23, GENEVA, "some", "Status"), (24, GENEVA, "others", "")],
)
def test_both_sites_give_the_same_channels_in_si_units(tmp_path, participant, eeg, high, name):
    session(tmp_path / f"s{participant:02d}.bdf", eeg, status(high=HIGH[high]), name)
    table(tmp_path, [row(participant, trial) for trial in VIDEOS])
    recording = read(tmp_path)
    assert recording.subject == f"s{participant:02d}"
    assert list(recording.streams) == ["eeg", "eda", "resp", "ppg", "temp", "eog", "emg"]
    expected = {
        "eeg": {name: 1e-6 * wave(name) for name in GENEVA},
        "eog": {"hEOG": 1e-6 * (wave("EXG1") - wave("EXG2")), "vEOG": 1e-6 * (wave("EXG3") - wave("EXG4"))},
        "emg": {"zEMG": 1e-6 * (wave("EXG5") - wave("EXG6")), "tEMG": 1e-6 * (wave("EXG7") - wave("EXG8"))},
        "eda": {"GSR": 1 / wave("GSR1")},
        "temp": {"Temp": wave("Temp")},
    }
    for kind, channels in expected.items():
        stream = recording.streams[kind]
        assert (stream.ch_names, stream.sfreq, stream.n_times) == ([*channels], SFREQ, SECONDS * SFREQ)
        step = {"temp": 0.04, "eda": 1e-10}.get(kind, 7e-8)
        values = stream.read(5, 300)
        np.testing.assert_allclose(values, np.stack(list(channels.values()))[:, 5:300], rtol=0, atol=step)
    assert recording.streams["resp"].ch_names == ["Resp"]
    assert recording.streams["ppg"].ch_names == ["Plet"]


@pytest.mark.parametrize("high", HIGH.values(), ids=list(HIGH))
def test_the_nth_video_of_a_file_is_the_nth_trial_of_its_participant(tmp_path, high):
    session(tmp_path / "s05.bdf", codes=status(high=high))
    table(tmp_path, [row(participant, trial) for trial in (3, 1, 2) for participant in (4, 5)])
    recording = read(tmp_path)
    assert recording.rejected == {}
    found = [(span.name, span.stimulus, span.start_s, span.stop_s) for span in recording.spans]
    assert found == [
        ("t31", "video-31", 2, 4),
        ("t07", "video-07", 6, 8),
        ("t18", "video-18", 10, 12),
    ]
    rated = {"arousal": 8.5, "dominance": 9, "liking": 1.25, "familiarity": 5}
    assert [span.ratings for span in recording.spans] == [{"valence": 1 + trial, **rated} for trial in VIDEOS]


def test_a_code_that_lasts_is_one_start(tmp_path):
    codes = status()
    codes[2 * SFREQ : 4 * SFREQ] = deap_bdf.VIDEO
    session(tmp_path / "s05.bdf", codes=codes)
    table(tmp_path, [row(5, trial) for trial in VIDEOS])
    assert [span.start_s for span in read(tmp_path).spans] == list(STARTS)


def test_skin_conductance_in_nanosiemens_reads_as_such(tmp_path):
    session(tmp_path / "s05.bdf", gsr="nS")
    table(tmp_path, [row(5, trial) for trial in VIDEOS])
    found = read(tmp_path).streams["eda"].read(0, 100)[0]
    np.testing.assert_allclose(found, np.where(wave("GSR1") <= 1e5, 1e-9 * wave("GSR1"), np.nan)[:100], atol=1e-9)


@pytest.mark.parametrize("empty", ["", "NaN", " "])
def test_a_missing_rating_is_left_out(tmp_path, empty):
    session(tmp_path / "s05.bdf")
    table(tmp_path, [row(5, trial, Familiarity=empty) for trial in VIDEOS])
    ratings = [span.ratings for span in read(tmp_path).spans]
    assert [list(each) for each in ratings] == [["valence", "arousal", "dominance", "liking"]] * 3


def test_a_video_that_the_file_does_not_hold_whole_is_rejected_with_a_reason(tmp_path):
    session(tmp_path / "s05.bdf", codes=status((2, 6, SECONDS - 1)))
    table(tmp_path, [row(5, trial) for trial in VIDEOS])
    recording = read(tmp_path)
    assert [span.name for span in recording.spans] == ["t31", "t07"]
    assert recording.rejected == {"t18": "the file ends 1 s after its start"}


def logged(*seconds: float) -> list[dict]:
    return [row(5, trial, Start_time=round(1e6 * at)) for trial, at in zip(VIDEOS, seconds, strict=True)]


@pytest.mark.parametrize("expected", [{"t31": 2, "t18": 9}, {"t31": 2, "t07": 5}, {"t07": 5, "t18": 9}])
def test_where_a_mark_is_missing_the_logged_times_tell_which(tmp_path, expected):
    session(tmp_path / "s05.bdf", codes=status(tuple(expected.values())))
    table(tmp_path, logged(102.1, 105.0, 109.0))
    recording = read(tmp_path)
    assert {span.name: span.start_s for span in recording.spans} == expected
    (missing,) = {"t31", "t07", "t18"} - set(expected)
    assert recording.rejected == {missing: "its Status marks no start"}


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        (logged(102, 106, 110), "leave 2 possibilities which"),
        (logged(102, 103, 104), "leave 0 possibilities which"),
        ([row(5, trial, Start_time="") for trial in VIDEOS], "has no Start_time to tell which"),
    ],
)
def test_where_they_do_not_tell_the_file_is_refused(tmp_path, rows, words):
    session(tmp_path / "s05.bdf", codes=status((2, 6)))
    table(tmp_path, rows)
    with pytest.raises(MtkdError, match=rf": its Status marks 2 videos of 3, and .*{words}$"):
        read(tmp_path)


@pytest.mark.parametrize(
    ("starts", "times", "words"),
    [((2, 3, 9), (2, 6, 9), "videos less than 2 s apart"), ((2, 6, 9), (2, 4, 9), "3 videos of 3, .* 0 possibilities")],
)
def test_starts_that_cannot_be_are_refused(tmp_path, starts, times, words):
    session(tmp_path / "s05.bdf", codes=status(starts))
    table(tmp_path, logged(*times))
    with pytest.raises(MtkdError, match=words):
        read(tmp_path)


def test_a_video_that_ends_with_the_file_is_whole(tmp_path):
    session(tmp_path / "s05.bdf", codes=status((2, 6, SECONDS - VIDEO_S)))
    table(tmp_path, [row(5, trial) for trial in VIDEOS])
    assert [span.stop_s for span in read(tmp_path).spans] == [4, 8, SECONDS]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"codes": status((2, 5, 8, 11))}, "its Status marks 4 videos, but participant_ratings.csv knows 3"),
        ({"codes": status(())}, "its Status channel marks the start of no video (code 4)"),
        ({"codes": np.full(SECONDS * SFREQ, 0x040400)}, "its Status channel marks the start of no video (code 4)"),
        ({"but": ("Status",)}, "has no Status channel, so nothing tells where its trials start"),
        ({"gsr": "mV"}, "GSR1 is in the unit 'mV'; known of eda are"),
        ({"eeg": [*GENEVA[:-1], "X"]}, "channel 'X' matches no pattern"),
    ],
)
def test_a_file_that_is_no_such_session_is_refused(tmp_path, changes, words):
    session(tmp_path / "s05.bdf", **changes)
    table(tmp_path, [row(5, trial) for trial in VIDEOS])
    assert refused(tmp_path, "s05.bdf").startswith(words)


def test_a_file_cut_off_anywhere_is_refused(tmp_path):
    path = session(tmp_path / "s05.bdf")
    table(tmp_path, [row(5, trial) for trial in VIDEOS])
    whole = path.read_bytes()
    for end in [0, 1, 100, 256, 5000, *range(12_000, len(whole), 9973), len(whole) - 1]:
        path.write_bytes(whole[:end])
        refused(tmp_path, "s05.bdf")


@pytest.mark.parametrize("missing", ["EXG1", "GSR1", "Fz", "Plet"])
def test_a_channel_that_a_session_has_not_is_only_missing(tmp_path, missing):
    session(tmp_path / "s05.bdf", but=(missing,))
    table(tmp_path, [row(5, trial) for trial in VIDEOS])
    names = [name for stream in read(tmp_path).streams.values() for name in stream.ch_names]
    gone = {"EXG1": "hEOG", "GSR1": "GSR"}.get(missing, missing)
    assert set(names) == {*GENEVA, "hEOG", "vEOG", "zEMG", "tEMG", "GSR", "Resp", "Plet", "Temp"} - {gone}


def test_a_session_without_its_table_is_refused(tmp_path):
    session(tmp_path / "s05.bdf")
    assert refused(tmp_path, "s05.bdf").startswith("no participant_ratings.csv beside it, nor in metadata_csv/, so its")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"Valence": 0.99}, "valence of 0.99, expected 1 to 9"),
        ({"Arousal": 9.01}, "arousal of 9.01, expected 1 to 9"),
        ({"Liking": "inf"}, "liking of inf, expected 1 to 9"),
        ({"Familiarity": 6}, "familiarity of 6, expected 1 to 5"),
        ({"Dominance": "much"}, "a row without numbers where DEAP has them"),
        ({"Experiment_id": 1.5}, "a row without numbers where DEAP has them"),
        ({"Trial": 3}, "the trials of participant 5 are not 1, 2, 3, each of another video"),
        ({"Experiment_id": 31}, "the trials of participant 5 are not 1, 2, 3, each of another video"),
        ({"Participant_id": 6}, "the trials of participant 5 are not 1, 2, 3, each of another video"),
    ],
)
def test_a_table_that_is_damaged_is_refused(tmp_path, change, words):
    session(tmp_path / "s05.bdf")
    table(tmp_path, [row(5, 1), row(5, 2, **change), row(5, 3)])
    assert refused(tmp_path, "participant_ratings.csv").startswith(words)


@pytest.mark.parametrize("without", ["Participant_id", "Trial", "Experiment_id"])
def test_a_table_without_one_of_its_columns_is_refused(tmp_path, without):
    session(tmp_path / "s05.bdf")
    table(tmp_path, [row(5, trial) for trial in VIDEOS], [name for name in COLUMNS if name != without])
    assert without.lower() in refused(tmp_path, "participant_ratings.csv")


def test_a_student_hears_the_differences_and_the_skin_of_a_session_from_elsewhere(tmp_path):
    elsewhere = Path(shutil.copy(session(tmp_path / "s23.bdf"), tmp_path / "new.bdf"))
    table(tmp_path, [row(23, trial) for trial in VIDEOS])
    own = read(tmp_path).streams
    found = readers.streams(elsewhere, DATA, heard := {"?EOG": "eog", "GSR": "eda", "*": "ignore"}, {})
    assert {kind: stream.ch_names for kind, stream in found.items()} == {"eog": ["hEOG", "vEOG"], "eda": ["GSR"]}
    for kind, stream in found.items():
        np.testing.assert_array_equal(stream.read(0, stream.n_times), own[kind].read(0, stream.n_times))
    other = readers.streams(elsewhere, DATA, heard, {"GSR2": "GSR"})["eda"]
    assert not np.allclose(other.read(0, 99), found["eda"].read(0, 99))
