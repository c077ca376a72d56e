"""What a study calls the channels of a file, and what it asks for that no channel answers to."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from mtkd.config import Table
from mtkd.errors import MtkdError
from mtkd.signals.readers.names import Names, names_of

PATH, HAS = Path("x.edf"), ["ECG L", "ECG R", "GSR", "Fz"]
BAD = {"ECG R": "its file calls it bad"}


def asked(left_out: dict[str, str] | None = None, **changes) -> Names:
    data = Table(**{"reader": "table", "folder": "x"} | changes)
    return names_of(PATH, HAS, data, {}, left_out or {})


def test_two_channels_do_not_become_one():
    with pytest.raises(MtkdError, match=r"^x\.edf: cannot rename both 'ECG L' and 'ECG R' 'ECG'; it has ECG L, "):
        asked(rename={"ECG L": "ECG", "ECG R": "ECG"})
    with pytest.raises(MtkdError, match=r"cannot rename its channel 'ECG L' 'Fz', of which it has one"):
        asked(rename={"ECG L": "Fz"})
    assert asked(rename={"ECG L": "ECG", "ECG2": "ECG"}).ours["ECG L"] == "ECG"  # as other files call it


def test_a_channel_goes_by_its_name_before_and_after():
    rename = {"ECG L": "left", "GSR": "skin"}
    for pair, units in ((["ECG L", "ECG R"], {"GSR": "uS"}), (["left", "ECG R"], {"skin": "uS"})):
        found = asked(rename=rename, bipolar={"ECG": pair}, units=units)
        assert found.bipolar == {"ECG": ("ECG L", "ECG R")}
        assert found.units == {"GSR": "uS"}
        assert found.unheard == frozenset()


@given(st.sets(st.sampled_from([*HAS, "X", "Y"])), st.sets(st.sampled_from([*HAS, "X", "Y"])))
def test_what_no_channel_answers_to_is_told(renamed, corrected):
    found = asked(rename={name: f"new {name}" for name in renamed}, units=dict.fromkeys(corrected, "uS"))
    expected = {f"data.rename: {name}" for name in renamed - {*HAS}}
    assert found.unheard == expected | {f"data.units: {name}" for name in corrected - {*HAS}}


def test_a_difference_of_a_bad_channel_is_left_out_even_where_the_study_names_it():
    found = asked(BAD, bipolar={"ECG": ["ECG L", "ECG R"]}, channels={"ECG": "ecg", "*": "eeg"})
    assert found.left_out == BAD | {"ECG": "is made of ECG R, and its file calls it bad"}
    assert found.kinds["ECG"] == "ignore"
    assert asked(BAD, channels={"ECG R": "ignore"}, bipolar={"ECG": ["ECG L", "ECG R"]}).left_out.keys() == {
        "ECG R",
        "ECG",
    }
    named = asked(BAD, bipolar={"ECG": ["ECG L", "ECG R"]}, channels={"ECG": "ecg", "ECG R": "ecg"})
    assert named.left_out == {}


def test_half_a_difference_is_no_channel_of_its_own():
    """A pattern for all the rest would make an electrode of it."""
    found = asked(bipolar={"ECG": ["ECG L", "X"]}, channels={"*": "eeg"})
    assert found.bipolar == {}
    assert found.left_out == {"ECG L": "is half of ECG, and there is no X"}
    assert found.kinds["ECG L"] == "ignore"
    assert asked(bipolar={"ECG": ["ECG L", "X"]}, channels={"ECG L": "ecg"}).left_out == {}  # which is meant
    shared = asked(bipolar={"a": ["ECG L", "GSR"], "b": ["X", "GSR"]})
    assert (shared.bipolar, shared.left_out) == ({"a": ("ECG L", "GSR")}, {})


@pytest.mark.parametrize("key", ["Fz", "F?", "*"])
def test_a_difference_may_be_called_as_one_of_its_halves_and_is_never_taken_for_it(key):
    """A re-reference in place: an Fz that is not against A2 is none of the study's."""
    data = {"bipolar": {"Fz": ["Fz", "A2"]}, "channels": {key: "eeg"}}
    found = asked(**data)
    assert (found.bipolar, found.left_out) == ({}, {"Fz": "is half of Fz, and there is no A2"})
    assert next(iter(found.kinds.items())) == ("Fz", "ignore")
    data["bipolar"] = {"Fz": ["Fz", "GSR"]}
    assert asked(**data).bipolar == data["bipolar"] | {"Fz": ("Fz", "GSR")}
    assert asked({"Fz": "is bad"}, **data).left_out == {"Fz": "is made of Fz, and is bad"}


def test_half_a_difference_that_is_named_for_this_file_is_what_it_is_named():
    data = Table(reader="table", folder="x", bipolar={"ECG": ["ECG L", "X"]}, channels={"ECG*": "ecg", "*": "eeg"})
    assert names_of(PATH, HAS, data, {"ECG L": "ECG"}, {}).left_out == {}


def test_a_pattern_of_a_channels_very_name_counts_as_its_name():
    bad = {"X[1]": "is bad"}
    for channels in ({"X[[]1]": "eeg"}, {"X[1]": "eeg"}):
        assert names_of(PATH, ["X[1]"], Table(reader="table", folder="x", channels=channels), {}, bad).left_out == {}
    made = Table(reader="table", folder="x", bipolar={"D[1]": ["Fz", "GSR"]}, channels={"D[[]1]": "eeg", "*": "eeg"})
    found = names_of(PATH, HAS, made, {}, {"GSR": "is bad"})
    assert found.kinds == {"GSR": "ignore", "D[[]1]": "ignore", "*": "eeg"}


def test_names_that_change_nothing_or_make_a_difference_of_one():
    assert asked(rename={"Fz": "Fz"}).ours["Fz"] == "Fz"
    with pytest.raises(MtkdError, match=r"^x\.edf: data\.bipolar: D would be the difference of 'Fz' and itself$"):
        asked(rename={"Fz": "X"}, bipolar={"D": ["X", "Fz"]})


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"bipolar": {"ECG": ["Fz", "Fz"]}}, "bipolar.ECG is the difference of 'Fz' and itself"),
        ({"rename": {"Fz": ""}}, "rename has '', which is no name"),
        ({"bipolar": {"": ["A", "B"]}}, "bipolar has '', which is no name"),
        ({"rename": {"Fz": "\x1b[2J"}}, "which is no name"),
        ({"bipolar": {" ": ["A", "B"]}}, "bipolar has ' ', which is no name"),
    ],
)
def test_what_is_no_name_or_no_difference_is_refused(changes, told):
    with pytest.raises(ValidationError) as caught:
        asked(**changes)
    assert told in str(caught.value)


@pytest.mark.parametrize("names", [("GSR", "skin"), ("skin", "GSR")])
def test_of_two_units_that_of_the_files_own_name_holds(names):
    units = {"GSR": "uS", "skin": "nS"}
    assert asked(rename={"GSR": "skin"}, units={name: units[name] for name in names}).units == {"GSR": "uS"}
