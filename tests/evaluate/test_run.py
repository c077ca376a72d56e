"""The stage that scores every model on the test subjects, as the pipeline ran it."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mtkd.cache.build import load_teacher, teacher_unit
from mtkd.distill.settings import settings_of
from mtkd.distill.train import unit_of as student_unit
from mtkd.errors import MtkdError
from mtkd.evaluate import run
from mtkd.evaluate.answers import Answering, student_answers, teacher_answers
from mtkd.evaluate.importance import electrode_importance
from mtkd.evaluate.predictions import Predictions
from mtkd.files import slug
from mtkd.layers.heads import TeacherSignal
from mtkd.shards.build import open_shards
from mtkd.signals.channels import GENEVA
from mtkd.training.fold import fold_data, folds_of

MODELS = {
    "majority": "trivial",
    "class share": "trivial",
    "temporal teacher": "teacher",
    "spatial teacher": "teacher",
    "labels alone": "student",
    "distilled": "student",
    "distilled, swept": "student",
}


@pytest.fixture
def folder(pipeline: Any) -> Path:
    (found,) = pipeline.units("evaluate")
    return found


@pytest.fixture
def results(folder: Path) -> dict[str, Any]:
    return json.loads((folder / run.RESULTS).read_text())


@pytest.fixture
def predictions(folder: Path) -> dict[str, Predictions]:
    found = {}
    for name in MODELS:
        with np.load(folder / f"predictions-{slug(name)}.npz") as arrays:
            found[name] = Predictions(**arrays)
    return found


def test_every_model_is_there_with_its_kind(results: dict[str, Any]) -> None:
    assert {model["name"]: model["kind"] for model in results["models"]} == MODELS


def test_every_subject_is_tested_once_by_models_that_never_saw_it(
    pipeline: Any, results: dict[str, Any], predictions: dict[str, Predictions]
) -> None:
    tested = [subject for fold in results["folds"] for subject in fold["test"]]
    assert sorted(tested) == [f"s{index:02d}" for index in range(1, 7)]
    for fold in results["folds"]:
        assert not set(fold["test"]) & {*fold["train"], *fold["val"]}
        assert not set(fold["train"]) & set(fold["val"])
    fold_of = {subject: fold["fold"] for fold in results["folds"] for subject in fold["test"]}
    for rows in predictions.values():
        assert all(fold_of[subject] == fold for subject, fold in zip(rows.subject, rows.fold, strict=True))
        assert set(rows.subject) == set(fold_of)


def test_unrated_trials_are_answered_but_not_scored(
    results: dict[str, Any], predictions: dict[str, Predictions]
) -> None:
    assert results["protocol"]["n_trials"] == 22  # of 23
    rows = predictions["distilled"]
    assert set(rows.label[rows.trial == "s03_t01"]) == {-1}
    assert len(rows) == 230
    assert len(rows.labelled()) == 220


def test_labels_are_the_quadrants_of_the_recordings(pipeline: Any, predictions: dict[str, Predictions]) -> None:
    samples = open_shards(pipeline.study)[1].samples
    rows = predictions["labels alone"].labelled()
    for trial, label in {*zip(rows.trial, rows.label.tolist(), strict=True)}:
        ratings = samples[trial].ratings
        assert label == (ratings["valence"] > 5) + 2 * (ratings["arousal"] > 5)


def test_numbers_in_the_table_follow_from_the_predictions(
    results: dict[str, Any], predictions: dict[str, Predictions]
) -> None:
    for name, rows in predictions.items():
        block = results["levels"]["window"]["joint"]["models"][name]
        rated = rows.labelled()
        recalls = [np.mean(rated.right[rated.label == label]) for label in range(4) if (rated.label == label).any()]
        assert block["pooled"]["balanced_accuracy"] == pytest.approx(np.mean(recalls)), name


def test_the_majority_is_that_of_the_training_subjects(pipeline: Any, predictions: dict[str, Predictions]) -> None:
    rows = predictions["majority"]
    for fold in folds_of(pipeline.study):
        data = fold_data(pipeline.study, fold, [], pipeline.study.windows)
        counts = np.bincount([label for label in data.labels(fold.train) if label >= 0], minlength=4)
        assert (counts[rows.decision[rows.fold == fold.index]] == counts.max()).all()


def test_teachers_answer_from_the_cache_and_students_anew(pipeline: Any, predictions: dict[str, Predictions]) -> None:
    study, fold = pipeline.study, folds_of(pipeline.study)[1]
    settings = settings_of(study, "distilled", fold)
    found = {
        "temporal teacher": teacher_answers(study, fold, "temporal"),
        "spatial teacher": teacher_answers(study, fold, "spatial"),
        "distilled": student_answers(study, fold, settings, student_unit(study, fold, settings)),
    }
    for name, rows in found.items():
        written = predictions[name].rows(predictions[name].fold == 1)
        assert set(rows.subject) == set(fold.test)
        assert np.array_equal(rows.trial, written.trial)
        assert np.array_equal(rows.window, written.window)
        assert rows.probs == pytest.approx(written.probs, abs=1e-6)
        assert rows.confidence == pytest.approx(written.confidence, abs=1e-6)


def test_a_student_that_was_given_a_test_subject_is_refused(pipeline: Any) -> None:
    """The folds' students exchanged: each was trained with what the other is tested on."""
    first, second = folds_of(pipeline.study)
    settings = settings_of(pipeline.study, "labels alone", first)
    wrong = student_unit(pipeline.study, second, settings)
    with pytest.raises(MtkdError, match=f"{wrong.folder}: was trained with s0., a test subject of fold 0"):
        student_answers(pipeline.study, first, settings, wrong)


def test_windows_without_signal_are_left_with_the_class_shares(pipeline: Any) -> None:
    study, fold = pipeline.study, folds_of(pipeline.study)[0]
    data = fold_data(study, fold, study.distill.modalities, study.windows)
    batch = data.cutter.batch(data.keys(fold.test))
    n_trials, n_steps = batch.steps.shape
    mask = torch.ones(n_trials, n_steps, dtype=torch.bool)
    mask[0, 3:5] = False
    said = TeacherSignal(
        torch.randn(n_trials, n_steps, 4), torch.zeros(n_trials, n_steps, 1), torch.full(mask.shape, 0.7), mask
    )
    asked = Answering(study.model_copy(update={"seed": 3}), data.fold, [])
    rows, shares = asked.rows(said, batch), asked.class_shares
    assert rows.seeds == [3]
    assert len(rows) == n_trials * n_steps  # as many as any other model has
    unheard = rows.confidence == 0
    assert set(zip(rows.trial[unheard], rows.window[unheard].tolist(), strict=True)) == {
        (batch.keys[0], 3),
        (batch.keys[0], 4),
    }
    assert rows.probs[unheard] == pytest.approx(np.stack([shares, shares]))
    labels = [label for label in data.labels(fold.train) if label >= 0]
    assert shares == pytest.approx(np.bincount(labels, minlength=4) / len(labels))


def test_it_names_what_it_was_made_of(pipeline: Any, results: dict[str, Any], folder: Path) -> None:
    provenance = results["provenance"]
    assert folder.name.endswith(provenance["fingerprint"])
    for index, fold in enumerate(folds_of(pipeline.study)):
        for label, teacher in (("temporal teacher", "temporal"), ("spatial teacher", "spatial")):
            digest = teacher_unit(pipeline.study, fold, teacher).manifest().digest
            assert provenance["models"][label][index] == digest
    assert provenance["seeds"] == [0]
    assert {"torch", "deepspeed", "mtkd"} <= provenance["versions"].keys()


def test_other_models_make_another_evaluation(pipeline: Any) -> None:
    folds = folds_of(pipeline.study)
    changes = {"evaluate": pipeline.study.evaluate.model_copy(update={"n_bins": 7})}
    other = pipeline.study.model_copy(update=changes)
    assert run.unit_of(other, folds).folder != run.unit_of(pipeline.study, folds).folder


def test_a_model_that_is_not_there_is_named(pipeline: Any, mtkd: Callable[..., Any]) -> None:
    before = sorted((Path(pipeline.study.workspace) / "evaluate").iterdir())
    ended = mtkd("evaluate", pipeline.file, "distill.width=12")
    assert ended.code == 2
    assert "not there yet; run `mtkd distill` first" in ended.err
    assert len(ended.err.splitlines()) == 1
    assert sorted((Path(pipeline.study.workspace) / "evaluate").iterdir()) == before


def test_electrode_importance_is_gradient_times_input(pipeline: Any) -> None:
    study, folds = pipeline.study, folds_of(pipeline.study)
    found, *each = electrode_importance(study, folds)
    assert found["ch_names"] == GENEVA
    values, learned = found["values"], found["learned"]
    np.testing.assert_allclose(values, np.mean([fold["values"] for fold in each], axis=0))
    assert values.shape == (32,)
    assert (values > 0).all()
    assert learned.shape == (32, 32)
    assert np.array_equal(learned, learned.T)
    assert learned.any()
    assert not learned.diagonal().any()


def test_an_electrode_that_the_teacher_cannot_hear_is_not_important(pipeline: Any, tmp_path: Path) -> None:
    """The readout's weights of one electrode, and its edges, are cut: its importance vanishes and no other's does."""
    import shutil

    from mtkd.training.checkpoint import save_weights
    from mtkd.training.fit import trained_state

    study, fold = pipeline.copy(tmp_path / "workspace"), folds_of(pipeline.study)[0]
    shards = open_shards(study)[1]
    teacher = load_teacher(study, shards, fold, "spatial")
    with torch.no_grad():
        teacher.model.near[5] = teacher.model.near[:, 5] = 0
        teacher.model.learned[5] = teacher.model.learned[:, 5] = 0
        teacher.model.readout[2].weight.view(-1, 32, teacher.model.features.n_features + study.spatial.width)[:, 5] = 0
    unit = teacher_unit(study, fold, "spatial")
    before = unit.manifest().measured
    shutil.rmtree(unit.folder)
    with unit.build() as (aside, measured):
        measured.update(before)
        save_weights(trained_state(teacher.model), aside / "weights.safetensors")
    values = electrode_importance(study, [fold])[0]["values"]
    assert values[5] == pytest.approx(0, abs=1e-12)
    assert np.delete(values, 5).min() > 1e-6
