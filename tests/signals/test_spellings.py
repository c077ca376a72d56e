"""Names of subjects and files in several spellings, and in none."""

import os
import unicodedata
from pathlib import Path

import edfio
import numpy as np
import pytest

from mtkd.config import Bids, Edf, Table
from mtkd.errors import MtkdError
from mtkd.signals.readers import find

JOSE = {form: unicodedata.normalize(form, "José") for form in ("NFC", "NFD")}


def write(folder: Path, *names: str) -> None:
    for name in names:
        edfio.Edf([edfio.EdfSignal(np.arange(640.0), 64, label="Fz", physical_dimension="uV")]).write(folder / name)


@pytest.mark.parametrize("form", JOSE)
def test_a_subject_in_two_spellings_is_one(tmp_path, form):
    write(tmp_path, "a.edf", "b.edf")
    (tmp_path / "trials.csv").write_text(f"file,subject\na.edf,{JOSE['NFC']}\nb.edf,{JOSE['NFD']}\n", encoding="utf-8")
    data = Table(reader="table", folder="x", subjects=[JOSE[form]])
    assert [file.subject for file in find(tmp_path, data).files] == [JOSE["NFC"]] * 2
    with pytest.raises(MtkdError, match="no file that the reader"):
        find(tmp_path, Table(reader="table", folder="x", exclude=[JOSE[form]]))


def test_a_subject_that_is_not_there_is_refused_with_those_that_are(tmp_path):
    write(tmp_path, "a.edf")
    (tmp_path / "trials.csv").write_text("file,subject\na.edf,s01\n")
    with pytest.raises(MtkdError, match=r"no file of the subject 1 that data\.subjects names; there are s01$"):
        find(tmp_path, Table(reader="table", folder="x", subjects=["1"]))


def test_a_name_that_is_no_text_is_told_or_refused(tmp_path):
    write(tmp_path, "a_rest.edf")
    strange = os.fsencode(tmp_path) + b"/caf\xe9.edf"
    os.link(tmp_path / "a_rest.edf", strange)
    data = Edf(reader="edf", folder="x", conditions={"rest": {"ratings": {"task": 0.0}}})
    (told,) = find(tmp_path, data).left_out
    assert told.isprintable()
    assert told.encode("utf-8")


def test_a_recording_whose_name_is_no_text_is_refused(bids_root):
    for path in sorted(bids_root.rglob("*sub-01*"), reverse=True):
        path.rename(path.with_name(path.name.replace("01", os.fsdecode(b"0\xe9"))))
    with pytest.raises(MtkdError, match=r"sub-0\\udce9_task-x_eeg\.edf: the file's name is not in UTF-8$"):
        find(bids_root, Bids(reader="bids", folder="x"))
