"""What a student's training costs: ``python benchmarks/distillation.py [--eegmat FOLDER] [--json F]``.

On the simulated study in DEAP's format, 12 subjects of 40 trials of 60 s in windows of 4 s, one fold, on one core: an
epoch of the shipped student that hears both teachers from their cache, against the same epoch from labels alone and
against one with live teachers; and how large the cache is, with half floats and 64 principal components of the
features, against single floats of all of them. With a folder of eegmat's recordings also how long all students of all
folds with five seeds take, when their teachers are cached.
"""

import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rows import ROOT, Rows, finish, parser

from mtkd.cache import build as cache
from mtkd.cache.live import LiveSource
from mtkd.cache.source import Source
from mtkd.config import Cache, Distill, Study
from mtkd.distill import train as distill
from mtkd.shards import build as shards
from mtkd.shards.read import ShardSet
from mtkd.signals.splits import Fold
from mtkd.study import changed, read_study
from mtkd.teachers.spatial import train as spatial
from mtkd.teachers.temporal import train as temporal
from mtkd.training.fold import folds_of

N_EPOCHS, N_ROUNDS, N_COMPONENTS = 6, 3, 64
FAST = ["temporal.optim.epochs=1", "spatial.optim.epochs=1"]  # what teachers have learned takes no time from students


def simulated(workspace: Path) -> Study:
    """The shipped study in windows of 4 s, its teachers trained for an epoch."""
    windows = ["windows={window_s: 4, hop_s: 4}", "temporal.patch_s=4", "splits.n_folds=3"]
    words = [f"workspace={workspace}", *windows, *FAST]
    study = read_study(ROOT / "configs/study/simulated.yaml", words)
    shards.run(study)
    spatial.run(study)
    temporal.run(study)
    return study


def cached(study: Study, **settings: Any) -> Study:
    """The same with a cache of its own."""
    made = study.model_copy(update={"cache": Cache(**settings)})
    cache.run(made)
    return made


def epoch_s(study: Study, fold: Fold, settings: Distill, n_epochs: int, source: Source | None = None) -> float:
    """Seconds of an epoch, validation included: the median of all but the first."""
    at: list[float] = []
    own = changed(settings, {"optim.epochs": n_epochs, "optim.keep": "last"}, "benchmark")
    distill.train(study, fold, own, lambda epoch, means: at.append(time.perf_counter()), source)
    return float(np.median(np.diff(at)))


def add_epochs(rows: Rows, study: Study) -> None:
    """Of the student against labels alone and live teachers, in turn."""
    fold, heard = folds_of(study)[0], study.distill
    alone = changed(heard, {"teachers": {}, "ce": 1.0}, "benchmark")
    taken: dict[str, list[float]] = {"alone": [], "heard": []}
    for _ in range(N_ROUNDS):
        taken["alone"].append(epoch_s(study, fold, alone, N_EPOCHS))
        taken["heard"].append(epoch_s(study, fold, heard, N_EPOCHS))
    own, ours = min(taken["alone"]), min(taken["heard"])
    rows.at_most(
        "student epoch, two cached teachers against labels alone", ours / own, 1.15, f"{ours:.3f} s, {own:.3f} s"
    )
    live = LiveSource(study, shards.open_shards(study)[1], fold, list(heard.teachers))
    slow = epoch_s(study, fold, heard, 3, live)
    rows.at_least("the same, live teachers against cached ones", slow / ours, 30, f"{slow:.1f} s, {ours:.3f} s")


def add_sizes(rows: Rows, small: Study, large: Study) -> None:
    """Of the caches, and what becomes of a student."""
    fold, sizes, losses = folds_of(small)[0], [], []
    for study in (small, large):
        units = [cache.unit_of(study, fold, name) for name in cache.TEACHERS]
        n_trials = len(ShardSet(units[0].folder).samples)
        sizes.append(sum(cache._size(unit.folder) for unit in units) / n_trials)
        losses.append(distill.train(study, fold, study.distill)[1].best["val/class"])
    told = f"{sizes[0] / 1e3:.1f} kB, {sizes[1] / 1e3:.1f} kB a trial"
    rows.at_most(
        f"cache, half floats and {N_COMPONENTS} components against all in single ones", sizes[0] / sizes[1], 0.25, told
    )
    told = f"validation loss {losses[0]:.4f}, {losses[1]:.4f}"
    rows.at_most("student of the one against that of the other", losses[0] / losses[1], 1.02, told)


def add_eegmat(rows: Rows, folder: Path, workspace: Path) -> None:
    """All students without a sweep, of all folds, with five seeds."""
    students = "evaluate.students={labels alone: {teachers: {}, ce: 1.0}, distilled: {}}"
    words = [
        f"workspace={workspace}",
        f"data.folder={folder}",
        "data.download=null",
        "n_seeds=5",
        "teacher_seed=0",
        students,
    ]
    study = read_study(ROOT / "configs/study/eegmat.yaml", [*words, *FAST])
    for stage in (shards, spatial, temporal, cache):
        stage.run(study)
    started = time.perf_counter()
    units = distill.run(study)
    minutes = (time.perf_counter() - started) / 60
    rows.at_most(
        "eegmat, all folds and five seeds, of 60 minutes", minutes / 60, 1, f"{minutes:.1f} min, {len(units)} students"
    )


def main() -> None:
    """Train, time, tell."""
    arguments = parser(__doc__)
    arguments.add_argument("--eegmat", type=Path, help="folder of its recordings")
    given = arguments.parse_args()
    rows = Rows()
    with tempfile.TemporaryDirectory() as folder:
        study = simulated(Path(folder) / "simulated")
        small, large = cached(study, n_components=N_COMPONENTS), cached(study, dtype="float32")
        n_threads = torch.get_num_threads()
        torch.set_num_threads(1)  # as students are trained side by side
        add_epochs(rows, small)
        add_sizes(rows, small, large)
        torch.set_num_threads(n_threads)
        if given.eegmat is not None:
            add_eegmat(rows, given.eegmat.resolve(), Path(folder) / "eegmat")
    finish("distillation.py", rows, given.json)


if __name__ == "__main__":
    main()
