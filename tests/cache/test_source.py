"""Where the student hears its teachers, and what it refuses to hear."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

from mtkd.cache import build
from mtkd.cache.live import LiveSource
from mtkd.cache.source import CachedSource, Source
from mtkd.config import Cache, Study
from mtkd.distill.train import train
from mtkd.errors import MtkdError
from mtkd.shards.batch import Batch
from mtkd.shards.build import open_shards
from mtkd.shards.index import read_index
from mtkd.signals.splits import Fold
from mtkd.training.fit import trained_state
from mtkd.training.fold import fold_data, folds_of
from mtkd.workspace import Unit

PARTS = ("logits", "features", "confidence")


def some_trials(study: Study, fold: Fold) -> Batch:
    """Every other trial, so that subjects and the cache's own batches are mixed."""
    data = fold_data(study, fold, [], study.windows)
    return data.cutter.batch(list(data.cutter.shards.samples)[::2])


@pytest.fixture
def copied(pipeline: Any, tmp_path: Path) -> Study:
    return pipeline.copy(tmp_path / "workspace")


@pytest.mark.parametrize(("dtype", "tolerance"), [("float16", 1e-3), ("float32", 1e-6)])
def test_cached_answers_are_the_live_ones(pipeline: Any, copied: Study, dtype: str, tolerance: float) -> None:
    """Half floats keep 11 bits, so a thousandth; single ones all but the order of sums."""
    study = copied.model_copy(update={"cache": Cache(dtype=dtype)})
    fold = folds_of(study)[0]
    build.run(study)
    batch = some_trials(study, fold)
    cached = CachedSource(study, fold, ["temporal", "spatial"])(batch)
    live = LiveSource(study, open_shards(study)[1], fold, ["temporal", "spatial"])(batch)
    assert list(cached) == list(live) == ["temporal", "spatial"]
    for name, ours in cached.items():
        theirs = live[name]
        assert torch.equal(ours.mask, theirs.mask)
        for part in PARTS:
            a, b = getattr(ours, part), getattr(theirs, part)
            assert a.dtype == torch.float32
            allowed = tolerance if part != "confidence" else 1e-6
            torch.testing.assert_close(a, b, rtol=allowed, atol=allowed)
    assert cached["temporal"].fingerprint == build.unit_of(study, fold, "temporal").fingerprint
    assert live["spatial"].fingerprint == build.teacher_unit(study, fold, "spatial").fingerprint


def test_teachers_that_are_not_asked_are_not_read(pipeline: Any) -> None:
    fold = folds_of(pipeline.study)[0]
    assert list(CachedSource(pipeline.study, fold, ["spatial"])(some_trials(pipeline.study, fold))) == ["spatial"]


def test_a_cache_of_another_fold_is_refused_under_this_ones_name(copied: Study) -> None:
    first, second = (build.unit_of(copied, fold, "temporal") for fold in folds_of(copied))
    shutil.rmtree(second.folder)
    shutil.copytree(first.folder, second.folder)
    with pytest.raises(MtkdError, match=f"{second.folder}: made by cache {first.fingerprint}"):
        CachedSource(copied, folds_of(copied)[1], ["temporal"])


def retrain(unit: Unit) -> None:
    """As if the teacher had come out with other weights: the same unit, whole, but other bytes."""
    state, before = safetensors.torch.load_file(unit.folder / "weights.safetensors"), unit.manifest().measured
    shutil.rmtree(unit.folder)
    with unit.build() as (folder, measured):
        measured.update(before)
        safetensors.torch.save_file(
            {name: value + 0.01 for name, value in state.items()}, folder / "weights.safetensors"
        )


@pytest.mark.parametrize("teacher", ["temporal", "spatial"])
def test_a_cache_made_with_other_weights_is_not_taken(pipeline: Any, tmp_path: Path, teacher: Any) -> None:
    study = pipeline.study.model_copy(update={"workspace": str(tmp_path / "workspace")})
    for stage in ("shards", "backbone", "temporal", "spatial", "cache"):
        shutil.copytree(Path(pipeline.study.workspace) / stage, tmp_path / "workspace" / stage)
    fold = folds_of(study)[0]
    old = Path(study.workspace) / "cache" / build.unit_of(pipeline.study, fold, teacher).folder.name
    retrain(
        Unit(
            teacher,
            Path(study.workspace) / teacher / build.teacher_unit(study, fold, teacher).folder.name,
            build.teacher_unit(study, fold, teacher).inputs,
        )
    )
    wanted = build.unit_of(study, fold, teacher)
    assert wanted.folder != old
    with pytest.raises(MtkdError, match=f"{wanted.folder}: not there yet; run `mtkd cache` first"):
        CachedSource(study, fold, [teacher])
    shutil.copytree(old, wanted.folder)  # nor does renaming it help
    with pytest.raises(MtkdError, match=f"{wanted.folder}: made by cache"):
        CachedSource(study, fold, [teacher])


def first_member(folder: Path) -> tuple[Path, int]:
    """A tar and the place of a byte of its first array's numbers."""
    name, samples = next(iter(read_index(folder).shards.items()))
    place = samples[0].members["temporal.npy"]
    return folder / name, place.offset + place.size - 1


def flip(path: Path, offset: int) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        byte = file.read(1)[0]
        file.seek(offset)
        file.write(bytes([byte ^ 1]))


def test_one_altered_bit_is_noticed_at_the_start(copied: Study) -> None:
    fold = folds_of(copied)[0]
    folder = build.unit_of(copied, fold, "temporal").folder
    tar, offset = first_member(folder)
    flip(tar, offset)
    with pytest.raises(MtkdError, match=f"{tar}: its checksum is not the manifest's"):
        CachedSource(copied, fold, ["temporal"])


def test_one_altered_bit_is_noticed_later_too(copied: Study) -> None:
    fold = folds_of(copied)[0]
    source = CachedSource(copied, fold, ["temporal"])
    tar, offset = first_member(build.unit_of(copied, fold, "temporal").folder)
    flip(tar, offset)
    with pytest.raises(MtkdError, match=rf"{tar}: \w+\.temporal\.npy is damaged"):
        source(some_trials(copied, fold))


def test_a_missing_tar_is_named(copied: Study) -> None:
    fold = folds_of(copied)[0]
    tar, _ = first_member(build.unit_of(copied, fold, "temporal").folder)
    tar.unlink()
    with pytest.raises(MtkdError, match=f"{tar}: missing"):
        CachedSource(copied, fold, ["temporal"])


def test_teachers_that_were_given_a_test_subject_are_refused(
    copied: Study, leak: Callable[[Study, Fold, str], None]
) -> None:
    fold = folds_of(copied)[0]
    unit = build.teacher_unit(copied, fold, "spatial")
    leak(copied, fold, fold.test[0])
    wanted = (
        f"{build.unit_of(copied, fold, 'spatial').folder}: was trained with {fold.test[0]}, a test subject of fold 0"
    )
    for listen in (lambda: CachedSource(copied, fold, ["spatial"]), lambda: train(copied, fold, copied.distill)):
        with pytest.raises(MtkdError) as refused:
            listen()
        assert str(refused.value) == wanted
    with pytest.raises(MtkdError, match=f"^{unit.folder}: was trained with {fold.test[0]}, a test subject of fold 0$"):
        LiveSource(copied, open_shards(copied)[1], fold, ["spatial"])
    CachedSource(copied, fold, ["temporal"])  # the other teacher is honest


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_a_student_is_the_same_from_live_teachers_to_the_last_digit(copied: Study, dtype: str) -> None:
    """Who asks them in other batches, or does not round, gets another one."""
    study = copied.model_copy(update={"cache": Cache(dtype=dtype)})
    fold, settings = folds_of(study)[0], study.distill
    build.run(study)

    def trained(source: Source | None) -> dict[str, torch.Tensor]:
        return trained_state(train(study, fold, settings, source=source)[0])

    cached = trained(None)
    exact, loose = (
        trained(LiveSource(study, open_shards(study)[1], fold, list(settings.teachers), exact=exact))
        for exact in (True, False)
    )
    assert all(torch.equal(value, exact[name]) for name, value in cached.items())
    assert not all(torch.equal(value, loose[name]) for name, value in cached.items())
    for name, value in cached.items():
        torch.testing.assert_close(value, loose[name], rtol=0.05, atol=0.05)
