"""One Tune experiment over any number of searches: the cluster, the trials, and what they came to."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
from ray import tune
from ray.exceptions import RayError
from ray.tune.error import TuneError
from ray.tune.schedulers import ASHAScheduler

from mtkd.cluster import anywhere, connected
from mtkd.config import Distill, Study, Sweep
from mtkd.distill.train import train
from mtkd.errors import MtkdError, one_line
from mtkd.signals.splits import Fold
from mtkd.study import changed
from mtkd.sweep.scheduler import ASHAPerSearch

METRIC = "val_class"  # cross-entropy of the validation subjects' labelled windows, classes weighted as in training
RETRIES = 2  # of a trial that ended through no fault of its settings: its worker was killed, its node went away
Row = dict[str, Any]


@dataclass(frozen=True)
class Search:
    """One student's settings on one fold: what is changed, and the changes to try."""

    name: str
    fold: Fold
    base: Distill
    points: list[dict[str, Any]]


def run_searches(study: Study, searches: list[Search], folder: Path, done: Callable[[int, list[Row]], None]) -> None:
    """Run the trials of all searches, those of one after those of another; Tune keeps its files in ``folder``.

    ``done`` is told a search's index and its rows, in the order of its points, as soon as the last of them has ended.

    Raises:
        MtkdError: the cluster is not there, too small or breaks down, or what ``done`` raised.
    """
    with connected(study.sweep.ray_address, "sweep", "sweep.ray_address"):
        _check_size(study.sweep)
        try:
            _run(study, searches, folder, done)
        except (RayError, TuneError) as error:
            raise MtkdError(
                f"sweep: Ray broke down ({type(error).__name__}: {one_line(error)}); run it again"
            ) from None


def _check_size(settings: Sweep) -> None:
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    for key, kind, wanted in (
        ("cpus_per_trial", "CPU", settings.cpus_per_trial),
        ("gpus_per_trial", "GPU", settings.gpus_per_trial),
    ):
        most = max(node.get(kind, 0) for node in nodes)
        if wanted > most:  # a trial runs on one node, and Tune would wait for such a one for ever
            raise MtkdError(f"sweep.{key} = {wanted:g}, but no node of the cluster has more than {most:g} {kind}s")


def cluster() -> dict[str, float]:
    """CPUs and GPUs of the running cluster, on which it depends which trials ASHA stops."""
    there = ray.cluster_resources()
    return {kind: there.get(kind, 0.0) for kind in ("CPU", "GPU")}


def _run(study: Study, searches: list[Search], folder: Path, done: Callable[[int, list[Row]], None]) -> None:
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)  # of trials that fail we tell ourselves, in a line each
    settings, collector = study.sweep, _Collector(searches, done)
    slots = [(index, point) for index, search in enumerate(searches) for point in range(len(search.points))]
    trainable = tune.with_resources(
        tune.with_parameters(_trial, study=anywhere(study).model_dump(), searches=searches),
        {"cpu": settings.cpus_per_trial, "gpu": settings.gpus_per_trial},
    )
    scheduler = ASHAPerSearch(
        lambda index: _asha(settings, _epochs(searches[index])), search_of=lambda config: config["slot"][0]
    )
    tune.Tuner(
        trainable,
        param_space={"slot": tune.grid_search(slots)},
        tune_config=tune.TuneConfig(scheduler=scheduler, reuse_actors=True),
        run_config=tune.RunConfig(
            storage_path=str(folder.resolve()),
            name="ray",
            verbose=0,
            callbacks=[collector],
            failure_config=tune.FailureConfig(max_failures=RETRIES),
        ),
    ).fit()
    if collector.error is not None:
        raise collector.error


def _epochs(search: Search) -> int:
    """Of its longest trial."""
    return max(_settings(search, point).optim.epochs for point in range(len(search.points)))


def _settings(search: Search, point: int) -> Distill:
    settings: Distill = changed(search.base, {"settings": None} | search.points[point], "sweep.search")
    return settings


def _asha(settings: Sweep, n_epochs: int) -> ASHAScheduler:
    return ASHAScheduler(
        time_attr="epoch",
        metric=METRIC,
        mode="min",
        max_t=n_epochs,
        grace_period=min(settings.grace_epochs, n_epochs),
        reduction_factor=settings.reduction_factor,
    )


class _Collector(tune.Callback):
    """Gathers the rows of every search, and hands them over when they are all there."""

    def __init__(self, searches: list[Search], done: Callable[[int, list[Row]], None]) -> None:
        self.error: MtkdError | None = None
        self._searches, self._done = searches, done
        self._rows: dict[int, dict[int, Row]] = {}

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """See ``tune.Callback``."""
        self._take(trial, None)

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """See ``tune.Callback``."""
        told = Path(trial.error_file).read_text(encoding="utf-8").strip()  # Ray has not copied it to its storage yet
        self._take(trial, told.splitlines()[-1] if told else "no reason known")

    def _take(self, trial: Any, error: str | None) -> None:
        index, point = trial.config["slot"]
        metrics, search = trial.last_result or {}, self._searches[index]
        rows = self._rows.setdefault(index, {})
        rows[point] = {
            "config": search.points[point],
            "epochs": metrics.get("epoch", 0),
            "last": metrics.get(METRIC),
            "best": metrics.get("best"),
            "seconds": round(metrics.get("time_total_s", 0.0), 2),
            "error": error or metrics.get("refused"),
        }
        if len(rows) == len(search.points):
            try:
                self._done(index, [rows[point] for point in sorted(rows)])
            except MtkdError as raised:  # Tune would log it and go on
                self.error = self.error or raised


def _trial(config: dict[str, Any], study: dict[str, Any], searches: list[Search]) -> None:
    """One training in a Ray worker, which reads the shards and the caches that all trials share.

    It is judged by the epoch that it would keep: its best so far, or, with ``optim.keep: last``, its last, so that one
    which is stopped before is not judged at all.

    An error of ours is told beside the last result: Ray would try again what can only end the same way.
    """
    import torch

    torch.set_num_threads(1)
    index, point = config["slot"]
    told: dict[str, Any] = {}

    own = _settings(searches[index], point)

    def report(epoch: int, means: dict[str, float]) -> None:
        loss, best = means["val/class"], told.get("best")
        if own.optim.keep == "best":
            told["best"] = loss if best is None else min(best, loss)
        elif epoch + 1 == own.optim.epochs:
            told["best"] = loss
        told.update({"epoch": epoch + 1, METRIC: loss})
        tune.report(dict(told))

    try:
        train(Study.model_validate(study), searches[index].fold, own, report)
    except MtkdError as error:
        tune.report(told | {"refused": f"{name_of(type(error))}{error}"})


def name_of(error: type[Exception]) -> str:
    """How the error of a trial begins whose class this is."""
    return f"{error.__module__}.{error.__qualname__}: "
