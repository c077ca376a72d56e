"""Mistakes in a table of trials that would pass for something else are refused."""

import re
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mtkd.config import Column, Table
from mtkd.errors import MtkdError
from mtkd.shards.schema import sample_key
from mtkd.signals.readers import find

DATA = Table(reader="table", folder="x")


def refused(folder: Path, text: str, data: Table = DATA) -> str:
    (folder / "trials.csv").write_text(text)
    for name in ("a.edf", "b.edf"):
        (folder / name).touch()
    with pytest.raises(MtkdError) as caught:
        find(folder, data)
    sentence = str(caught.value)
    assert sentence.startswith(f"{folder / 'trials.csv'}: ")
    return sentence.removeprefix(f"{folder / 'trials.csv'}: ")


@pytest.mark.parametrize(
    ("names", "theirs", "ours"),
    [
        ("start,stop", "start", "start_s"),
        ("start_s,end", "end", "stop_s"),
        ("Onset,stop_s", "Onset", "start_s"),
        ("start_sec,stop_sec", "start_sec", "start_s"),
        ("start_ms,stop_ms", "start_ms", "start_s"),
        ("t_start,t_stop", "t_start", "start_s"),
        ("onset_s,duration_s", "onset_s", "start_s"),
        ("start_s,duration_s", "duration_s", "stop_s"),
        ("start_s,Trial end (s)", "Trial end (s)", "stop_s"),
    ],
)
def test_times_under_another_name_are_not_taken_for_ratings(tmp_path, names, theirs, ours):
    """Each trial would be its whole file, the same for all."""
    told = refused(tmp_path, f"file,subject,{names},stress\na.edf,s1,5,35,0\na.edf,s1,40,70,1\n")
    assert told == f"has a column {theirs!r}, but times in seconds are called {ours!r}"


@pytest.mark.parametrize("name", ["Start_s", "STOP_S", "Trial"])
def test_our_own_columns_in_capitals_are_not_taken_for_ratings(tmp_path, name):
    told = refused(tmp_path, f"file,subject,{name},stress\na.edf,s1,5,1\n")
    assert told == f"has a column {name!r}, which must be called {name.lower()!r}"


def test_ratings_may_have_words_of_time_in_their_names(tmp_path):
    (tmp_path / "trials.csv").write_text("file,subject,likely_to_end,trial_length_rating\na.edf,s1,5,1\n")
    (tmp_path / "a.edf").touch()
    (file,) = find(tmp_path, DATA).files
    assert file.rows[0]["ratings"] == {"likely_to_end": 5.0, "trial_length_rating": 1.0}


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        ("a.edf,s1,1,2,7\na.edf,s1,1.0,2,1\n", "a.edf has the trial from 1 s to 2 s twice"),
        ("a.edf,s1,,,7\nb.edf,s1,,,7\na.edf,s1,0,,7\n", "a.edf has the trial from 0 s to its end twice"),
    ],
)
def test_a_trial_that_comes_twice_is_refused(tmp_path, rows, told):
    assert refused(tmp_path, "file,subject,start_s,stop_s,stress\n" + rows) == told


def test_semicolons_are_thought_of(tmp_path):
    told = refused(tmp_path, "file;subject\na.edf;s1\n")
    assert told == "its first line names no column 'file', but one column only; commas stand between columns"


def test_a_rating_of_infinity_is_refused_by_its_row(tmp_path):
    told = refused(tmp_path, "file,subject,start_s,stress\na.edf,s1,0,7\na.edf,s1,1,inf\n")
    assert told == "line 3: stress is 'inf', no number"


@pytest.mark.parametrize("text", ["file,subject," + ",".join(f"c{n}" for n in range(100_000)), "a.edf,s1\n" * 250_000])
def test_a_table_larger_than_any_is_refused_at_once(tmp_path, text):
    started = time.process_time()
    header = "" if text.startswith("file") else "file,subject\n"
    assert refused(tmp_path, header + text).endswith("larger than any table of trials")
    assert time.process_time() - started < 5


@pytest.mark.parametrize(("cell", "told"), [("99", "99"), ("0.5", "0.5"), ("-1", "-1")])
def test_a_rating_out_of_its_range_is_refused_by_its_row(tmp_path, cell, told):
    rating = Column(column="stress", range=[1, 9])
    data = DATA.model_copy(update={"ratings": {"felt": rating}})
    text = f"file,subject,start_s,stress\na.edf,s1,0,1\na.edf,s1,1,9\na.edf,s1,2,{cell}\n"
    said = refused(tmp_path, text, data)
    assert said == f"line 4: stress is '{told}', not within data.ratings.felt.range = [1, 9]"


def test_codes_for_a_rating_that_is_missing_are_the_studys_to_say(tmp_path):
    rating = Column(column="stress", range=[1, 9], absent=["99", "-1"])
    data = DATA.model_copy(update={"ratings": {"felt": rating}})
    text = "file,subject,start_s,stress\n" + "".join(
        f"a.edf,s1,{start_s},{cell}\n" for start_s, cell in enumerate(["3", "99", "-1", "NA", "null", ""])
    )
    (tmp_path / "trials.csv").write_text(text)
    (tmp_path / "a.edf").touch()
    (file,) = find(tmp_path, data).files
    assert [row["ratings"] for row in file.rows] == [{"felt": 3.0}, *({} for _ in range(5))]


def test_a_column_that_holds_numbers_but_for_a_few_cells_is_not_passed_over(tmp_path):
    told = refused(tmp_path, "file,subject,start_s,stress\na.edf,s1,0,7\na.edf,s1,1,1_0\na.edf,s1,2,3\n")
    assert told == "line 3: stress is '1_0', but a number in most rows; data.ratings says which columns are ratings"


@pytest.mark.parametrize("edges", ["5,5", "6,5", ",0"])
def test_a_trial_that_stops_before_it_starts_is_refused_by_its_line(tmp_path, edges):
    text = f"file,subject,start_s,stop_s\n\n,,,\na.edf,anna,{edges}\n"
    assert "line 4: stop_s = " in refused(tmp_path, text)


def test_a_path_that_begins_at_the_root_is_taken_inside_the_folder(tmp_path):
    (tmp_path / "a.edf").touch()
    (tmp_path / "trials.csv").write_text(f"file,subject\n{tmp_path}/a.edf,anna\n")
    assert [file.path for file in find(tmp_path, DATA).files] == [tmp_path / "a.edf"]


def test_that_each_trial_is_a_whole_file_is_told(tmp_path):
    (tmp_path / "a.edf").touch()
    (tmp_path / "trials.csv").write_text("file,subject,t0,t1\na.edf,anna,2,4\n")
    told = find(tmp_path, DATA).left_out
    assert told == {"trials.csv: start_s, stop_s": "are no columns of it, so that each trial is a whole file"}


NAMES = st.sampled_from(
    ["a.edf", "a.bdf", "sub/a.edf", "sub-a.edf", "a b.edf", "a-b.edf", "a_b.edf", "b.edf", "c.vhdr"]
)


@settings(max_examples=40)
@given(st.lists(st.tuples(NAMES, st.sampled_from(["s1", "s1-a", "s1_sub"])), min_size=1, unique_by=lambda row: row[0]))
def test_files_whose_names_are_alike_are_different_recordings(tmp_path_factory, rows):
    """They were told to be the same recording of their subject."""
    folder = tmp_path_factory.mktemp("alike")
    for name, _ in rows:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).touch()
    (folder / "trials.csv").write_text("file,subject\n" + "".join(f"{name},{subject}\n" for name, subject in rows))
    found = find(folder, DATA).files
    assert [str(file.path.relative_to(folder)) for file in found] == [name for name, _ in rows]
    assert len({file.name for file in found}) == len(rows)
    assert len({sample_key(file.subject, file.rows[0]["name"]) for file in found}) == len(rows)


def test_a_name_that_no_other_is_like_stays_what_it_was(tmp_path):
    for name in ("a.edf", "b.edf", "b.bdf"):
        (tmp_path / name).touch()
    (tmp_path / "trials.csv").write_text("file,subject\na.edf,s1\nb.edf,s1\nb.bdf,s1\n")
    first, second, third = find(tmp_path, DATA).files
    assert (first.name, first.rows[0]["name"]) == ("s1_a", "a-1")
    assert all(re.fullmatch("s1_b-[0-9a-f]{6}", file.name) for file in (second, third))
