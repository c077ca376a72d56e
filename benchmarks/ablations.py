"""What each part is good for: ``python benchmarks/ablations.py STUDY [key=value ...] [--seeds N] [--json F]``.

The study's temporal teacher stands beside the same network with random weights, a single layer of attention, itself
without a causal mask, and itself without its confidence head; its distilled student beside students that hear less of
the teachers, or hear it otherwise. All on the same folds, with several seeds, whose mean is a subject's figure. Each
row is the mean over subjects of the whole divided by that of what stands in its place, with Wilcoxon's test over
subjects, by Holm corrected for all rows of a level and kind. Below 1, what was left out does harm. AUROC is within a
subject; among all, and balanced accuracy, ask for one threshold that serves all subjects.
"""

import contextlib
import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rows import Rows, finish, parser
from studies import LEVELS, METRICS, add_row, results

from mtkd.evaluate.statistics import compare, holm
from mtkd.study import read_study

TEACHER, STUDENT, ALONE = "temporal teacher", "distilled", "labels alone"
STAND_INS: dict[str, dict[str, Any]] = {
    "random weights": {"pretrained": False},
    "one-layer attention": {"backbone": "one-layer attention"},
    "no causal mask": {"causal": False},
    "no confidence": {"confidence_weight": 0},
}
STUDENTS: dict[str, dict[str, Any]] = {
    ALONE: {"teachers": {}, "ce": 1.0},
    "the temporal teacher alone": {"teachers": {"temporal": 1.0}},
    "the spatial teacher alone": {"teachers": {"spatial": 1.0}},
    "no confidence": {"weighting": "equal"},
    "CA-MKD weights": {"weighting": "camkd"},
    "no hint": {"hint": 0.0},
    "no kd": {"kd": 0.0, "ce": 1.0},
    "relations in place of kd and hint": {"kd": 0.0, "hint": 0.0, "ce": 1.0, "rkd": 1.0, "relations": "subject"},
}


def students(study: str, given: list[str]) -> dict[str, dict[str, Any]]:
    """Those of every study, and those that turn around what this one does."""
    made = read_study(study, given)
    found = {STUDENT: {}} | STUDENTS
    found["not centred" if made.distill.centre else "centred"] = {"centre": None if made.distill.centre else "subject"}
    if made.splits.crossfit > 1 and made.distill.crossfit:
        found["no cross-fitting"] = {"crossfit": False}
    return found


def add_teachers(rows: Rows, name: str, found: dict[str, Any]) -> None:
    """The teacher against each of its stand-ins."""
    for level in LEVELS:
        block = found["levels"][level]["joint"]
        for test in block["beside"]:
            turned = test | {"model": test["baseline"], "baseline": test["model"]}
            turned["mean_difference"] = -test["mean_difference"]
            stand_in = test["model"].removeprefix(f"{TEACHER}, ")
            add_row(rows, f"{name}, teacher, {METRICS[test['metric']]} by {level}, against {stand_in}", block, turned)


def add_students(rows: Rows, name: str, found: dict[str, Any]) -> None:
    """The distilled student against each other one."""
    for level in LEVELS:
        block = found["levels"][level]["joint"]
        others = [each["name"] for each in found["models"] if each["kind"] == "student" and each["name"] != STUDENT]
        tests = {
            (metric, other): compare(*(_figures(block, each, metric) for each in (STUDENT, other)))
            for metric in METRICS
            for other in others
        }
        corrected = holm({key: float(test["p"]) for key, test in tests.items()})
        for (metric, other), test in tests.items():
            told = test | {"model": STUDENT, "baseline": other, "metric": metric, "p_holm": corrected[metric, other]}
            add_row(rows, f"{name}, student, {METRICS[metric]} by {level}, against {other}", block, told)


def _figures(block: dict[str, Any], model: str, metric: str) -> dict[str, float | None]:
    return {subject: values[metric] for subject, values in block["models"][model]["subjects"].items()}


def main() -> None:
    """Train, evaluate, tell."""
    arguments = parser(__doc__)
    arguments.add_argument("study", nargs="+", help="study file, and changes to it")
    arguments.add_argument("--seeds", type=int, default=3)
    arguments.add_argument("--keep", type=Path, help="leave the workspace in this folder; what stands there is reused")
    given = arguments.parse_args()
    rows, (study, *changes) = Rows(), given.study
    beside = {name: {"temporal": changes} for name, changes in STAND_INS.items()}
    changes += [f"n_seeds={given.seeds}", f"evaluate.teachers={json.dumps(beside)}"]
    changes += [f"evaluate.students={json.dumps(students(study, changes))}"]
    scratch: Callable[[], Any] = tempfile.TemporaryDirectory
    with scratch() if given.keep is None else contextlib.nullcontext(given.keep.resolve()) as folder:
        found = results(study, [*changes, f"workspace={folder}"])
    name = found["study"]["name"]
    add_teachers(rows, name, found)
    add_students(rows, name, found)
    finish(f"ablations.py, {name}", rows, given.json)


if __name__ == "__main__":
    main()
