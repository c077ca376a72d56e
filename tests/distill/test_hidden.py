"""Training subjects whose labels are hidden: heard by students through their teachers, and by nobody else."""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

from mtkd.cache import build
from mtkd.config import Distill, Splits, Study
from mtkd.distill.train import train
from mtkd.shards import batch
from mtkd.shards.labels import UNLABELLED
from mtkd.signals.splits import Fold
from mtkd.teachers.spatial import train as spatial
from mtkd.training.fit import trained_state
from mtkd.training.fold import fold_data, folds_of, jobs_of


@pytest.fixture(scope="module")
def study(pipeline: Any, tmp_path_factory: pytest.TempPathFactory) -> Study:
    """The small one with a single labelled subject a fold, and the graph teachers that learn from it."""
    copied = pipeline.copy(tmp_path_factory.mktemp("hidden") / "workspace")
    splits = Splits(**copied.splits.model_dump() | {"n_labelled": 1})
    made = copied.model_copy(update={"splits": splits})
    spatial.run(made)
    for job in jobs_of(made, "spatial", functools.partial(build.unit_of, teacher="spatial")):
        build._write(job, "spatial")
    return made


@pytest.fixture(scope="module")
def fold(study: Study) -> Fold:
    return folds_of(study)[0]


def student(study: Study, **changes: Any) -> Distill:
    optim = study.distill.optim.model_copy(update={"epochs": 2})
    return study.distill.model_copy(update={"teachers": {"spatial": 1.0}, "optim": optim} | changes)


def test_teachers_take_their_signals_scales(study: Study, fold: Fold, pipeline: Any) -> None:
    """The same as with all their labels."""
    assert len(fold.train) == 1
    assert fold.hidden
    unit, whole = (spatial.unit_of(each, folds_of(each)[0]) for each in (study, pipeline.study))
    assert unit.manifest().measured["subjects"] == sorted(fold.training + fold.val)
    fewer, every = (safetensors.torch.load_file(each.folder / "weights.safetensors") for each in (unit, whole))
    torch.testing.assert_close(fewer["scale.mean"], every["scale.mean"])
    torch.testing.assert_close(fewer["scale.std"], every["scale.std"])


def test_what_they_were_rated_changes_no_teacher(
    study: Study, fold: Fold, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = spatial.unit_of(study, fold)
    weights = (before.folder / "weights.safetensors").read_bytes()
    monkeypatch.setattr(batch, "class_index", turned(fold.hidden))
    before.folder.rename(tmp_path / "before")
    spatial._train(next(job for job in jobs_of(study, "spatial", spatial.unit_of) if job.fold.index == fold.index))
    assert (before.folder / "weights.safetensors").read_bytes() == weights


def test_their_labels_are_hidden_and_their_answers_are_cached(study: Study, fold: Fold) -> None:
    data = fold_data(study, fold, ["eda"], study.windows)
    assert set(data.labels(fold.hidden)) == {UNLABELLED}
    assert UNLABELLED not in data.labels(fold.train + fold.test)
    cached = {sample.subject for sample in build.ShardSet(build.unit_of(study, fold, "spatial").folder).index.samples}
    assert set(fold.hidden) <= cached


def test_students_hear_of_them_and_those_from_labels_alone_take_scales(study: Study, fold: Fold) -> None:
    _, history, heard = train(study, fold, student(study))
    assert heard.subjects == {*fold.train, *fold.hidden, *fold.val}
    assert "train/kd/spatial" in history.epochs[0]
    model, _, alone = train(study, fold, student(study, teachers={}, ce=1.0))
    assert alone.subjects == heard.subjects
    distilled = train(study, fold, student(study, modality_dropout=0.0))[0]
    for name, value in model.named_buffers():
        assert torch.equal(value, dict(distilled.named_buffers())[name]), name


def turned(of_whom: list[str]) -> Callable[..., int]:
    """``class_index``, but for some subjects another class."""
    found = batch.class_index

    def otherwise(sample: Any, labels: dict[str, float]) -> int:
        label = found(sample, labels)
        return 3 - label if sample.subject in of_whom and label != UNLABELLED else label

    return otherwise


def test_what_they_were_rated_changes_nothing(study: Study, fold: Fold, monkeypatch: pytest.MonkeyPatch) -> None:
    """A leak of hidden labels would show; that of a labelled subject does."""

    def trained(of_whom: list[str]) -> dict[str, torch.Tensor]:
        with monkeypatch.context() as patched:
            patched.setattr(batch, "class_index", turned(of_whom))
            return trained_state(train(study, fold, student(study))[0])

    honest, leaked, noticed = trained([]), trained(fold.hidden), trained(fold.train)
    assert all(torch.equal(honest[name], leaked[name]) for name in honest)
    assert not all(torch.equal(honest[name], noticed[name]) for name in honest)


def test_another_number_of_labelled_subjects_is_another_student(study: Study, fold: Fold, pipeline: Any) -> None:
    whole = folds_of(pipeline.study)[0]
    assert whole.fingerprint != fold.fingerprint
    assert not Path(spatial.unit_of(study, fold).folder).samefile(spatial.unit_of(pipeline.study, whole).folder)
