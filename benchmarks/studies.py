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
from numpy.typing import NDArray
from rows import Rows, parser
from scipy import stats

from mtkd.evaluate.run import RESULTS, unit_of
from mtkd.evaluate.statistics import holm
from mtkd.files import read_json
from mtkd.study import read_study
from mtkd.training.fold import folds_of

LEVELS = ("window", "trial")
METRICS = {"auroc": "AUROC", "auroc_among_all": "AUROC among all", "balanced_accuracy": "balanced accuracy"}
Figures = list[dict[str, float | None]]
"""Of each draw, every subject's figure; None where it has none."""


def given_over(text: str | None, controlled: bool = False) -> argparse.Namespace:
    """The command line of a benchmark that draws a study with each of a key's ``values``; ``study`` is its file. It may
    be ``controlled`` by another study.
    """
    arguments = parser(text)
    arguments.add_argument("study", nargs="+", help="study file, and changes to it")
    arguments.add_argument("--over", nargs="+", required=True, metavar=("KEY", "VALUE"), help="a key and its values")
    arguments.add_argument("--draws", type=int, default=5)
    if controlled:
        arguments.add_argument("--control", nargs="+", default=[], help="changes that make the study another one")
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
    """Those of a model, by a metric."""
    tables = [each["levels"][level]["joint"]["models"][model]["subjects"] for each in found]
    return [{name: own[metric] for name, own in table.items()} for table in tables]


@dataclass(frozen=True)
class Comparison:
    """A model and what it is held against, by a metric, over draws and subjects."""

    name: str
    model: Figures
    baseline: Figures

    def pairs(self) -> NDArray[np.float64]:
        """(side, draw, subject), of the subjects that have a figure in all of them."""
        both = (self.model, self.baseline)
        names = [name for name in self.model[0] if not any(table[name] is None for own in both for table in own)]
        if len(names) < 2:
            raise SystemExit(f"{self.name}: fewer than two subjects have a figure in all draws")
        return np.array([[[table[name] for name in names] for table in own] for own in both], float)


@dataclass(frozen=True)
class Verdict:
    """Of a mean difference: its 95 % interval and two-sided p."""

    mean: float
    interval: tuple[float, float]
    p: float


def verdict(differences: NDArray[np.float64]) -> Verdict:
    """Of differences (draw, subject), both of which are some of many: who is tested, and who was learned from.

    The variance of their mean is (MS_subjects + MS_draws - MS_rest) / n, that of the quasi-F of two random factors
    (Clark, J. Verbal Learn. Verbal Behav. 12, 1973), and no less than either factor has alone; degrees of freedom are
    Satterthwaite's. With five draws it keeps its level (a test); with two, one of two equal models is called better in
    9 of 100. A test over subjects alone takes the draws, and with them whose labels there were, for the only ones: it
    calls one of two equal models better far too often.
    """
    found = np.round(differences, 12)  # two ways to add up one figure are no difference
    n_draws, n_subjects = found.shape
    mean, rows, columns = found.mean(), found.mean(1, keepdims=True), found.mean(0, keepdims=True)
    squares = {
        "subjects": (n_draws * np.square(columns - mean).sum(), n_subjects - 1),
        "draws": (n_subjects * np.square(rows - mean).sum(), n_draws - 1),
        "rest": (np.square(found - rows - columns + mean).sum(), (n_draws - 1) * (n_subjects - 1)),
    }
    of = {name: total / freedom if freedom else 0.0 for name, (total, freedom) in squares.items()}
    signed = of["subjects"] + of["draws"] - of["rest"]
    parts = {name: value for name, value in of.items() if value > 0}
    if signed < max(of["subjects"], of["draws"]):
        largest = max(("subjects", "draws"), key=lambda name: of[name])
        signed, parts = of[largest], {largest: of[largest]}
    if signed <= 0:
        return Verdict(float(mean), (float(mean), float(mean)), float(mean == 0))
    freedom = signed**2 / sum(value**2 / squares[name][1] for name, value in parts.items())
    error = np.sqrt(signed / found.size)
    reach = stats.t.ppf(0.975, freedom) * error
    return Verdict(float(mean), (mean - reach, mean + reach), float(2 * stats.t.sf(abs(mean) / error, freedom)))


def add_comparisons(rows: Rows, comparisons: list[Comparison], n_draws: int) -> None:
    """A row each: the model's mean over subjects divided by the other's, and the test, corrected over all that are
    given, which are of different names.
    """
    pairs = {each.name: each.pairs() for each in comparisons}
    assert len(pairs) == len(comparisons)
    tests = {name: verdict(ours - theirs) for name, (ours, theirs) in pairs.items()}
    corrected = holm({name: test.p for name, test in tests.items()})
    for name, test in tests.items():
        ours, theirs = pairs[name].mean((1, 2)).tolist()
        (low, high), n_subjects = test.interval, pairs[name].shape[2]
        told = f"{ours:.3f} against {theirs:.3f}, {test.mean:+.3f} ({low:+.3f} to {high:+.3f}), "
        told += f"p = {test.p:.3f}, of {len(comparisons)} corrected {corrected[name]:.3f}; "
        rows.at_least(name, ours / theirs, 1, f"{told}{n_subjects} subjects, {n_draws} draws")
