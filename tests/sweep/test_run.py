"""The search with Ray Tune, as the pipeline ran it."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from mtkd.distill.settings import BEST, base_settings, sealed, settings_of, sweep_unit
from mtkd.distill.train import train, unit_of
from mtkd.files import read_json
from mtkd.signals.splits import Fold
from mtkd.study import changed
from mtkd.training.fold import folds_of
from mtkd.workspace import Unit

NAME = "distilled, swept"


@pytest.fixture
def searches(pipeline: Any) -> list[tuple[Fold, Unit]]:
    base = base_settings(pipeline.study, NAME)
    return [(fold, sweep_unit(pipeline.study, fold, base)) for fold in folds_of(pipeline.study)]


def test_every_fold_was_searched_by_as_many_trials_as_asked(pipeline: Any, searches: list[tuple[Fold, Unit]]) -> None:
    assert sorted(unit.folder for _, unit in searches) == pipeline.units("sweep")
    for _, unit in searches:
        trials = read_json(unit.folder / "trials.json")
        assert len(trials) == pipeline.study.sweep.n_trials
        assert all(trial["error"] is None for trial in trials)
        assert all(1 <= trial["epochs"] <= pipeline.study.distill.optim.epochs for trial in trials)
        assert len({str(trial["config"]) for trial in trials}) == len(trials)


def test_every_searched_key_was_drawn_from_its_range(pipeline: Any, searches: list[tuple[Fold, Unit]]) -> None:
    for _, unit in searches:
        for trial in read_json(unit.folder / "trials.json"):
            assert list(trial["config"]) == list(pipeline.study.sweep.search)
            for key, found in pipeline.study.sweep.search.items():
                value = trial["config"][key]
                assert value in found.choice if found.choice else found.low <= value <= found.high


def judged(unit: Unit) -> list[dict[str, Any]]:
    """The trials of a search that were trained to their end, of which the last epoch would be kept."""
    return [trial for trial in read_json(unit.folder / "trials.json") if trial["best"] is not None]


def test_the_best_on_validation_was_chosen(pipeline: Any, searches: list[tuple[Fold, Unit]]) -> None:
    for fold, unit in searches:
        best = min(judged(unit), key=lambda trial: trial["best"])
        written = yaml.safe_load((unit.folder / BEST).read_text())
        assert written == {
            "student": NAME,
            "teachers": {"temporal": 1.0, "spatial": 1.0},
            "folds": {fold.index: best["config"]},
            "seals": {fold.index: sealed(pipeline.study, fold, best["config"])},
        }
        assert unit.manifest().measured["best"] == best["best"]


def test_one_file_holds_all_folds(pipeline: Any, searches: list[tuple[Fold, Unit]]) -> None:
    path = Path(pipeline.study.workspace) / "sweep/best-distilled-swept.yaml"
    assert str(path) in pipeline.first.out
    together = yaml.safe_load(path.read_text())
    for fold, unit in searches:
        own = yaml.safe_load((unit.folder / BEST).read_text())
        assert together["folds"][fold.index] == own["folds"][fold.index]
        assert together["seals"][fold.index] == sealed(pipeline.study, fold, own["folds"][fold.index])


def test_distill_trained_the_chosen_settings(pipeline: Any, searches: list[tuple[Fold, Unit]]) -> None:
    for fold, unit in searches:
        settings = settings_of(pipeline.study, NAME, fold)
        chosen = yaml.safe_load((unit.folder / BEST).read_text())["folds"][fold.index]
        assert settings.model_dump(exclude={"settings"}) == changed(pipeline.study.distill, chosen, "").model_dump(
            exclude={"settings"}
        )
        assert unit_of(pipeline.study, fold, settings).stands()


def test_a_trial_is_a_training_and_its_score_the_validation_subjects(
    pipeline: Any, searches: list[tuple[Fold, Unit]]
) -> None:
    """That a training never reads test subjects is tested with ``distill``: here, that a trial is nothing else."""
    fold, unit = searches[0]
    trial = min(judged(unit), key=lambda trial: trial["best"])
    settings = changed(base_settings(pipeline.study, NAME), {"settings": None} | trial["config"], "")
    assert settings.optim.keep == "last"
    heard: list[float] = []
    train(pipeline.study, fold, settings, lambda epoch, means: heard.append(means["val/class"]))
    assert len(heard) == trial["epochs"] == settings.optim.epochs
    assert heard[-1] == pytest.approx(trial["best"], rel=1e-5) == pytest.approx(trial["last"], rel=1e-5)


def test_the_unit_holds_no_test_subject(searches: list[tuple[Fold, Unit]]) -> None:
    for fold, unit in searches:
        known = unit.manifest().inputs["subjects"]
        assert not set(fold.test) & {*known["train"], *known["val"]}


def test_where_it_shall_run_does_not_change_which_unit_it_is(pipeline: Any, searches: list[tuple[Fold, Unit]]) -> None:
    elsewhere = {"ray_address": "auto", "cpus_per_trial": 4.0, "gpus_per_trial": 1.0}
    study = pipeline.study.model_copy(update={"sweep": pipeline.study.sweep.model_copy(update=elsewhere)})
    fold, unit = searches[0]
    assert sweep_unit(study, fold, base_settings(study, NAME)).folder == unit.folder
    key = next(iter(pipeline.study.sweep.search))  # what is searched replaces what the study says of it
    base = base_settings(study, NAME)
    assert sweep_unit(study, fold, changed(base, {key: 0.003}, "")).folder == unit.folder
    assert sweep_unit(study, fold, changed(base, {"dropout": 0.3}, "")).folder != unit.folder
    more = {"n_trials": 99}
    study = pipeline.study.model_copy(update={"sweep": pipeline.study.sweep.model_copy(update=more)})
    assert sweep_unit(study, fold, base_settings(study, NAME)).folder != unit.folder
