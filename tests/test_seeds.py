"""Several seeds of one study: what is trained with each, what all share, and what the tables make of them."""

from typing import Any, get_args

import numpy as np
import pytest

from mtkd.cache import build as cache
from mtkd.cluster import most_units
from mtkd.config import Study, TeacherName
from mtkd.distill import train as distill
from mtkd.distill.settings import settings_of
from mtkd.errors import MtkdError
from mtkd.evaluate import run as evaluate
from mtkd.files import read_json
from mtkd.seeds import of_teachers, seeded, taught
from mtkd.study import read_study
from mtkd.training.fold import folds_of, jobs_of
from mtkd.workspace import Unit

TEACHERS: tuple[TeacherName, ...] = get_args(TeacherName)
STUDENTS = {"labels alone": {"teachers": {}, "ce": 1.0}, "distilled": {}}


@pytest.fixture(scope="module")
def study(pipeline: Any, tmp_path_factory: pytest.TempPathFactory) -> Study:
    """The small one with two seeds, of which the teachers of the first teach all."""
    copied = pipeline.copy(tmp_path_factory.mktemp("seeds") / "workspace")
    kept = copied.evaluate.model_copy(update={"students": STUDENTS, "teachers": {}})
    return copied.model_copy(update={"n_seeds": 2, "teacher_seed": copied.seed, "evaluate": kept})


@pytest.fixture(scope="module")
def units(study: Study) -> list[Unit]:
    return distill.run(study)


@pytest.fixture(scope="module")
def results(study: Study, units: list[Unit]) -> dict[str, Any]:
    return read_json(evaluate.run(study).folder / evaluate.RESULTS)


def test_seeds_follow_each_other(study: Study) -> None:
    alone = study.model_copy(update={"teacher_seed": None, "seed": 5, "n_seeds": 3})
    assert [own.seed for own in seeded(alone)] == [own.seed for own in of_teachers(alone)] == [5, 6, 7]
    assert [own.seed for own in of_teachers(alone.model_copy(update={"teacher_seed": 9}))] == [9]
    assert all(taught(own).seed == own.seed for own in seeded(alone))
    assert all(own.n_seeds == 1 for own in seeded(alone) + of_teachers(alone))


@pytest.mark.parametrize("teacher", TEACHERS)
def test_teachers_are_trained_with_each_seed_or_with_one(study: Study, teacher: TeacherName) -> None:
    def unit_of(own: Study, fold: Any) -> Unit:
        return cache.teacher_unit(own, fold, teacher)

    one = jobs_of(study, teacher, unit_of)
    each = jobs_of(study.model_copy(update={"teacher_seed": None}), teacher, unit_of)
    assert [job.title for job in one] == ["fold 0, seed 0", "fold 1, seed 0"]
    assert [job.title for job in each] == [f"fold {fold}, seed {seed}" for seed in (0, 1) for fold in (0, 1)]
    assert len({job.unit.folder for job in each}) == 4
    assert {job.unit.folder for job in one} == {job.unit.folder for job in each[:2]}
    assert all(job.unit.stands() for job in one)  # those of the pipeline


def test_parts_are_counted_with_their_seeds(study: Study) -> None:
    each = study.model_copy(update={"teacher_seed": None})
    assert [most_units(study, stage) for stage in ("temporal", "cache", "distill")] == [2, 4, 8]
    assert [most_units(each, stage) for stage in ("temporal", "cache", "distill")] == [4, 8, 8]


def test_students_of_all_seeds_hear_the_same_teachers(study: Study, units: list[Unit], pipeline: Any) -> None:
    assert len(units) == len({unit.folder for unit in units}) == 8
    assert {unit.inputs["seed"] for unit in units} == {0, 1}
    for fold in folds_of(study):
        own = [unit for unit in units if unit.inputs["fold"] == fold.index and unit.inputs["cache"]]
        assert len({str(unit.inputs["cache"]) for unit in own}) == 1
        settings = settings_of(study, "distilled", fold)
        first = distill.unit_of(pipeline.study, fold, settings)
        assert first.fingerprint in {unit.fingerprint for unit in own}  # what one seed trained stands for several
        weights = {unit.manifest().files["weights.safetensors"].blake3 for unit in own}
        assert len(weights) == 2


def test_all_are_reused(study: Study, units: list[Unit], capsys: pytest.CaptureFixture[str]) -> None:
    distill.run(study)
    said = capsys.readouterr().out
    assert "distilled: reused 4 of 4 trainings" in said
    assert ": trained " not in said


def test_figures_are_means_over_seeds(study: Study, results: dict[str, Any]) -> None:
    assert (results["protocol"]["n_seeds"], results["protocol"]["n_teacher_seeds"]) == (2, 1)
    assert (results["provenance"]["seeds"], results["provenance"]["teacher_seeds"]) == ([0, 1], [0])
    apart = [read_json(evaluate.run(own).folder / evaluate.RESULTS) for own in seeded(study)]
    assert [each["provenance"]["seeds"] for each in apart] == [[0], [1]]
    for level, name in (("window", "distilled"), ("trial", "labels alone")):
        found, *each = (every["levels"][level]["joint"]["models"][name] for every in [results, *apart])
        assert (found["n_seeds"], found["n_rows"]) == (2, each[0]["n_rows"])
        assert found["pooled"]["auroc"] == pytest.approx(np.mean([one["pooled"]["auroc"] for one in each]))
        for subject, values in found["subjects"].items():
            own = [one["subjects"][subject]["balanced_accuracy"] for one in each]
            assert values["balanced_accuracy"] == pytest.approx(np.mean(own))
    teacher, *each = (every["levels"]["window"]["joint"]["models"]["spatial teacher"] for every in [results, *apart])
    assert teacher == each[0] == each[1]
    assert teacher["n_seeds"] == 1


def test_the_report_tells_of_them(study: Study, results: dict[str, Any]) -> None:
    page = (evaluate.run(study).folder / evaluate.REPORT).read_text(encoding="utf-8")
    assert "training seeds: 2 (of teachers: 1), and every" in page
    assert "<th>sd between seeds</th>" in page
    entry = results["levels"]["window"]["joint"]["models"]["distilled"]["sd_seeds"]
    told = " / ".join(f"{entry[metric]:.3f}" for metric in ("balanced_accuracy", "auroc", "auroc_among_all"))
    assert f"<td>{told}</td>" in page
    assert "These numbers come from 2 training seeds; the protocol asks for 5" in page


def test_more_seeds_than_there_are_numbers_are_refused(pipeline: Any) -> None:
    changes = ["seed=4294967295", "n_seeds=2"]
    with pytest.raises(MtkdError, match=r"seed = 4294967295 and the 1 after it exceed 2\*\*32 - 1"):
        read_study(pipeline.file, changes)
