"""Searches that go wrong, on a Ray cluster of this machine."""

import re
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mtkd.distill.settings import base_settings, sweep_unit
from mtkd.errors import MtkdError
from mtkd.files import read_json
from mtkd.study import changed, read_study
from mtkd.sweep import experiment
from mtkd.sweep.run import _best, run
from mtkd.training.fold import folds_of

ONE_STUDENT = "evaluate.students={labels alone: {teachers: {}}, distilled: {}, swept: {teachers: {}, settings: sweep}}"


def row(best: float | None, error: str | None = None) -> dict[str, Any]:
    return {"best": best, "error": error}


def test_a_trial_that_diverged_is_not_chosen() -> None:
    assert _best([row(3.0), row(None, "mtkd.errors.Diverged: in epoch 1"), row(2.0)]) == row(2.0)


@pytest.mark.parametrize("error", ["ray.exceptions.OutOfMemoryError: ...", "ray.exceptions.NodeDiedError: ...", "x"])
def test_a_search_that_lost_a_trial_chooses_nothing(error: str) -> None:
    """Its student would be compared with others that were chosen from more trials."""
    with pytest.raises(MtkdError, match=f"^sweep: a trial ended through no fault .* run it again: {error}$"):
        _best([row(3.0), row(1.0, error), row(2.0)])


def test_a_trial_that_diverged_after_its_best_epoch_is_not_chosen_either() -> None:
    """Trained again with the same seed it would fail again, and the study could not be finished."""
    assert _best([row(3.0), row(1.0, "mtkd.errors.Diverged: in epoch 7"), row(2.0)]) == row(2.0)


def test_where_all_failed_the_first_reason_is_told() -> None:
    with pytest.raises(MtkdError, match=r"^sweep: every trial failed, the first with: mtkd\.errors\.Diverged: x$"):
        _best([row(None, "mtkd.errors.Diverged: x"), row(None, "mtkd.errors.Diverged: y")])


def test_bad_input_in_one_trial_ends_the_search() -> None:
    with pytest.raises(MtkdError, match=r"^s01\.tar: damaged$"):
        _best([row(1.0), row(None, "mtkd.errors.MtkdError: s01.tar: damaged")])


def test_a_search_in_which_some_trials_diverge(pipeline: Any, mtkd: Callable[..., Any], tmp_path: Path) -> None:
    study = pipeline.copy(tmp_path / "ws")
    changes = [
        ONE_STUDENT,
        "sweep.n_trials=2",
        "sweep.search={optim.lr: {choice: [1.0e+30, 1.0e-3]}}",  # the study's seed draws the second first
    ]
    done = mtkd("sweep", pipeline.file, f"workspace={study.workspace}", *changes)
    assert done.code == 0, done.err
    study = read_study(pipeline.file, [f"workspace={study.workspace}", *changes])
    for fold in folds_of(study):
        unit = sweep_unit(study, fold, base_settings(study, "swept"))
        trials = read_json(unit.folder / "trials.json")
        assert [trial["config"] for trial in trials] == [{"optim.lr": 1e-3}, {"optim.lr": 1e30}]
        assert trials[0]["error"] is None
        assert re.match(r"mtkd\.errors\.Diverged: the loss became \w+ in epoch 1, at the trials s", trials[1]["error"])
        measured = unit.manifest().measured
        assert (measured["n_failed"], measured["best"]) == (1, trials[0]["best"])
        assert f"swept, fold {fold.index}: 1 of 2 trials failed, the first with: mtkd.errors.Diverged" in done.out
    assert done.err == ""
    assert not list((tmp_path / "ws/sweep").glob(".*"))


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("sweep.cpus_per_trial=999", "sweep.cpus_per_trial = 999, but no node of the cluster has more than "),
        ("sweep.ray_address=127.0.0.1:9", "sweep: no Ray cluster at sweep.ray_address = 127.0.0.1:9: [Errno 111] "),
        ("sweep.ray_address=nonsense", "sweep: no Ray cluster at sweep.ray_address = nonsense: "),
    ],
)
def test_a_cluster_that_is_too_small_or_not_there(pipeline: Any, tmp_path: Path, override: str, said: str) -> None:
    pipeline.copy(tmp_path / "ws")
    started = time.monotonic()
    changes = [f"workspace={tmp_path / 'ws'}", ONE_STUDENT, "sweep.n_trials=1", override]
    before = sorted((tmp_path / "ws/sweep").iterdir())
    with pytest.raises(MtkdError) as refused:
        run(read_study(pipeline.file, changes))
    assert str(refused.value).startswith(said)
    assert "\n" not in str(refused.value)
    assert sorted((tmp_path / "ws/sweep").iterdir()) == before
    assert time.monotonic() - started < 60  # Ray itself would knock for longer where nobody listens


def test_ray_leaves_nothing_behind(pipeline: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pipeline.copy(tmp_path / "ws")
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        monkeypatch.setattr(tempfile, "tempdir", folder)
        run(read_study(pipeline.file, [f"workspace={tmp_path / 'ws'}", ONE_STUDENT, "sweep.n_trials=1"]))
        assert list(Path(folder).iterdir()) == []


@pytest.mark.parametrize("keep", ["best", "last"])
def test_a_trial_is_judged_by_the_epoch_that_it_would_keep(
    pipeline: Any, keep: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    study, fold, told = pipeline.study, folds_of(pipeline.study)[0], list[dict[str, Any]]()
    monkeypatch.setattr(experiment.tune, "report", told.append)
    base = changed(study.distill, {"teachers": {}, "ce": 1.0, "optim.keep": keep, "optim.lr": 0.05}, "")
    search = experiment.Search("alone", fold, base, [{}])
    experiment._trial({"slot": (0, 0)}, study.model_dump(), [search])
    losses = [each[experiment.METRIC] for each in told]
    assert len(losses) == base.optim.epochs == 3
    if keep == "best":
        assert [each["best"] for each in told] == [min(losses[:n]) for n in (1, 2, 3)]
    else:
        assert [each.get("best") for each in told] == [None, None, losses[-1]]
    assert _best([row(told[0].get("best")), row(told[-1]["best"] + 1)])["best"] is not None
