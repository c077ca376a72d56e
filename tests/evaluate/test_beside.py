"""Teachers that teach nobody: trained on the same folds, told in the table and held against the one that does teach."""

import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mtkd.config import Study
from mtkd.errors import MtkdError
from mtkd.evaluate.run import RESULTS, beside, unit_of
from mtkd.files import read_json
from mtkd.study import read_study, variants
from mtkd.training.fold import folds_of

ROWS = {"temporal teacher, random weights": "temporal teacher", "spatial teacher, fixed edges": "spatial teacher"}


@pytest.fixture(scope="module")
def changes(repo: Path, pipeline: Any, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """What the README's command says beside the study, on the small study in a workspace of its own."""
    (command,) = re.findall(r"^ {4}(mtkd run .*evaluate\.teachers=.*)$", (repo / "README.md").read_text(), re.MULTILINE)
    copied = pipeline.copy(tmp_path_factory.mktemp("beside") / "workspace")
    return [f"workspace={copied.workspace}", *shlex.split(command)[3:]]


@pytest.fixture(scope="module")
def study(pipeline: Any, changes: list[str]) -> Study:
    return read_study(pipeline.file, changes)


@pytest.fixture(scope="module")
def said(pipeline: Any, changes: list[str]) -> str:
    """What the stages say that make them."""
    command = [sys.executable, "-m", "mtkd", "run", str(pipeline.file), *changes]
    done = subprocess.run(command, capture_output=True, text=True, timeout=400, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_only_they_are_trained_and_on_every_fold(said: str) -> None:
    trained = [line for line in said.splitlines() if ": trained " in line]
    assert sorted(line.split("  ")[-1].split(": ")[0] for line in trained) == [
        f"{name}, fold {fold}, seed 0" for name in ("fixed edges", "random weights") for fold in (0, 1)
    ]


def test_they_stand_in_the_table_and_are_compared(study: Study, said: str) -> None:
    results = read_json(unit_of(study, folds_of(study)).folder / RESULTS)
    kinds = {model["name"]: model["kind"] for model in results["models"]}
    assert {name for name, kind in kinds.items() if kind == "beside"} == set(ROWS) == set(beside(study))
    for level in ("window", "trial"):
        block = results["levels"][level]["joint"]
        assert {(entry["model"], entry["baseline"]) for entry in block["beside"]} == set(ROWS.items())
        assert {entry["model"] for entry in block["comparisons"]}.isdisjoint(ROWS)
        for entry in block["beside"]:
            own, theirs = (block["models"][entry[key]]["subjects"] for key in ("model", "baseline"))
            differences = [own[subject][entry["metric"]] - theirs[subject][entry["metric"]] for subject in own]
            assert entry["mean_difference"] == pytest.approx(np.mean(differences))
        assert set(block["best_teacher"].values()) <= set(ROWS.values())  # no student was taught by another


def test_the_report_tells_of_them(study: Study, said: str) -> None:
    page = (unit_of(study, folds_of(study)).folder / "report.html").read_text()
    assert page.count("teacher that teaches nobody") == 2 * len(["joint", "valence", "arousal"])
    assert all(name in page for name in ROWS)


def test_what_teaches_is_what_it_was(pipeline: Any, study: Study) -> None:
    assert variants(study, "temporal")[""].temporal == pipeline.study.temporal
    assert variants(study, "temporal")["random weights"].temporal.pretrained is False
    assert set(variants(study, "spatial")) == {"", "fixed edges"}


@pytest.mark.parametrize(
    ("teachers", "told"),
    [
        ("{a: {temporal: {dtype: float64}}}", r"evaluate\.teachers\.a\.temporal: dtype: "),
        ("{a: {distill: {width: 8}}}", r"evaluate\.teachers\.a\.distill\.\[key\]: "),
        ("{a: {}}", "evaluate.teachers: 'a' changes 0 teachers, not one"),
        ("{a: {temporal: {deepspeed: null}}}", r"evaluate\.teachers\.a: temporal\.deepspeed is one for all teachers"),
        ("{a: {temporal: {optim.grad_clip: 2}}}", r"evaluate\.teachers\.a: temporal\.optim\.grad_clip is one for all"),
        (
            "{a: {temporal: {patch_s: 5}}}",
            r"evaluate\.teachers\.a: windows\.window_s is 6\.0 s, which temporal\.patch_s",
        ),
        (
            "{a: {temporal: {layers: 1}}, A: {temporal: {layers: 1}}}",
            "'temporal teacher, A' cannot name files of its own",
        ),
    ],
)
def test_what_is_none_is_refused_at_once(repo: Path, teachers: str, told: str) -> None:
    with pytest.raises(MtkdError, match=told):
        read_study(repo / "configs/study/simulated.yaml", [f"evaluate.teachers={teachers}"])
