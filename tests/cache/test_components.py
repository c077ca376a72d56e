"""Principal components in place of a teacher's features: what they are, whose they are, and what a student makes of
them.
"""

import functools
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.decomposition import PCA

from mtkd.cache import build
from mtkd.cache.components import FILE, fit_components, load_components
from mtkd.cache.live import LiveSource
from mtkd.cache.source import CachedSource, Source
from mtkd.cache.stock import verify
from mtkd.config import Cache, Study, TeacherName
from mtkd.distill.train import train
from mtkd.errors import MtkdError
from mtkd.shards.build import open_shards
from mtkd.signals.splits import Fold
from mtkd.study import read_study
from mtkd.training.fit import trained_state
from mtkd.training.fold import fold_data, folds_of, jobs_of

N = 5
TEACHERS: list[TeacherName] = ["temporal", "spatial"]


def ask(study: Study) -> None:
    """Make the caches in this process."""
    for teacher in TEACHERS:
        for job in jobs_of(study, teacher, functools.partial(build.unit_of, teacher=teacher)):
            build._write(job, teacher)


@pytest.fixture(scope="module")
def study(pipeline: Any, tmp_path_factory: pytest.TempPathFactory) -> Study:
    """The small one, whose caches hold five components of either teacher."""
    copied = pipeline.copy(tmp_path_factory.mktemp("components") / "workspace")
    reduced = copied.model_copy(update={"cache": Cache(n_components=N)})
    ask(reduced)
    return reduced


@pytest.fixture(scope="module")
def fold(study: Study) -> Fold:
    return folds_of(study)[0]


@given(st.integers(0, 999), st.integers(2, 6), st.integers(1, 4), st.floats(0, 1e4))
def test_they_are_those_of_scikit_learn(seed: int, n_features: int, n_batches: int, level: float) -> None:
    random = np.random.default_rng(seed)
    scales = 2.0 ** -np.arange(n_features)  # far enough from each other to have one order
    rows = (random.standard_normal((60, n_features)) * scales) @ np.linalg.qr(
        random.standard_normal((n_features,) * 2)
    )[0]
    rows += level
    n = max(1, n_features - 1)
    found, expected = fit_components(np.array_split(rows, n_batches), n), PCA(n).fit(rows)
    assert found.mean == pytest.approx(expected.mean_, rel=1e-5, abs=1e-5)
    assert found.explained == pytest.approx(expected.explained_variance_ratio_.sum(), abs=1e-5)
    assert np.abs((found.directions * expected.components_).sum(1)) == pytest.approx(1, abs=1e-3)
    assert found.directions @ found.directions.T == pytest.approx(np.eye(n), abs=1e-5)
    assert (found.directions[np.arange(n), np.abs(found.directions).argmax(1)] > 0).all()


def test_of_no_window_there_are_none() -> None:
    with pytest.raises(MtkdError, match="no training window that a teacher heard"):
        fit_components([np.zeros((0, 3))], 2)


@pytest.mark.parametrize("teacher", TEACHERS)
def test_a_cache_holds_the_features_in_these_directions(
    study: Study, fold: Fold, pipeline: Any, teacher: TeacherName
) -> None:
    data = fold_data(study, fold, [], study.windows)
    batch = data.cutter.batch(list(data.cutter.shards.samples)[::3])
    ours = CachedSource(study, fold, [teacher])(batch)[teacher]
    whole = CachedSource(pipeline.study, fold, [teacher])(batch)[teacher]
    unit = build.unit_of(study, fold, teacher)
    found = load_components(unit.folder)
    assert ours.features.shape == (*whole.features.shape[:2], N)
    expected = (whole.features.numpy() - found.mean) @ found.directions.T
    assert ours.features[ours.mask].numpy() == pytest.approx(expected[ours.mask], rel=0.02, abs=0.02)
    for part in ("confidence", "mask"):
        assert torch.equal(getattr(ours, part), getattr(whole, part))
    assert torch.equal(ours.logits, whole.logits)
    assert 0 < unit.manifest().measured["explained"] <= 1


def test_they_are_fitted_on_training_subjects_alone(study: Study, fold: Fold, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever a teacher says of the others, the directions stay; of a training subject it moves them."""
    unit = build.unit_of(study, fold, "spatial")
    say = build.Teacher.say

    def refitted(subject: str) -> bytes:
        def otherwise(self: Any, keys: list[str]) -> Any:
            said = say(self, keys)
            wild = torch.tensor([key.startswith(subject) for key in keys])[:, None, None]
            return said._replace(features=torch.where(wild, said.features.flip(-1) * 3, said.features))

        before = unit.folder.rename(unit.folder.with_name(".before"))
        monkeypatch.setattr(build.Teacher, "say", otherwise)
        jobs = jobs_of(study, "spatial", functools.partial(build.unit_of, teacher="spatial"))
        build._write(next(job for job in jobs if job.fold.index == fold.index), "spatial")
        content = (unit.folder / FILE).read_bytes()
        for path in unit.folder.iterdir():
            path.unlink()
        unit.folder.rmdir()
        before.rename(unit.folder)
        return content

    own = (unit.folder / FILE).read_bytes()
    assert refitted(fold.test[0]) == refitted(fold.val[0]) == own
    assert refitted(fold.train[0]) != own


def test_a_student_is_the_same_from_live_teachers_to_the_last_digit(study: Study, fold: Fold) -> None:
    def trained(source: Source | None) -> dict[str, torch.Tensor]:
        return trained_state(train(study, fold, study.distill, source=source)[0])

    live = LiveSource(study, open_shards(study)[1], fold, TEACHERS, exact=True)
    cached, heard = trained(None), trained(live)
    assert cached["projections.temporal.spaces.0.weight"].shape[0] == N
    assert all(torch.equal(value, heard[name]) for name, value in cached.items())


def test_components_too_large_for_half_floats_are_refused_and_nothing_is_left(
    study: Study, fold: Fold, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Each feature would fit by itself, the sum that a component is does not."""
    say = build.Teacher.say

    def loud(self: Any, keys: list[str]) -> Any:
        said = say(self, keys)
        return said._replace(features=said.features.sign() * 6e4)

    job = next(iter(jobs_of(study, "spatial", functools.partial(build.unit_of, teacher="spatial"))))
    elsewhere = replace(job, unit=replace(job.unit, folder=tmp_path / job.unit.folder.name))
    monkeypatch.setattr(build.Teacher, "say", loud)
    with pytest.raises(MtkdError, match=r"the spatial teacher's features of window .* are no numbers"):
        build._write(elsewhere, "spatial")
    assert not list(tmp_path.iterdir())


def test_as_many_as_there_are_features_reduce_nothing(study: Study) -> None:
    wide = study.model_copy(update={"cache": Cache(n_components=50_000)})
    assert not any(build.is_reduced(wide, teacher) for teacher in TEACHERS)
    assert build.n_cached(wide, "spatial") == 2 * study.spatial.width


def test_a_workspace_of_such_caches_is_verified(study: Study) -> None:
    verify(study)


def test_damaged_components_are_told(study: Study, fold: Fold, tmp_path: Path) -> None:
    (tmp_path / FILE).write_bytes(b"nonsense")
    with pytest.raises(MtkdError, match="no readable components"):
        load_components(tmp_path)


def test_they_do_not_go_with_cross_fitting(pipeline: Any) -> None:
    with pytest.raises(MtkdError, match=r"cache\.n_components does not go with splits\.crossfit > 1"):
        read_study(pipeline.file, ["cache.n_components=5", "splits.crossfit=2"])
