"""Teachers' answers less their mean over each training subject."""

import functools
from typing import Any

import pytest
import torch

from mtkd.cache.source import CachedSource, Source
from mtkd.distill.centre import CentredSource
from mtkd.distill.train import _tell_uneven, subjects_of, train
from mtkd.shards.batch import Batch, Cutter
from mtkd.shards.labels import UNLABELLED
from mtkd.study import changed, searched
from mtkd.training.fit import trained_state
from mtkd.training.fold import FoldData, fold_data, folds_of


@pytest.fixture
def data(pipeline: Any) -> FoldData:
    study = pipeline.study
    return fold_data(study, folds_of(study)[0], study.distill.modalities, study.windows)


@pytest.fixture
def plain(pipeline: Any, data: FoldData) -> Source:
    return CachedSource(pipeline.study, data.fold, ["temporal", "spatial"])


def batches(data: FoldData, size: int) -> list[Batch]:
    keys = data.keys(data.fold.train)
    return [data.cutter.batch(keys[start : start + size]) for start in range(0, len(keys), size)]


@pytest.mark.parametrize("size", [1, 3, 100])
def test_a_training_subjects_mean_is_taken_off(data: FoldData, plain: Source, size: int) -> None:
    subjects = subjects_of(data)
    centred = CentredSource(plain, batches(data, size), subjects)
    (whole,) = batches(data, 100)
    for name, signal in centred(whole).items():
        before = plain(whole)[name]
        assert torch.equal(signal.mask, before.mask)
        assert torch.equal(signal.confidence, before.confidence)
        for subject in data.fold.train:
            mine = torch.tensor([subjects[key] == subject for key in whole.keys])[:, None] & signal.mask
            for part in ("logits", "features"):
                own, was = getattr(signal, part)[mine], getattr(before, part)[mine]
                assert own.mean(0).abs().max() < 1e-4 * max(1, was.abs().max())
                torch.testing.assert_close(own - own[0], was - was[0], rtol=1e-4, atol=1e-4)


def test_other_subjects_are_told_as_they_are(data: FoldData, plain: Source) -> None:
    batch = data.cutter.batch(data.keys(data.fold.val + data.fold.test))
    centred = CentredSource(plain, batches(data, 4), subjects_of(data))
    for name, signal in centred(batch).items():
        assert torch.equal(signal.logits, plain(batch)[name].logits)
        assert torch.equal(signal.features, plain(batch)[name].features)
    assert all(torch.equal(mask, plain.masks(batch)[name]) for name, mask in centred.masks(batch).items())


def test_windows_that_a_teacher_did_not_hear_count_for_nothing(data: FoldData, plain: Source) -> None:
    (whole,) = batches(data, 100)
    heard = CentredSource(plain, [whole], subjects_of(data))

    class Deaf:
        """As though no teacher had heard the first window of any trial, and had said something wild of it."""

        def masks(self, batch: Batch) -> Any:
            raise AssertionError

        def __call__(self, batch: Batch) -> Any:
            said = {}
            for name, signal in plain(batch).items():
                wild = signal.logits.clone()
                wild[:, 0] = torch.nan
                mask = signal.mask.clone()
                mask[:, 0] = False
                said[name] = signal._replace(logits=wild, mask=mask)
            return said

    deaf = CentredSource(Deaf(), [whole], subjects_of(data))
    for key, mean in deaf._means.items():
        assert mean.isfinite().all()
        assert not torch.equal(mean, heard._means[key])


def test_a_teachers_offset_of_a_subject_changes_no_student(pipeline: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """It does change one whose teachers are not centred."""
    study, fold = pipeline.study, folds_of(pipeline.study)[0]
    read = CachedSource.__call__

    def shifted(self: CachedSource, batch: Batch) -> Any:
        offset = torch.tensor([2.0 * (key[:3] == fold.train[0]) for key in batch.keys])[:, None]
        direction = torch.tensor([1.0, -1.0, 0.5, -0.5])
        return {
            name: signal._replace(logits=signal.logits + offset[..., None] * direction)
            for name, signal in read(self, batch).items()
        }

    def trained(centre: str | None) -> list[torch.Tensor]:
        settings = changed(study.distill, {"centre": centre, "optim.epochs": 1, "dropout": 0.0}, "")
        found = []
        for call in (read, shifted):
            monkeypatch.setattr(CachedSource, "__call__", call)
            found.append(
                torch.cat([each.flatten() for each in trained_state(train(study, fold, settings)[0]).values()])
            )
        return found

    honest, moved = trained("subject")
    torch.testing.assert_close(honest, moved, rtol=1e-3, atol=1e-4)
    honest, moved = trained(None)
    assert (honest - moved).abs().max() > 1e-3


def test_it_means_nothing_to_a_student_without_teachers(pipeline: Any) -> None:
    alone = changed(pipeline.study.distill, {"teachers": {}, "ce": 1.0}, "")
    dump = functools.partial(alone.model_dump, exclude={"crossfit"})
    assert "centre" not in searched(dump(), alone)
    assert "centre" in searched(dump(), pipeline.study.distill)


def test_it_is_told_of_whom_centring_takes_more_than_an_offset(
    pipeline: Any, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    study, fold = pipeline.study, folds_of(pipeline.study)[0]
    uneven = fold.train[0]
    monkeypatch.setattr(Cutter, "label", lambda _, sample: 0 if sample.subject == uneven else int(sample.key[-1]) % 4)
    _tell_uneven(study, fold)
    told = capfd.readouterr().out
    assert f"fold {fold.index}: {uneven} had far more windows of one class" in told
    monkeypatch.setattr(Cutter, "label", lambda _, sample: int(sample.key[-1]) % 4)
    _tell_uneven(study, fold)
    assert not capfd.readouterr().out
    monkeypatch.setattr(Cutter, "label", lambda _, sample: UNLABELLED)  # of whom nothing is known
    _tell_uneven(study, fold)
    assert not capfd.readouterr().out
