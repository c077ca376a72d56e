"""What the language model adds: ``python benchmarks/ablations.py STUDY [key=value ...] [--seeds N] [--json F]``.

The study's temporal teacher stands beside the same network with random weights, a single layer of attention, itself
without a causal mask, and itself without its confidence head, on the same folds, with several seeds. A subject's figure
is the mean over seeds; each row is the teacher's mean over subjects divided by that of what stands in its place, with
Wilcoxon's test over subjects, by Holm corrected for all rows of a level. Below 1, what was left out does harm. AUROC is
within a subject, whatever level its scores have; balanced accuracy asks for one threshold that serves all subjects.
"""

import contextlib
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from rows import Rows, finish, parser

from mtkd.evaluate.statistics import compare, holm

TEACHER = "temporal teacher"
STAND_INS: dict[str, dict[str, Any]] = {
    "random weights": {"pretrained": False},
    "one-layer attention": {"backbone": "one-layer attention"},
    "no causal mask": {"causal": False},
    "no confidence": {"confidence_weight": 0},
}
# what else a run makes is not looked at here, so it is made quickly
OTHERS = ["evaluate.students={labels alone: {teachers: {}, ce: 1.0}}", "predict.student=labels alone"]
OTHERS += ["spatial.optim.epochs=1", "distill.optim.epochs=1"]
METRICS = {"auroc": "AUROC", "balanced_accuracy": "balanced accuracy"}
Subjects = dict[str, float]


def results(study: str, given: list[str], seed: int, workspace: Path) -> dict[str, Any]:
    """``results.json`` of all these teachers with one seed."""
    beside = {name: {"temporal": changes} for name, changes in STAND_INS.items()}
    words = [*given, *OTHERS, f"evaluate.teachers={json.dumps(beside)}", f"seed={seed}", f"workspace={workspace}"]
    done = subprocess.run([sys.executable, "-m", "mtkd", "run", study, *words], check=False)
    if done.returncode:
        raise SystemExit(done.returncode)  # it has said why
    return _of_seed(workspace, seed, beside)


def _of_seed(workspace: Path, seed: int, beside: dict[str, Any]) -> dict[str, Any]:
    """The evaluation whose provenance tells that seed and those teachers."""
    all_of_them = [json.loads(path.read_text()) for path in (workspace / "evaluate").glob("*/results.json")]
    found = [
        each
        for each in all_of_them
        if each["provenance"]["seeds"] == [seed] and each["provenance"]["study"]["evaluate"]["teachers"] == beside
    ]
    if len(found) != 1:
        raise SystemExit(f"{workspace}: {len(found)} evaluations of seed {seed}, not one; start with an empty folder")
    return dict(found[0])


def averaged(found: list[dict[str, Any]], level: str, model: str, metric: str) -> Subjects:
    """Each subject's figure, mean over seeds; a subject that lacks it with one of them is left out."""
    tables = [each["levels"][level]["joint"]["models"][model]["subjects"] for each in found]
    values = {subject: [table[subject][metric] for table in tables] for subject in tables[0]}
    return {subject: float(np.mean(own)) for subject, own in values.items() if None not in own}


def add_rows(rows: Rows, name: str, found: list[dict[str, Any]]) -> None:
    """Of both levels and both metrics."""
    for level in ("window", "trial"):
        pairs = {(metric, kind): _pair(found, level, metric, kind) for metric in METRICS for kind in STAND_INS}
        tests = {key: compare(*pair) for key, pair in pairs.items()}
        corrected = holm({key: float(test["p"]) for key, test in tests.items()})
        for (metric, kind), pair in pairs.items():
            ours, theirs = (float(np.mean([*each.values()])) for each in pair)
            told = f"{ours:.3f} against {theirs:.3f}, {ours - theirs:+.3f}, p = {tests[metric, kind]['p']:.3f}, "
            told += f"corrected {corrected[metric, kind]:.3f}; {len(pair[0])} subjects, {len(found)} seeds"
            rows.at_least(f"{name}, {METRICS[metric]} by {level}, against {kind}", ours / theirs, 1, told)


def _pair(found: list[dict[str, Any]], level: str, metric: str, kind: str) -> tuple[Subjects, Subjects]:
    """Of the teacher and of what stands in its place."""
    return averaged(found, level, TEACHER, metric), averaged(found, level, f"{TEACHER}, {kind}", metric)


def main() -> None:
    """Train, evaluate, tell."""
    arguments = parser(__doc__)
    arguments.add_argument("study", nargs="+", help="study file, and changes to it")
    arguments.add_argument("--seeds", type=int, default=3)
    arguments.add_argument("--keep", type=Path, help="leave the workspace in this folder; what stands there is reused")
    given = arguments.parse_args()
    if given.seeds < 1:
        arguments.error("--seeds: at least one")
    rows, (study, *changes) = Rows(), given.study
    scratch: Callable[[], Any] = tempfile.TemporaryDirectory
    with scratch() if given.keep is None else contextlib.nullcontext(given.keep.resolve()) as folder:
        found = [results(study, changes, seed, Path(folder)) for seed in range(given.seeds)]
    add_rows(rows, found[0]["study"]["name"], found)
    finish(f"ablations.py, {found[0]['study']['name']}", rows, given.json)


if __name__ == "__main__":
    main()
