"""Teachers that teach nobody: trained on the same folds, told in the table and held against the one that does teach."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mtkd.config import Study
from mtkd.errors import MtkdError
from mtkd.evaluate.run import RESULTS, beside, unit_of
from mtkd.files import read_json, write_json
from mtkd.study import changed, read_study, variants
from mtkd.training.fold import folds_of

BESIDE = {"sees the future": {"temporal": {"causal": False}}, "fixed edges": {"spatial": {"learned_adjacency": False}}}
ROWS = {"temporal teacher, sees the future": "temporal teacher", "spatial teacher, fixed edges": "spatial teacher"}


@pytest.fixture(scope="module")
def study(pipeline: Any, tmp_path_factory: pytest.TempPathFactory) -> Study:
    """The pipeline's study with two of them."""
    copied = pipeline.copy(tmp_path_factory.mktemp("beside") / "workspace")
    return copied.model_copy(update={"evaluate": changed(copied.evaluate, {"teachers": BESIDE}, "evaluate")})


@pytest.fixture(scope="module")
def said(study: Study, tmp_path_factory: pytest.TempPathFactory) -> str:
    """What the stages say that make them."""
    path = tmp_path_factory.mktemp("study") / "study.yaml"
    write_json(path, study.model_dump())
    done = subprocess.run([sys.executable, "-m", "mtkd", "run", str(path)], capture_output=True, text=True, timeout=400)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_only_they_are_trained_and_on_every_fold(said: str) -> None:
    trained = [line for line in said.splitlines() if ": trained " in line]
    assert sorted(line.split("  ")[-1].split(": ")[0] for line in trained) == [
        "fixed edges, fold 0",
        "fixed edges, fold 1",
        "sees the future, fold 0",
        "sees the future, fold 1",
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
        assert block["best_teacher"] in ROWS.values()  # no student was taught by another


def test_the_report_tells_of_them(study: Study, said: str) -> None:
    page = (unit_of(study, folds_of(study)).folder / "report.html").read_text()
    assert page.count("teacher that teaches nobody") == 2 * len(["joint", "valence", "arousal"])
    assert all(name in page for name in ROWS)


def test_what_teaches_is_what_it_was(pipeline: Any, study: Study) -> None:
    assert variants(study, "temporal")[""].temporal == pipeline.study.temporal
    assert variants(study, "temporal")["sees the future"].temporal.causal is False
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
