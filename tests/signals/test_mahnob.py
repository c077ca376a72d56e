"""MAHNOB-HCI: sessions, their film and what was felt, which are left out, and everything session.xml can be instead."""

import shutil
from pathlib import Path

import edfio
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mtkd.config import Mahnob
from mtkd.errors import MtkdError
from mtkd.signals import readers
from mtkd.signals.channels import GENEVA

DATA = Mahnob(reader="mahnob", folder="x")
SFREQ = 32
BEFORE_S = 3
"""Of thirty: what the file holds before and after the film."""
FELT = {"feltEmo": 4, "feltArsl": 7, "feltVlnc": 8, "feltCtrl": 5, "feltPred": 6}
ABOUT = {"sessionId": 10, "isStim": 1, "cutNr": 3, "cutLenSec": "34.9", "mediaFile": "69.avi", "date": "2009/7/16"}


def wave(name: str, n_times: int) -> np.ndarray:
    """What the channel of a name holds, in its own unit."""
    values = np.random.default_rng(list(name.encode())).uniform(1, 2, n_times)
    return values * {"GSR": 1e5, "Tem": 17}.get(name[:3], 40)


def record(path: Path, film_s: float = 4, marks=None, high: int = 0, but: tuple[str, ...] = ()) -> None:
    """A file as BioSemi writes it, its film marked by 16; ``marks`` gives other seconds."""
    seconds = int(film_s) + 2 * BEFORE_S
    units = {**dict.fromkeys([*GENEVA, *(f"EXG{n}" for n in range(1, 9))], "uV"), "GSR1": "Ohm", "GSR2": "Ohm"}
    units |= {"Erg1": "uV", "Erg2": "uV", "Resp": "uV", "Temp": "degC"}
    signals = []
    for label, unit in units.items():
        top = 8388607 if label.startswith("GSR") else 262144
        about = {"label": label, "physical_dimension": unit, "physical_range": (-top, top)}
        signals.append(edfio.BdfSignal(wave(label, seconds * SFREQ), SFREQ, **about))
    codes = np.full(seconds * SFREQ, high, np.int32)
    for mark in (BEFORE_S, BEFORE_S + film_s) if marks is None else marks:
        codes[int(mark * SFREQ)] = high | 16
    span = (-8388608, 8388607)
    signals.append(
        edfio.BdfSignal.from_digital(
            codes, SFREQ, label="Status", physical_dimension="Boolean", physical_range=span, digital_range=span
        )
    )
    edfio.Bdf([signal for signal in signals if signal.label not in but], data_record_duration=1).write(path)


def xml(subject: object = 1, **attributes) -> str:
    """A session.xml; an attribute that is None is not there."""
    said = {name: value for name, value in (ABOUT | FELT | attributes).items() if value is not None}
    told = " ".join(f'{name}="{value}"' for name, value in said.items())
    person = "" if subject is None else f'<subject id="{subject}" dob="1980/1/1" gender="f" />'
    track = '<track type="EEG" filename="Part_1_S_Trial1_emotion.bdf" />'
    return f'<?xml version="1.0" encoding="utf-8"?>\n<session {told}>\n  {person}\n  {track}\n</session>\n'


def put(folder: Path, number: int, said: str | bytes | None = None, name="Part_1_S_Trial1_emotion.bdf") -> Path:
    """A session whose recording is still empty."""
    place = folder / "Sessions" / str(number)
    place.mkdir(parents=True, exist_ok=True)
    said = xml() if said is None else said
    (place / "session.xml").write_bytes(said.encode() if isinstance(said, str) else said)
    (place / name).touch()
    return place / name


def read(folder: Path, data: Mahnob = DATA):
    (file,) = readers.find(folder, data).files
    (recording,) = readers.read(file, data)
    return recording


def refused(folder: Path, named: Path, data: Mahnob = DATA) -> str:
    with pytest.raises(MtkdError) as caught:
        read(folder, data)
    sentence = str(caught.value)
    assert sentence.startswith(f"{named}: ")
    assert "\n" not in sentence
    return sentence.removeprefix(f"{named}: ")


@pytest.mark.parametrize("high", [0, 0x18FF00])
@pytest.mark.parametrize("film_s", [4, 5.25, 9])
def test_a_session_is_one_trial_from_the_films_start_to_its_end(tmp_path, film_s, high):
    record(put(tmp_path, 10), film_s, high=high)
    recording = read(tmp_path)
    assert (recording.subject, recording.rejected) == ("1", {})
    (span,) = recording.spans
    assert (span.name, span.stimulus) == ("session-10", "69.avi")
    assert (span.start_s, span.stop_s) == (BEFORE_S, BEFORE_S + film_s)
    assert span.ratings == {"valence": 8, "arousal": 7, "control": 5, "predictability": 6, "emotion": 4}
    assert all(stream.n_times == (int(film_s) + 2 * BEFORE_S) * SFREQ for stream in recording.streams.values())


def test_channels_come_in_si_units_under_their_own_names(tmp_path):
    record(put(tmp_path, 10))
    streams = read(tmp_path).streams
    assert set(streams) == {"eeg", "ecg", "eda", "resp", "temp"}
    known = {name: wave(name, 10 * SFREQ) for name in ("EXG1", "EXG2", "EXG3", "GSR1", "Temp", "Resp")}
    np.testing.assert_allclose(
        streams["ecg"].read(0, 99),
        1e-6 * np.stack([known["EXG2"] - known["EXG1"], known["EXG3"] - known["EXG1"]])[:, :99],
        atol=7e-8,
    )
    np.testing.assert_allclose(streams["eda"].read(0, 99)[0], 1 / known["GSR1"][:99], rtol=2e-5)
    np.testing.assert_allclose(streams["temp"].read(0, 99)[0], known["Temp"][:99], atol=0.04)
    expected = 1e-6 * np.stack([wave(name, 10 * SFREQ) for name in GENEVA])
    np.testing.assert_allclose(streams["eeg"].read(0, 320), expected, atol=4e-8)
    names = {kind: stream.ch_names for kind, stream in streams.items() if kind != "eeg"}
    assert names == {"ecg": ["ECG1", "ECG2"], "eda": ["GSR"], "resp": ["Resp"], "temp": ["Temp"]}
    assert streams["eeg"].ch_names == GENEVA


@pytest.mark.parametrize(
    ("marks", "count"), [((), 0), ((3,), 1), ((3, 5, 7), 3), ((1, 3, 7, 9), 4)], ids=["none", "one", "three", "four"]
)
def test_a_session_whose_status_does_not_mark_two_points_is_rejected_with_a_reason(tmp_path, marks, count):
    record(put(tmp_path, 10), marks=marks)
    recording = read(tmp_path)
    assert recording.spans == []
    assert recording.rejected == {"session-10": f"its Status marks {count} points, not the two ends of a film"}


def test_sessions_without_a_film_or_a_rating_are_left_out_with_a_reason(tmp_path):
    put(tmp_path, 2)
    put(tmp_path, 10, xml(2))
    put(tmp_path, 11, name="Part_1_N_Trial1_emotion.bdf")
    put(tmp_path, 12, xml(isStim=0))
    put(tmp_path, 13, xml(feltArsl=None))
    put(tmp_path, 14).unlink()
    put(tmp_path, 15).with_name("session.xml").unlink()
    put(tmp_path, 16, name="Part_1_S_Trial1_tagging.bdf")
    (tmp_path / "Sessions" / "readme.txt").touch()
    found = readers.find(tmp_path, DATA)
    assert [(file.name, file.subject) for file in found.files] == [("1_2", "1"), ("2_10", "2")]
    assert found.left_out == {
        "11": "shows no film",
        "12": "shows no film",
        "13": "was not rated",
        "14": "no Part_*_emotion.bdf",
        "15": "no session.xml",
        "16": "no Part_*_emotion.bdf",
    }
    assert readers.find(tmp_path / "Sessions", DATA).files == found.files


def test_an_empty_rating_is_none(tmp_path):
    put(tmp_path, 1, xml(feltCtrl=""))
    (file,) = readers.find(tmp_path, DATA).files
    assert "control" not in file.rows["ratings"]
    assert "valence" in file.rows["ratings"]


def test_subjects_and_exclude_name_subjects_by_their_numbers(tmp_path):
    for number, subject in ((1, 3), (2, 9), (3, 12), (4, 9), (5, "012")):
        put(tmp_path, number, xml(subject))
    without = Mahnob(reader="mahnob", folder="x", exclude=["9"])
    assert [file.name for file in readers.find(tmp_path, without).files] == ["3_1", "12_3", "12_5"]
    only = Mahnob(reader="mahnob", folder="x", subjects=["9"])
    assert [file.name for file in readers.find(tmp_path, only).files] == ["9_2", "9_4"]
    nobody = Mahnob(reader="mahnob", folder="x", exclude=["15"])
    assert readers.find(tmp_path, nobody).left_out["data.exclude: 15"] == "is no file's subject"


@pytest.mark.parametrize(("said", "stimulus"), [({"mediaFile": None}, "cut-3"), ({"mediaFile": ""}, "cut-3")])
def test_a_film_without_a_name_goes_by_its_cut(tmp_path, said, stimulus):
    put(tmp_path, 10, xml(**said))
    assert readers.find(tmp_path, DATA).files[0].rows["stimulus"] == stimulus


def test_a_feeling_that_was_not_asked_for_is_left_out(tmp_path):
    put(tmp_path, 10, xml(feltPred=None, feltEmo=None))
    assert readers.find(tmp_path, DATA).files[0].rows["ratings"] == {"valence": 8, "arousal": 7, "control": 5}


BOMB = '<!DOCTYPE x [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;">]><session>&b;</session>'
OUTSIDE = '<!DOCTYPE x [<!ENTITY a SYSTEM "file:///etc/passwd">]><session>&a;</session>'


@pytest.mark.parametrize(
    ("said", "words"),
    [
        (BOMB, "refused, it defines entities or refers to other files"),
        (OUTSIDE, "refused, it defines entities or refers to other files"),
        (BOMB.encode("utf-16"), "refused, it defines entities or refers to other files"),
        ("", "no XML"),
        ("<session", "no XML"),
        (xml()[:-5], "no XML"),
        (b"\0" * 100, "no XML"),
        ('<?xml version="1.0" encoding="klingon"?><session/>', "no XML"),
        ('<?xml version="1.0" encoding="utf-7"?><session/>', "no XML"),
        (xml() + " " * 2**20, "larger than any session.xml"),
        ("<session/>", "names no subject by a number"),
        (xml(None), "names no subject by a number"),
        (xml("x"), "names no subject by a number"),
        (xml("-1"), "names no subject by a number"),
        (xml("²"), "names no subject by a number"),
        (xml("1" * 5000), "names no subject by a number"),
        (xml(feltArsl=0), "a rating of 0, expected 1 to 9"),
        (xml(feltVlnc=10), "a rating of 10, expected 1 to 9"),
        (xml(feltEmo=13), "a rating of 13, expected 0 to 12"),
        (xml(feltCtrl="1.5"), "a rating of '1.5', which is no whole number"),
        (xml(feltArsl="5&#10;5"), "a rating of '5\\n5', which is no whole number"),
        (xml(feltPred="9" * 5000), "a rating of"),
    ],
)
def test_a_session_xml_that_is_none_is_refused(tmp_path, said, words):
    path = put(tmp_path, 10, said).with_name("session.xml")
    assert refused(tmp_path, path).startswith(words)


def test_two_recordings_of_one_session_are_refused(tmp_path):
    place = put(tmp_path, 10).parent
    put(tmp_path, 10, name="Part_2_S_Trial1_emotion.bdf")
    assert refused(tmp_path, place) == "holds 2 recordings of one session"


@pytest.mark.parametrize(
    ("changes", "words"),
    [({"but": ("Status",)}, "has no Status channel, so nothing tells when the film was shown")],
)
def test_a_recording_that_is_none_is_refused(tmp_path, changes, words):
    path = put(tmp_path, 10)
    record(path, **changes)
    assert refused(tmp_path, path) == words


def test_a_recording_cut_off_anywhere_is_refused(tmp_path):
    path = put(tmp_path, 10)
    record(path)
    whole = path.read_bytes()
    for end in [0, 1, 256, 5000, *range(12_000, len(whole), 9973), len(whole) - 1]:
        path.write_bytes(whole[:end])
        refused(tmp_path, path)


def test_a_folder_without_sessions_is_refused(tmp_path):
    assert refused(tmp_path, tmp_path) == "no file that the reader 'mahnob' takes"


def test_a_student_hears_the_leads_and_the_skin_of_a_session_from_elsewhere(tmp_path):
    record(put(tmp_path, 10))
    own = read(tmp_path).streams
    elsewhere = Path(shutil.copy(tmp_path / "Sessions/10/Part_1_S_Trial1_emotion.bdf", tmp_path / "new.bdf"))
    found = readers.streams(elsewhere, DATA, {"ECG[12]": "ecg", "GSR": "eda", "*": "ignore"}, {})
    assert {kind: stream.ch_names for kind, stream in found.items()} == {"ecg": ["ECG1", "ECG2"], "eda": ["GSR"]}
    for kind, stream in found.items():
        np.testing.assert_array_equal(stream.read(0, stream.n_times), own[kind].read(0, stream.n_times))


@settings(max_examples=300)
@given(st.data())
def test_a_damaged_session_xml_reads_or_is_refused_and_nothing_else(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("mahnob")
    damaged = bytearray(xml().encode())
    texts = st.sampled_from(
        [b"&x;", b'"', b"<", b">", b"<!ENTITY ", b"\xff\xfe", b"\0", b"<!--", b"]]>", b"12", b"&#10;"]
    )
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, len(damaged) - 1))
        new = data.draw(texts | st.binary(min_size=1, max_size=6))
        damaged[place : place + data.draw(st.integers(0, len(new)))] = new
    path = put(folder, 10, bytes(damaged)).with_name("session.xml")
    try:
        files = readers.find(folder, DATA).files
    except MtkdError as error:
        assert str(error).startswith((f"{path}: ", f"{folder}: no file"))  # noqa: PT017
        assert "\n" not in str(error)  # noqa: PT017
    else:
        assert [file.name for file in files] == [f"{files[0].subject}_10"]
        assert all(0 <= rating <= 12 for rating in files[0].rows["ratings"].values())
