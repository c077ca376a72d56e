"""What the benchmarks of whole studies share: a study run as a user would, and its results."""

import subprocess
import sys
from typing import Any

from rows import Rows

from mtkd.evaluate.run import RESULTS, unit_of
from mtkd.files import read_json
from mtkd.study import read_study
from mtkd.training.fold import folds_of

LEVELS = ("window", "trial")
METRICS = {"auroc": "AUROC", "auroc_among_all": "AUROC among all", "balanced_accuracy": "balanced accuracy"}


def results(study: str, given: list[str]) -> dict[str, Any]:
    """``results.json`` of a study with these changes, by ``mtkd run``; what stands in its workspace is reused."""
    done = subprocess.run([sys.executable, "-m", "mtkd", "run", study, *given], check=False)
    if done.returncode:
        raise SystemExit(done.returncode)  # it has said why
    made = read_study(study, given)
    found: dict[str, Any] = read_json(unit_of(made, folds_of(made)).folder / RESULTS)
    return found


def add_row(rows: Rows, name: str, block: dict[str, Any], test: dict[str, Any]) -> None:
    """A model's mean over subjects divided by that of what it is compared with, and the test between them."""
    ours, theirs = (block["models"][test[side]]["mean"][test["metric"]] for side in ("model", "baseline"))
    n_seeds = block["models"][test["model"]]["n_seeds"]
    told = f"{ours:.3f} against {theirs:.3f}, {test['mean_difference']:+.3f}, p = {test['p']:.3f}, "
    told += f"corrected {test['p_holm']:.3f}; {test['n']} subjects, {n_seeds} seeds"
    rows.at_least(name, ours / theirs, 1, told)
