"""What the benchmarks of whole studies share: a study as a user would run it, drawn several times, and comparisons."""

import argparse
import contextlib
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rows import Rows, parser

from mtkd.evaluate.run import RESULTS, unit_of
from mtkd.evaluate.statistics import compare, holm
from mtkd.files import read_json
from mtkd.study import read_study
from mtkd.training.fold import folds_of

LEVELS = ("window", "trial")
METRICS = {"auroc": "AUROC", "auroc_among_all": "AUROC among all", "balanced_accuracy": "balanced accuracy"}
Figures = dict[str, float | None]


def given_over(text: str | None) -> argparse.Namespace:
    """The command line of a benchmark that draws a study with each of a key's ``values``; ``study`` is its file."""
    arguments = parser(text)
    arguments.add_argument("study", nargs="+", help="study file, and changes to it")
    arguments.add_argument("--over", nargs="+", required=True, metavar=("KEY", "VALUE"), help="a key and its values")
    arguments.add_argument("--draws", type=int, default=5)
    arguments.add_argument("--keep", type=Path, help="leave the workspace in this folder; what stands there is reused")
    given = arguments.parse_args()
    (given.study, *given.changes), (given.key, *given.values) = given.study, given.over
    if not given.values:
        arguments.error(f"--over {given.key}: no value")
    return given


def workspace(keep: Path | None) -> contextlib.AbstractContextManager[str | Path]:
    """The folder to keep, or one that is gone afterwards."""
    return tempfile.TemporaryDirectory() if keep is None else contextlib.nullcontext(keep.resolve())


def results(study: str, given: list[str]) -> dict[str, Any]:
    """``results.json`` of a study with these changes, by ``mtkd run``; what stands in its workspace is reused."""
    done = subprocess.run([sys.executable, "-m", "mtkd", "run", study, *given], check=False)
    if done.returncode:
        raise SystemExit(done.returncode)  # it has said why
    made = read_study(study, given)
    found: dict[str, Any] = read_json(unit_of(made, folds_of(made)).folder / RESULTS)
    return found


def drawn(study: str, given: list[str], n_draws: int) -> list[dict[str, Any]]:
    """The results of so many studies, each with a seed and splits of its own.

    So they differ in who is tested beside whom, whose labels are kept, and all random numbers of training; the subjects
    are the same, and each is tested in every draw.
    """
    return [results(study, [*given, f"seed={draw}", f"splits.seed={draw}"]) for draw in range(n_draws)]


def figures(found: list[dict[str, Any]], level: str, model: str, metric: str) -> Figures:
    """Each subject's figure, the mean over draws; None where a draw has none."""
    tables = [each["levels"][level]["joint"]["models"][model]["subjects"] for each in found]
    said = {name: [table[name][metric] for table in tables] for name in tables[0]}
    return {name: None if None in own else float(np.mean(own)) for name, own in said.items()}


@dataclass(frozen=True)
class Comparison:
    """A model and what it is held against, by a metric, over subjects."""

    name: str
    model: Figures
    baseline: Figures


def add_comparisons(rows: Rows, comparisons: list[Comparison], n_draws: int) -> None:
    """A row each: the model's mean over subjects divided by the other's, and the test, corrected over all that are
    given.
    """
    tests = {each.name: compare(each.model, each.baseline) for each in comparisons}
    corrected = holm({name: test["p"] for name, test in tests.items()})
    for each in comparisons:
        test, (ours, theirs) = tests[each.name], map(_mean, (each.model, each.baseline))
        low, high = test["interval"]
        told = f"{ours:.3f} against {theirs:.3f}, {test['mean_difference']:+.3f} ({low:+.3f} to {high:+.3f}), "
        told += f"p = {test['p']:.3f}, of {len(comparisons)} corrected {corrected[each.name]:.3f}; "
        rows.at_least(each.name, ours / theirs, 1, f"{told}{test['n']} subjects, {n_draws} draws")


def _mean(said: Figures) -> float:
    return float(np.mean([value for value in said.values() if value is not None]))
