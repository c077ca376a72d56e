"""Which settings a student is trained with on a fold."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from mtkd.config import Study, Sweep
from mtkd.distill.settings import NotSweptYet, apply_best, base_settings, is_swept, sealed, settings_of, sweep_unit
from mtkd.errors import MtkdError
from mtkd.signals.splits import make_folds
from mtkd.study import changed
from mtkd.training.fold import folds_of

BEST = "sweep/best-distilled-swept.yaml"


@pytest.fixture
def best(pipeline: Any) -> Path:
    return Path(pipeline.study.workspace) / BEST


def with_settings(study: Study, path: Path) -> Study:
    return study.model_copy(update={"distill": study.distill.model_copy(update={"settings": str(path)})})


def write(path: Path, content: Any) -> Path:
    path.write_text(content if isinstance(content, str) else yaml.safe_dump(content))
    return path


def test_a_student_is_the_distill_section_with_its_changes(pipeline: Any) -> None:
    assert base_settings(pipeline.study, "distilled") == pipeline.study.distill
    alone = base_settings(pipeline.study, "labels alone")
    assert alone == pipeline.study.distill.model_copy(update={"teachers": {}})


def test_swept_settings_are_those_of_each_fold(pipeline: Any, best: Path) -> None:
    content = yaml.safe_load(best.read_text())
    for fold in folds_of(pipeline.study):
        expected = changed(pipeline.study.distill, content["folds"][fold.index], "")
        assert settings_of(pipeline.study, "distilled, swept", fold) == expected
        assert expected != pipeline.study.distill


def test_the_sweeps_file_is_taken_as_settings(pipeline: Any, best: Path) -> None:
    study = with_settings(pipeline.study, best)
    for fold in folds_of(study):
        own = settings_of(study, "distilled", fold)
        assert own == settings_of(pipeline.study, "distilled, swept", fold)
        assert own.settings is None  # so that the unit is the same, wherever the settings came from


def test_folds_may_differ(pipeline: Any, tmp_path: Path) -> None:
    folds = folds_of(pipeline.study)
    changes = {fold.index: {"temperature": 1.0 + fold.index, "optim.lr": 0.125} for fold in folds}
    content = {
        "teachers": {"temporal": 1.0, "spatial": 1.0},
        "folds": changes,
        "seals": {fold.index: sealed(pipeline.study, fold, changes[fold.index]) for fold in folds},
    }
    study = with_settings(pipeline.study, write(tmp_path / "best.yaml", content))
    found = [settings_of(study, "distilled", fold) for fold in folds]
    assert [own.temperature for own in found] == [1.0, 2.0]
    assert {own.optim.lr for own in found} == {0.125}
    assert found[0].optim.epochs == pipeline.study.distill.optim.epochs


@pytest.mark.parametrize("teachers", [{}, {"spatial": 1.0}, {"temporal": 1.0, "spatial": 0.5}])
def test_what_was_chosen_for_others_means_nothing_to_a_student(pipeline: Any, best: Path, teachers: Any) -> None:
    fold = folds_of(pipeline.study)[0]
    base = pipeline.study.distill.model_copy(update={"teachers": teachers})
    given = base.model_copy(update={"settings": str(best)})
    assert apply_best(pipeline.study, given, best, fold) == base
    assert not is_swept(given)
    assert is_swept(given.model_copy(update={"teachers": pipeline.study.distill.teachers}))


def test_only_swept_students_are_swept(pipeline: Any) -> None:
    students = {name: is_swept(base_settings(pipeline.study, name)) for name in pipeline.study.evaluate.students}
    assert students == {"labels alone": False, "distilled": False, "distilled, swept": True}


def test_a_file_chosen_on_another_split_is_refused(pipeline: Any, best: Path) -> None:
    subjects = sorted({subject for fold in folds_of(pipeline.study) for subject in fold.test})
    other = make_folds(subjects, pipeline.study.splits.model_copy(update={"seed": 5}))[0]
    assert other.fingerprint != folds_of(pipeline.study)[0].fingerprint
    with pytest.raises(MtkdError, match=f"{best}: chosen on other data, labels, windows, cross-fitting or "):
        apply_best(pipeline.study, pipeline.study.distill, best, other)


def test_a_file_that_was_changed_since_is_refused(pipeline: Any, best: Path, tmp_path: Path) -> None:
    """The seal is of the settings too: with those of another fold it is none."""
    content = yaml.safe_load(best.read_text(encoding="utf-8"))
    content["folds"][0] = content["folds"][0] | {"temperature": 4.9}
    changed = write(tmp_path / "changed.yaml", content)
    with pytest.raises(MtkdError, match=f"{changed}: chosen on .*, or changed since; settings of your own are keys of"):
        apply_best(pipeline.study, pipeline.study.distill, changed, folds_of(pipeline.study)[0])


def test_a_file_chosen_on_other_labels_is_refused(pipeline: Any, best: Path) -> None:
    study = pipeline.study.model_copy(update={"labels": {"valence": 4.0, "arousal": 5.0}})
    with pytest.raises(MtkdError, match=f"{best}: chosen on other data, labels"):
        apply_best(study, study.distill, best, folds_of(study)[0])


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        "folds: 3",
        "folds: {0: {}}",
        "teachers: {}\nfolds: {}",
        "teachers: x\nfolds: {0: {}}\nseals: {0: a}",
        pytest.param("teachers: " + "[" * 100_000 + "]" * 100_000, id="deep"),  # libyaml would crash
        "teachers: !!timestamp x",
        "a: [1",
        "\x00",
        "teachers: {temporal: 1.0, spatial: 1.0}\nfolds: {0: {}}\nseals: 7",
    ],
)
def test_a_file_that_is_none_of_the_sweeps_is_refused(pipeline: Any, tmp_path: Path, content: str) -> None:
    path, fold = write(tmp_path / "best.yaml", content), folds_of(pipeline.study)[0]
    with pytest.raises(MtkdError, match=f"{path}: ") as refused:
        settings_of(with_settings(pipeline.study, path), "distilled", fold)
    assert "\n" not in str(refused.value)


def write_changes(path: Path, study: Study, fold: Any, changes: Any) -> Path:
    """A sweep's file for the first fold, right in all but perhaps the changes."""
    seals = {0: sealed(study, fold, changes) if isinstance(changes, dict) else "none"}
    return write(path, {"teachers": study.distill.teachers, "folds": {0: changes}, "seals": seals})


@pytest.mark.parametrize("changes", [{"teachers": {}}, {"settings": "sweep"}, {"modalities": ["temp"]}])
def test_a_file_cannot_make_another_student(pipeline: Any, tmp_path: Path, changes: Any) -> None:
    fold = folds_of(pipeline.study)[0]
    path = write_changes(tmp_path / "best.yaml", pipeline.study, fold, changes)
    with pytest.raises(MtkdError, match=f"{path}: {next(iter(changes))} makes another student"):
        settings_of(with_settings(pipeline.study, path), "distilled", fold)


@pytest.mark.parametrize(
    "changes",
    [
        {"no_such_key": 1},
        {"optim.lr": "fast"},
        {"width": 0},
        {"optim": 3},
        5,
        ["width"],
        {1: 2},
        {"[modalities]": ["emg"]},
    ],
)
def test_a_file_with_impossible_settings_is_refused(pipeline: Any, tmp_path: Path, changes: Any) -> None:
    fold = folds_of(pipeline.study)[0]
    path = write_changes(tmp_path / "best.yaml", pipeline.study, fold, changes)
    with pytest.raises(MtkdError, match=f"{path}: ") as refused:
        settings_of(with_settings(pipeline.study, path), "distilled", fold)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("name", ["none.yaml", ""])
def test_a_missing_file_is_named(pipeline: Any, tmp_path: Path, name: str) -> None:
    with pytest.raises(MtkdError, match=f"{tmp_path / name}"):
        settings_of(with_settings(pipeline.study, tmp_path / name), "distilled", folds_of(pipeline.study)[0])


def test_a_student_waits_for_a_search_that_has_not_been_made(pipeline: Any) -> None:
    searched = pipeline.study.sweep.search | {"hint": Sweep.Range(low=0.5, high=0.6)}
    study = pipeline.study.model_copy(update={"sweep": pipeline.study.sweep.model_copy(update={"search": searched})})
    with pytest.raises(NotSweptYet, match=r"evaluate\.students\.distilled, swept takes swept settings"):
        settings_of(study, "distilled, swept", folds_of(study)[0])


def test_a_search_without_teachers_does_not_depend_on_their_ranges(pipeline: Any) -> None:
    searched = pipeline.study.sweep.search | {"kd": Sweep.Range(low=0.5, high=0.6)}
    study = pipeline.study.model_copy(update={"sweep": pipeline.study.sweep.model_copy(update={"search": searched})})
    fold = folds_of(study)[0]
    for name, same in (("labels alone", True), ("distilled", False)):
        ours, theirs = (sweep_unit(each, fold, base_settings(each, name)) for each in (study, pipeline.study))
        assert (ours.folder == theirs.folder) == same
