"""The stage ``sweep``: for each student with swept settings, one Ray Tune search with ASHA a fold."""

import math
import os
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
from mtkd.files import publish_file, slug, write_json
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
                _write_best(study, name, base, found[name])
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
        _write_yaml(folder / BEST, name, base, {fold.index: best["config"]}, {fold.index: fold.fingerprint})
        n_failed = sum(trial["error"] is not None for trial in trials)
        measured.update(n_trials=len(trials), n_failed=n_failed, best=best["best"])
        measured["seconds"] = round(time.perf_counter() - started, 2)
    _report(name, fold, trials, measured)
    return unit


def _report(name: str, fold: Fold, trials: list[dict[str, Any]], measured: dict[str, Any]) -> None:
    epochs, failed = sum(trial["epochs"] for trial in trials), [trial for trial in trials if trial["error"]]
    say(
        STAGE,
        f"{name}, fold {fold.index}: {len(trials)} trials, {epochs} epochs in {measured['seconds']:.0f} s, "
        f"loss {measured['best']:.3f}",
    )
    if failed:
        say(STAGE, f"{name}, fold {fold.index}: {len(failed)} trials failed, the first with: {failed[0]['error']}")


def _best(trials: list[dict[str, Any]]) -> dict[str, Any]:
    """The trial of the lowest validation loss.

    Raises:
        MtkdError: bad input ended a trial, or all of them failed.
    """
    ours = f"{MtkdError.__module__}.{MtkdError.__qualname__}: "
    for trial in trials:
        if trial["error"] and ours in trial["error"]:  # a damaged file: nothing is chosen from what is left
            raise MtkdError(trial["error"].partition(ours)[2])
    finished = [trial for trial in trials if trial["best"] is not None]
    if not finished:
        raise MtkdError(f"sweep: every trial failed, the first with: {trials[0]['error']}")
    return min(finished, key=lambda trial: trial["best"])


def _start_ray(study: Study) -> None:
    if ray.is_initialized():
        return
    os.environ.setdefault("RAY_CHDIR_TO_TRIAL_DIR", "0")
    os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")
    address, local = study.sweep.ray_address, {}
    if address is None:  # a cluster of this machine alone, which nobody else can reach, whatever else runs here
        address = "local"
        local = {"num_cpus": joblib.cpu_count(), "include_dashboard": False, "_node_ip_address": "127.0.0.1"}
    try:
        ray.init(address=address, log_to_driver=False, logging_level="ERROR", configure_logging=True, **local)
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise MtkdError(f"sweep.ray_address = {study.sweep.ray_address}: {' '.join(str(error).split())}") from None
    there = ray.cluster_resources()
    for key, kind, wanted in (
        ("cpus_per_trial", "CPU", study.sweep.cpus_per_trial),
        ("gpus_per_trial", "GPU", study.sweep.gpus_per_trial),
    ):
        if wanted > there.get(kind, 0):  # Tune would wait for ever
            raise MtkdError(f"sweep.{key} = {wanted:g}, but the cluster has {there.get(kind, 0):g} {kind}s")


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
    data, temporal = study.data, study.temporal
    if data.folder is not None:
        data = data.model_copy(update={"folder": str(Path(data.folder).resolve())})
    if Path(temporal.backbone).exists():
        temporal = temporal.model_copy(update={"backbone": str(Path(temporal.backbone).resolve())})
    workspace = str(Path(study.workspace).resolve())
    return study.model_copy(update={"workspace": workspace, "data": data, "temporal": temporal})


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


def _write_best(study: Study, name: str, base: Distill, units: list[Unit]) -> None:
    contents = [yaml.safe_load((unit.folder / BEST).read_text()) for unit in units]
    path = Path(study.workspace) / STAGE / f"best-{slug(name)}.yaml"
    folds = {index: found for content in contents for index, found in content["folds"].items()}
    splits = {index: found for content in contents for index, found in content["splits"].items()}
    _write_yaml(path, name, base, folds, splits)
    say(STAGE, f"{name}: best settings of all folds in {path}")


def _write_yaml(path: Path, name: str, base: Distill, folds: dict[int, Any], splits: dict[int, str]) -> None:
    head = "# Written by mtkd sweep; `mtkd distill STUDY distill.settings=THIS_FILE` takes it.\n"
    with publish_file(path) as aside:
        content = {"student": name, "teachers": dict(base.teachers), "folds": folds, "splits": splits}
        aside.write_text(head + yaml.safe_dump(content, sort_keys=False))
