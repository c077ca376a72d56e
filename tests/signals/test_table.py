"""Files of any kind and a table of their trials: what a row says, and everything a row can be instead."""

import csv
import io
from pathlib import Path

import edfio
import mne
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mtkd.config import Column, Table
from mtkd.errors import MtkdError
from mtkd.signals.readers import find, read
from mtkd.signals.recording import Recording, Span

SFREQ = 64
CHANNELS = {"Fz": "eeg", "GSR": "eda"}


def table(**changes) -> Table:
    return Table(**{"reader": "table", "folder": "x", "channels": CHANNELS} | changes)


def values(seconds: int = 10) -> np.ndarray:
    return np.random.default_rng(0).uniform(1, 40, (2, seconds * SFREQ))


def write_edf(path: Path, seconds: int = 10) -> np.ndarray:
    """Write an electrode in microvolt and a skin conductance in microsiemens; return both."""
    rows = values(seconds)
    units = {"Fz": "uV", "GSR": "uS"}
    signals = [
        edfio.EdfSignal(row, SFREQ, label=name, physical_dimension=units[name], physical_range=(0, 50))
        for name, row in zip(units, rows, strict=True)
    ]
    path.parent.mkdir(exist_ok=True)
    edfio.Edf(signals).write(path)
    return rows


def write_vhdr(path: Path) -> np.ndarray:
    """The same as BrainVision's three files."""
    rows = values().astype("<f4")
    path.write_text(
        "Brain Vision Data Exchange Header File Version 1.0\n[Common Infos]\nCodepage=UTF-8\n"
        f"DataFile={path.stem}.eeg\nMarkerFile={path.stem}.vmrk\nDataFormat=BINARY\nDataOrientation=MULTIPLEXED\n"
        f"NumberOfChannels=2\nSamplingInterval={1e6 / SFREQ:g}\n[Binary Infos]\nBinaryFormat=IEEE_FLOAT_32\n"
        "[Channel Infos]\nCh1=Fz,,1,µV\nCh2=GSR,,1,µS\n",
        encoding="utf-8",
    )
    path.with_suffix(".eeg").write_bytes(rows.T.tobytes())
    path.with_suffix(".vmrk").write_text(
        "Brain Vision Data Exchange Marker File, Version 1.0\n[Common Infos]\nCodepage=UTF-8\n"
        f"DataFile={path.stem}.eeg\n[Marker Infos]\n"
    )
    return rows


def write_fif(path: Path) -> np.ndarray:
    rows = values()
    info = mne.create_info(["Fz", "GSR"], SFREQ, ["eeg", "gsr"])
    mne.io.RawArray(rows * 1e-6, info, verbose="error").save(path, verbose="error")
    return rows


@pytest.fixture
def folder(tmp_path) -> Path:
    write_edf(tmp_path / "walk.edf")
    return tmp_path


def everything(folder: Path, data: Table) -> list[Recording]:
    return [recording for file in find(folder, data).files for recording in read(file, data)]


def spans(folder: Path, text: str, **changes) -> list[Span]:
    (folder / "trials.csv").write_text(text)
    return [span for recording in everything(folder, table(**changes)) for span in recording.spans]


def refused(folder: Path, text: str | bytes, name: str = "trials.csv", **changes) -> str:
    """The sentence that refuses a table; ``name`` is the file that it has to name."""
    (folder / "trials.csv").write_bytes(text.encode() if isinstance(text, str) else text)
    with pytest.raises(MtkdError) as caught:
        everything(folder, table(**changes))
    sentence = str(caught.value)
    assert sentence.startswith(f"{folder / name}: ")
    assert sentence.isprintable()
    return sentence


def test_a_row_is_a_trial_and_further_columns_of_numbers_are_its_ratings(folder):
    text = "file,subject,start_s,stop_s,valence,note,arousal\nwalk.edf,anna,1.5,4,7,tired,-3e0\n"
    (span,) = spans(folder, text)
    assert span == Span("walk-1", "walk-1", 1.5, 4.0, {"valence": 7.0, "arousal": -3.0})


def test_the_study_says_which_columns_are_ratings_and_what_words_are_worth(folder):
    text = "file,subject,start_s,stop_s,v,mood\nwalk.edf,anna,1,2,7,calm\nwalk.edf,anna,2,3,6,tense\n"
    ratings = {"valence": "v", "stress": Column(column="mood", levels={"calm": 0.0, "tense": 1.0})}
    first, second = spans(folder, text, ratings=ratings)
    assert first.ratings == {"valence": 7.0, "stress": 0.0}
    assert second.ratings == {"valence": 6.0, "stress": 1.0}


def test_stimulus_and_trial_have_columns_of_their_own(folder):
    text = "file,subject,stop_s,trial,video,valence\nwalk.edf,anna,5,first,12,3\nwalk.edf,anna,6,,13,4\n"
    first, second = spans(folder, text, stimulus="video")
    assert (first.name, first.stimulus, first.ratings) == ("first", "12", {"valence": 3.0})
    assert (second.name, second.stimulus) == ("walk-2", "13")


@pytest.mark.parametrize(
    ("edges", "expected"), [(",", (0, 10)), ("2,", (2, 10)), (",7.25", (0, 7.25)), ("n/a,n/a", (0, 10))]
)
def test_an_empty_start_or_stop_is_the_files_own(folder, edges, expected):
    (span,) = spans(folder, f"file,subject,start_s,stop_s\nwalk.edf,anna,{edges}\n")
    assert (span.start_s, span.stop_s) == expected


def test_without_columns_of_times_a_file_is_one_trial(folder):
    (span,) = spans(folder, "file,subject,valence\nwalk.edf,anna,5\n")
    assert (span.start_s, span.stop_s, span.ratings) == (0, 10, {"valence": 5.0})


def test_empty_cells_leave_a_trial_unlabelled(folder):
    text = "file,subject,start_s,stop_s,valence,mood\n" + "".join(
        f"walk.edf,anna,{start},{start + 1},{cells}\n" for start, cells in enumerate((",", "n/a,NaN", "3,", ",calm"))
    )
    ratings = {"valence": "valence", "mood": Column(column="mood", levels={"calm": 0.0})}
    assert [span.ratings for span in spans(folder, text, ratings=ratings)] == [{}, {}, {"valence": 3.0}, {"mood": 0.0}]
    assert [span.ratings for span in spans(folder, text)] == [{}, {}, {"valence": 3.0}, {}]


def test_files_of_several_subjects_and_folders_are_recordings_of_their_own(folder):
    write_edf(folder / "day 2" / "walk.edf", seconds=5)
    write_edf(folder / "sit.edf", seconds=3)
    text = "subject,file,stop_s\nanna,walk.edf,1\nben,sit.edf,\nanna,day 2/walk.edf,2\nanna,./walk.edf,9\n"
    (folder / "trials.csv").write_text(text)
    files = find(folder, table()).files
    assert [(file.name, file.subject) for file in files] == [
        ("anna_walk", "anna"),
        ("ben_sit", "ben"),
        ("anna_day-2-walk", "anna"),
    ]
    found = everything(folder, table())
    assert [recording.source for recording in found] == [str(file.path) for file in files]
    names = [[span.name for span in recording.spans] for recording in found]
    assert names == [["walk-1", "walk-2"], ["sit-1"], ["day 2-walk-1"]]
    assert [span.stop_s for span in found[0].spans] == [1, 9]
    (only,) = everything(folder, table(subjects=["ben"]))
    assert only.subject == "ben"


@pytest.mark.parametrize("write", [write_edf, write_fif, write_vhdr])
def test_files_of_any_kind_hold_what_was_written(tmp_path, write):
    name = {"write_edf": "x.edf", "write_fif": "x_raw.fif", "write_vhdr": "x.vhdr"}[write.__name__]
    rows = write(tmp_path / name)
    (tmp_path / "trials.csv").write_text(f"file,subject\n{name},anna\n")
    (recording,) = everything(tmp_path, table())
    for kind, row in zip(("eeg", "eda"), rows, strict=True):
        stream = recording.streams[kind]
        assert (stream.sfreq, stream.n_times, len(stream.ch_names)) == (SFREQ, 10 * SFREQ, 1)
        np.testing.assert_allclose(stream.read(0, stream.n_times)[0], row * 1e-6, rtol=1e-6, atol=1e-9)


def test_the_siblings_of_a_header_belong_to_its_recording(tmp_path):
    write_vhdr(tmp_path / "x.vhdr")
    (tmp_path / "trials.csv").write_text("file,subject\nx.vhdr,anna\n")
    (file,) = find(tmp_path, table()).files
    assert [path.name for path in file.paths] == ["x.vhdr", "x.eeg", "x.vmrk"]


def test_a_spreadsheets_byte_order_mark_line_ends_and_empty_columns_are_harmless(folder):
    (folder / "trials.csv").write_bytes(b'\xef\xbb\xbffile, subject ,note,,\r\n"walk.edf",anna,"a, b",,\r\n\r\n')
    (recording,) = everything(folder, table(table="trials.csv"))
    assert recording.subject == "anna"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "'file'"),
        ("file,start_s\nwalk.edf,1\n", "'subject'"),
        ("subject\nanna\n", "'file'"),
        ("file,subject,file\nwalk.edf,anna,sit.edf\n", "2 columns are called 'file'"),
        ("file,subject,start_s,start_s\nwalk.edf,anna,1,2\n", "2 columns are called 'start_s'"),
        ("file,subject,valence,valence\nwalk.edf,anna,1,2\n", "2 columns are called 'valence'"),
        ("file,subject,valence\nwalk.edf,anna\n", "line 2 has 2 cells"),
        ("file,subject\nwalk.edf,anna\nwalk.edf,anna,3\n", "line 3 has 3 cells"),
        ("file,subject\n,anna\n", "line 2"),
        ("file,subject\n.,anna\n", "line 2"),
        ("file,subject\nwalk.edf, \n", "line 2"),
        ("file,subject,start_s\nwalk.edf,anna,early\n", "line 2: start_s is 'early'"),
        ("file,subject,start_s,stop_s\nwalk.edf,anna,1,inf\n", "line 2: stop_s is 'inf'"),
        ("file,subject,stop_s\nwalk.edf,anna,1e300\n", "line 2: stop_s is '1e300'"),
        ("file,subject\n/etc/passwd,anna\n", "line 2: the file '/etc/passwd' lies outside"),
        ("file,subject\n../walk.edf,anna\n", "line 2: the file '../walk.edf' lies outside"),
        ("file,subject\nx/../../walk.edf,anna\n", "lies outside"),
        ("file,subject\nwalk.edf,anna\nwalk.edf,ben\n", "line 3: walk.edf is of ben, but also of anna"),
        ("file,subject\nwalk.edf,anna\n./walk.edf,ben\n", "line 3: walk.edf is of ben, but also of anna"),
        ('file,subject\n"walk\n.edf",anna\n', "line 2: file is"),
        ('file,subject\nwalk.edf,"an\nna"\n', "line 2: subject is"),
        ("file,subject\nwalk.edf,an\0na\n", "line 2: subject is"),
        (f"file,subject\n{'x' * 999}.edf,anna\n", "line 2: file is"),
        ('file,subject\n"walk.edf,anna\n', "no table"),
        ("file,subject,val\0ence\nwalk.edf,anna,3\n", "no table"),
        (f"file,subject\nwalk.edf,{'x' * 200_000}\n", "no table"),
        ("file,subject\nwälk.edf,anna\n".encode("latin1"), "no table"),
        ("file,subject\nwalk.edf,anna\n".encode("utf-16"), "no table"),
    ],
)
def test_a_table_that_makes_no_sense_is_refused_by_its_row(folder, text, told):
    assert told in refused(folder, text)


@pytest.mark.parametrize(
    ("row", "changes", "told"),
    [
        ("9,calm", {"ratings": {"stress": Column(column="mood", levels={"tense": 1.0})}}, "levels knows tense"),
        ("9,calm", {"ratings": {"stress": "mood"}}, "line 2: mood is 'calm'"),
        ("inf,calm", {"ratings": {"valence": "valence"}}, "line 2: valence is 'inf'"),
        ("NAN,calm", {"ratings": {"valence": "valence"}}, "line 2: valence is 'NAN'"),
        ("9,calm", {"ratings": {"joy": "happiness"}}, "has no column 'happiness', which data.ratings.joy names"),
        ("9,calm", {"stimulus": "video"}, "has no column 'video', which data.stimulus names"),
    ],
)
def test_what_the_study_asks_of_a_column_is_refused_where_it_does_not_hold(folder, row, changes, told):
    assert told in refused(folder, f"file,subject,valence,mood\nwalk.edf,anna,{row}\n", **changes)


@pytest.mark.parametrize("edges", ["0,10.1", "10,11", "-1,5", "11,"])
def test_a_trial_that_is_not_inside_its_file_is_refused_by_it(folder, edges):
    text = f"file,subject,start_s,stop_s\nwalk.edf,anna,{edges}\n"
    assert "10 s long; trials.csv has a trial of it from" in refused(folder, text, "walk.edf")


@pytest.mark.parametrize("name", ["sit.edf", "sub/walk.edf", "walk.edf/x"])
def test_a_file_that_is_missing_is_refused_by_its_name(folder, name):
    assert "is no file" in refused(folder, f"file,subject\n{name},anna\n", name)


def test_a_missing_table_and_one_without_rows_are_refused(folder):
    with pytest.raises(MtkdError, match=r"other\.csv: no such file"):
        find(folder, table(table="other.csv"))
    (folder / "trials.csv").write_text("file,subject\n")
    with pytest.raises(MtkdError, match=r"trials\.csv: has no rows"):
        find(folder, table())


@pytest.fixture(scope="module")
def shared(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("table")
    write_edf(folder / "walk.edf", seconds=3)
    return folder


@settings(max_examples=200)
@given(st.data())
def test_a_damaged_table_reads_or_is_refused_and_nothing_else(shared, data):
    text = bytearray(b"file,subject,start_s,stop_s,mood,trial\nwalk.edf,anna,1,2,7,a\nwalk.edf,anna,,,n/a,b\n")
    words = [b"\n", b"\r", b",", b'"', b"\0", b"\xff", b"\xe2\x80\xa8", b"inf", b"1e400", b"../", b"/", b".", b"-1"]
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(text)))
        new = data.draw(st.sampled_from(words) | st.binary(min_size=1, max_size=6))
        text[place : place + data.draw(st.integers(0, 8))] = new
    (shared / "trials.csv").write_bytes(text)
    try:
        found = everything(shared, table())
    except MtkdError as error:
        found, sentence = [], str(error)
    else:
        sentence = str(shared)
    assert sentence.startswith(str(shared))
    assert sentence.isprintable()
    for span in (span for recording in found for span in recording.spans):
        assert 0 <= span.start_s < span.stop_s <= 3 + 1e-6
        assert np.isfinite(list(span.ratings.values())).all()


@given(st.lists(st.tuples(*[st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"]), min_size=1)] * 2)))
def test_stimuli_come_back_as_they_were_written(shared, rows):
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerows([("file", "subject", "stop_s", "video", "b"), ("walk.edf", "anna", "2", "x", "y")])
    writer.writerows([("walk.edf", "anna", 2 - (1 + n) / 9999, a, f"y{b}") for n, (a, b) in enumerate(rows)])
    (shared / "trials.csv").write_bytes(text.getvalue().encode())
    (recording,) = everything(shared, table(stimulus="video"))
    assert [span.stimulus for span in recording.spans] == ["x", *(row[0] for row in rows)]
