"""The study to copy for recordings of one's own: it takes what it says, from the files to the picture of a trial."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import edfio
import numpy as np

UNITS = {"Fz": "uV", "Cz": "uV", "Pz": "uV", "ECG": "mV", "EDA": "uS", "RESP": ""}
LEVELS = {"EDA": 5.0}


def test_the_study_to_copy_takes_files_and_a_table(mtkd: Callable[..., Any], repo: Path, tmp_path: Path) -> None:
    folder = tmp_path / "recordings"
    folder.mkdir()
    random = np.random.default_rng(0)
    for subject in ("anna", "ben", "cleo"):
        signals = [
            edfio.EdfSignal(
                LEVELS.get(name, 0.0) + random.standard_normal(40 * 256), 256, label=name, physical_dimension=unit
            )
            for name, unit in UNITS.items()
        ]
        edfio.Edf(signals).write(folder / f"{subject}.edf")
    rows = [
        f"{name}.edf,{name},{start},{start + 12},{start > 10:d}"
        for name in ("anna", "ben", "cleo")
        for start in (4, 20)
    ]
    (folder / "trials.csv").write_text("\n".join(["file,subject,start_s,stop_s,stress", *rows, ""]))
    given = (repo / "configs/study/table.yaml", f"data.folder={folder}", f"workspace={tmp_path / 'ws'}")
    built = mtkd("shards", *given)
    assert built.code == 0, built.err
    assert "6 trials of 3 subjects" in built.out
    assert "labels:" not in built.out
    told = mtkd("inspect", *given)
    assert told.code == 0, told.err
    assert "trials by subject: anna 2, ben 2, cleo 2" in told.out
    assert "trials from anna_anna-1 to cleo_cleo-2" in told.out
    assert "no body gives" not in told.out
    assert (tmp_path / "ws" / "inspect" / "anna_anna-1.png").is_file()
