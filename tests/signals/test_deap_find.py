"""Which of DEAP's files are taken: one form of each participant, from DEAP's own folders."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mtkd.config import Deap
from mtkd.errors import MtkdError
from mtkd.signals import readers

FOLDERS = {"dat": "data_preprocessed_python", "mat": "data_preprocessed_matlab", "bdf": "data_original"}
HEADER = "Participant_id,Trial,Experiment_id,Start_time,Valence,Arousal,Dominance,Liking,Familiarity"


def data(**changes) -> Deap:
    return Deap(reader="deap", folder="x", **changes)


def put(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def put_table(folder: Path, *participants: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    rows = [f"{participant},1,{participant},0,5,5,5,5,3" for participant in participants]
    (folder / "participant_ratings.csv").write_text("\n".join([HEADER, *rows]))


def names(folder: Path, **changes) -> list[str]:
    return [file.path.name for file in readers.find(folder, data(**changes)).files]


def refused(folder: Path, **changes) -> str:
    with pytest.raises(MtkdError) as caught:
        readers.find(folder, data(**changes))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_the_first_form_a_participant_has_is_taken_and_the_others_are_told(tmp_path):
    put(*(tmp_path / name for name in ("s01.dat", "s01.mat", "s01.bdf", "s02.mat", "s02.bdf", "s03.bdf")))
    put_table(tmp_path, 3)
    found = readers.find(tmp_path, data())
    assert [file.path.name for file in found.files] == ["s01.dat", "s02.mat", "s03.bdf"]
    assert [(file.name, file.subject) for file in found.files] == [(name, name) for name in ("s01", "s02", "s03")]
    assert found.left_out == {
        "s01.bdf": "its participant's .dat file is read",
        "s01.mat": "its participant's .dat file is read",
        "s02.bdf": "its participant's .mat file is read",
    }


@pytest.mark.parametrize("form", FOLDERS)
def test_a_study_may_ask_for_one_form(tmp_path, form):
    put(
        *(tmp_path / f"s01.{each}" for each in FOLDERS), *(tmp_path / f"s02.{each}" for each in FOLDERS if each != form)
    )
    put_table(tmp_path, 1)
    found = readers.find(tmp_path, data(format=form))
    assert [file.path.name for file in found.files] == [f"s01.{form}"]
    others = sorted(each for each in FOLDERS if each != form)
    read = {f"s01.{each}": f"its participant's .{form} file is read" for each in others}
    assert found.left_out == read | {f"s02.{each}": f"data.format is {form}" for each in others}


def test_a_form_that_nobody_has_is_refused(tmp_path):
    put(tmp_path / "s01.dat")
    assert refused(tmp_path, format="mat") == f"{tmp_path}: no file that the reader 'deap' takes"


def test_the_folders_deap_is_handed_out_in_are_looked_into(tmp_path):
    put(tmp_path / FOLDERS["dat"] / "s01.dat", tmp_path / FOLDERS["mat"] / "s02.mat")
    put(tmp_path / FOLDERS["bdf"] / "s01.bdf", tmp_path / FOLDERS["bdf"] / "s24.bdf", tmp_path / "other" / "s05.dat")
    put_table(tmp_path / "metadata_csv", 1, 24)
    assert names(tmp_path) == ["s01.dat", "s02.mat", "s24.bdf"]
    assert names(tmp_path, format="bdf") == ["s01.bdf", "s24.bdf"]
    assert names(tmp_path / FOLDERS["bdf"]) == ["s01.bdf", "s24.bdf"]


@pytest.mark.parametrize("place", [".", "metadata_csv", "Metadata", "metadata", FOLDERS["bdf"]])
def test_the_table_of_ratings_is_found_where_it_may_stand(tmp_path, place):
    put(tmp_path / FOLDERS["bdf"] / "s24.bdf")
    put_table(tmp_path / place, 24)
    (file,) = readers.find(tmp_path, data()).files
    rated = {"valence": 5, "arousal": 5, "dominance": 5, "liking": 5, "familiarity": 3}
    assert file.rows == [{"participant": 24, "trial": 1, "video": 24, "start_s": 0.0, "ratings": rated}]


def test_preprocessed_files_need_no_table(tmp_path):
    put(tmp_path / "s01.dat", tmp_path / "s01.bdf")
    assert names(tmp_path) == ["s01.dat"]
    assert "no participant_ratings.csv" in refused(tmp_path, format="bdf")


def test_only_files_of_participants_are_taken(tmp_path):
    put(
        *(
            tmp_path / name
            for name in ("s01.dat", "s10.dat", "s1.dat.bak", "notes.txt", "xs03.dat", "S04.DAT", "s5.edf")
        )
    )
    assert names(tmp_path) == ["s01.dat", "S04.DAT", "s10.dat"]


def test_subjects_and_exclude_name_participants(tmp_path):
    put(*(tmp_path / f"s0{number}.dat" for number in (1, 2, 3)))
    assert names(tmp_path, subjects=["s03", "s01"]) == ["s01.dat", "s03.dat"]
    assert names(tmp_path, exclude=["s02"]) == ["s01.dat", "s03.dat"]
    assert len(names(tmp_path, exclude=["s09"])) == 3  # a study's exclusions hold for a copy without those subjects


@pytest.mark.parametrize("other", ["s1.dat", f"{FOLDERS['dat']}/s01.dat"])
def test_two_files_of_one_participant_are_refused(tmp_path, other):
    put(tmp_path / "s01.dat", tmp_path / other)
    assert "is the same recording of the subject s01 as" in refused(tmp_path)


def test_a_folder_that_has_a_files_name_is_refused(tmp_path):
    (tmp_path / "s01.dat").mkdir()
    assert refused(tmp_path) == f"{tmp_path / 's01.dat'}: is no file"


@pytest.mark.parametrize("holds", [[], ["readme.txt"]])
def test_a_folder_without_recordings_is_refused(tmp_path, holds):
    put(*(tmp_path / name for name in holds))
    assert refused(tmp_path) == f"{tmp_path}: no file that the reader 'deap' takes"


@settings(max_examples=100)
@given(st.data())
def test_a_damaged_table_reads_or_is_refused_and_nothing_else(tmp_path_factory, changes):
    folder = tmp_path_factory.mktemp("table")
    rows = [f"5,{trial},{30 + trial},{trial},5,5,5,5,3" for trial in (1, 2, 3)]
    path = folder / "participant_ratings.csv"
    path.write_text("\n".join([HEADER, *rows]))
    damaged = bytearray(path.read_bytes())
    for _ in range(changes.draw(st.integers(1, 3))):
        place = changes.draw(st.integers(0, len(damaged) - 1))
        new = changes.draw(st.sampled_from([b"\0", b'"', b"\n", b",", b"\xff", b"-", b"nan"]) | st.binary(max_size=4))
        damaged[place : place + len(new)] = new
    path.write_bytes(damaged)
    (folder / "s05.bdf").touch()
    try:
        (file,) = readers.find(folder, data()).files
    except MtkdError as error:
        assert str(error).startswith(f"{path}: ")  # noqa: PT017
        assert "\n" not in str(error)  # noqa: PT017
    else:
        assert [each["trial"] for each in file.rows] == [*range(1, len(file.rows) + 1)]
