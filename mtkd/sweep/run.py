"""The stage ``sweep``: for each student with swept settings, one Ray Tune search with ASHA a fold."""

import math
import os
import re
import time
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import ray
import yaml
from ray import tune
from ray.tune.schedulers import ASHAScheduler

from mtkd.config import Distill, Study
from mtkd.console import say
from mtkd.distill.settings import BEST, base_settings, sweep_unit
from mtkd.distill.train import train
from mtkd.errors import MtkdError
from mtkd.files import publish_file, write_json
from mtkd.signals.splits import Fold
from mtkd.study import changed
from mtkd.sweep.space import search_space
from mtkd.training.fold import folds_of
from mtkd.workspace import Unit

STAGE = "sweep"
METRIC = "val_class"  # cross-entropy of the validation subjects' labelled windows, nats


def run(study: Study) -> dict[str, list[Unit]]:
    """Search where no result stands; write each student's settings of all folds as one file that ``distill`` takes."""
    found = {}
    try:
        for name in study.evaluate.students:
            base = base_settings(study, name)
            if base.settings == "sweep":
                found[name] = [_stand(study, name, fold, base) for fold in folds_of(study)]
                _write_best(study, name, found[name])
    finally:
        if ray.is_initialized():
            ray.shutdown()
    if not found:
        say(STAGE, "no student of evaluate.students has `settings: sweep`")
    return found


def _stand(study: Study, name: str, fold: Fold, base: Distill) -> Unit:
    unit = sweep_unit(study, fold, base)
    if unit.stands():
        say(STAGE, f"{name}, fold {fold.index}: reused {unit.folder}")
        return unit
    started = time.perf_counter()
    _start_ray(study)
    with unit.build() as (folder, measured):
        trials = _search(study, fold, base, folder)
        best = _best(trials)
        write_json(folder / "trials.json", trials)
        _write_yaml(folder / BEST, name, {fold.index: best["config"]}, {fold.index: fold.fingerprint})
        measured.update(n_trials=len(trials), seconds=round(time.perf_counter() - started, 2), best=best["best"])
    epochs = sum(trial["epochs"] for trial in trials)
    seconds = measured["seconds"]
    say(
        STAGE,
        f"{name}, fold {fold.index}: {len(trials)} trials, {epochs} epochs in {seconds:.0f} s, loss {best['best']:.3f}",
    )
    return unit


def _best(trials: list[dict[str, Any]]) -> dict[str, Any]:
    finished = [trial for trial in trials if trial["best"] is not None]
    if not finished:
        raise MtkdError(f"sweep: every trial failed, the first with: {trials[0]['error']}")
    return min(finished, key=lambda trial: trial["best"])


def _start_ray(study: Study) -> None:
    if ray.is_initialized():
        return
    os.environ.setdefault("RAY_CHDIR_TO_TRIAL_DIR", "0")
    os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")
    address = study.sweep.ray_address
    local: dict[str, Any] = {}
    if address is None:  # a cluster of this machine alone, which nobody else can reach
        local = {"num_cpus": joblib.cpu_count(), "include_dashboard": False, "_node_ip_address": "127.0.0.1"}
    ray.init(address=address, log_to_driver=False, logging_level="ERROR", configure_logging=True, **local)


def _search(study: Study, fold: Fold, base: Distill, folder: Path) -> list[dict[str, Any]]:
    settings = study.sweep
    scheduler = ASHAScheduler(
        time_attr="epoch",
        max_t=base.optim.epochs,
        grace_period=min(settings.grace_epochs, base.optim.epochs),
        reduction_factor=settings.reduction_factor,
    )
    trainable = tune.with_resources(
        tune.with_parameters(_trial, study=_anywhere(study).model_dump(), fold=fold, base=base.model_dump()),
        {"cpu": settings.cpus_per_trial, "gpu": settings.gpus_per_trial},
    )
    tuner = tune.Tuner(
        trainable,
        param_space=search_space(study, base),
        tune_config=tune.TuneConfig(
            metric=METRIC, mode="min", scheduler=scheduler, num_samples=settings.n_trials, reuse_actors=True
        ),
        run_config=tune.RunConfig(storage_path=str(folder.resolve()), name="ray", verbose=0),
    )
    np.random.seed(study.seed)  # what Tune draws its samples from
    return [_row(result) for result in tuner.fit()]


def _anywhere(study: Study) -> Study:
    """The study with paths that hold whatever folder a Ray worker stands in."""
    data = study.data
    if data.folder is not None:
        data = data.model_copy(update={"folder": str(Path(data.folder).resolve())})
    return study.model_copy(update={"workspace": str(Path(study.workspace).resolve()), "data": data})


def _trial(config: dict[str, Any], study: dict[str, Any], fold: Fold, base: dict[str, Any]) -> None:
    """One training in a Ray worker, which reads the shards and the cache that all trials share."""
    import torch

    torch.set_num_threads(1)
    settings = changed(Distill.model_validate(base), {"settings": None} | config, "sweep.search")
    best = math.inf

    def report(epoch: int, means: dict[str, float]) -> None:
        nonlocal best
        best = min(best, means["val/class"])
        tune.report({"epoch": epoch + 1, METRIC: means["val/class"], "best": best})

    train(Study.model_validate(study), fold, settings, report)


def _row(result: Any) -> dict[str, Any]:
    metrics = result.metrics or {}
    return {
        "config": result.config,
        "epochs": metrics.get("epoch", 0),
        "last": metrics.get(METRIC),
        "best": metrics.get("best"),
        "seconds": round(metrics.get("time_total_s", 0.0), 2),
        "error": str(result.error).strip().splitlines()[-1] if result.error else None,
    }


def _write_best(study: Study, name: str, units: list[Unit]) -> None:
    slug = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
    contents = [yaml.safe_load((unit.folder / BEST).read_text()) for unit in units]
    path = Path(study.workspace) / STAGE / f"best-{slug}.yaml"
    folds = {index: found for content in contents for index, found in content["folds"].items()}
    splits = {index: found for content in contents for index, found in content["splits"].items()}
    _write_yaml(path, name, folds, splits)
    say(STAGE, f"{name}: best settings of all folds in {path}")


def _write_yaml(path: Path, name: str, folds: dict[int, Any], splits: dict[int, str]) -> None:
    head = "# Written by mtkd sweep; `mtkd distill STUDY distill.settings=THIS_FILE` takes it.\n"
    with publish_file(path) as aside:
        aside.write_text(head + yaml.safe_dump({"student": name, "folds": folds, "splits": splits}, sort_keys=False))
