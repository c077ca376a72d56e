"""What each part is good for: ``python benchmarks/ablations.py STUDY [key=value ...] [--draws N] [--json F]``.

The study's temporal teacher stands beside the same network with random weights, a single layer of attention, itself
without a causal mask, and itself without its confidence head; its distilled student beside students that hear less of
the teachers, or hear it otherwise. Each of the draws has splits and seeds of its own, and a subject's figure is the
mean over them. Each row is the mean over subjects of the whole divided by that of what stands in its place, with the
test over subjects and draws, by Holm corrected for all rows. Below 1, what was left out does harm. AUROC is within a
subject; among all, and balanced accuracy, ask for one threshold that serves all subjects.

A teacher's confidence only weighs: by window it answers the same without, but for random numbers, so of that there are
rows by trial. For a student that does without, teachers weigh more beside the labels, and so it is with CA-MKD's
weights.
"""

import json
from pathlib import Path
from typing import Any

from rows import Rows, finish, parser
from studies import LEVELS, METRICS, Comparison, add_comparisons, drawn, figures, workspace

from mtkd.study import read_study

TEACHER, STUDENT, ALONE = "temporal teacher", "distilled", "labels alone"
STAND_INS: dict[str, dict[str, Any]] = {
    "random weights": {"pretrained": False},
    "one-layer attention": {"backbone": "one-layer attention"},
    "no causal mask": {"causal": False},
    "no confidence": {"confidence_weight": 0},
}
OF_TRIALS = "no confidence"
STUDENTS: dict[str, dict[str, Any]] = {
    ALONE: {"teachers": {}, "ce": 1.0},
    "the temporal teacher alone": {"teachers": {"temporal": 1.0}},
    "the spatial teacher alone": {"teachers": {"spatial": 1.0}},
    "no confidence": {"weighting": "equal"},
    "CA-MKD weights": {"weighting": "camkd"},
    "no hint": {"hint": 0.0},
    "no kd": {"kd": 0.0},
    "relations in place of kd and hint": {"kd": 0.0, "hint": 0.0, "rkd": 1.0, "relations": "subject"},
    "labels of full weight": {"ce": 1.0},
}


def students(study: str, given: list[str]) -> dict[str, dict[str, Any]]:
    """Those of every study, and those that turn around what this one does."""
    made = read_study(study, given)
    found = {STUDENT: {}} | STUDENTS
    found["not centred" if made.distill.centre else "centred"] = {"centre": None if made.distill.centre else "subject"}
    if made.splits.crossfit > 1 and made.distill.crossfit:
        found["no cross-fitting"] = {"crossfit": False}
    return found


def teachers(name: str, found: list[dict[str, Any]]) -> list[Comparison]:
    """The teacher against each of its stand-ins."""
    beside = [each["name"] for each in found[0]["models"] if each["kind"] == "beside"]
    named = {each: each.removeprefix(f"{TEACHER}, ") for each in beside}
    of_windows = {each: told for each, told in named.items() if told != OF_TRIALS}
    return _comparisons(f"{name}, teacher", found, TEACHER, {"window": of_windows, "trial": named})


def others(name: str, found: list[dict[str, Any]]) -> list[Comparison]:
    """The distilled student against each other one."""
    own = [each["name"] for each in found[0]["models"] if each["kind"] == "student" and each["name"] != STUDENT]
    return _comparisons(f"{name}, student", found, STUDENT, {level: {each: each for each in own} for level in LEVELS})


def _comparisons(
    title: str, found: list[dict[str, Any]], whole: str, against: dict[str, dict[str, str]]
) -> list[Comparison]:
    """By level those that ``against`` names, with what they are called."""
    return [
        Comparison(
            f"{title}, {METRICS[metric]} by {level}, against {told}",
            *(figures(found, level, model, metric) for model in (whole, other)),
        )
        for level in LEVELS
        for metric in METRICS
        for other, told in against[level].items()
    ]


def main() -> None:
    """Train, evaluate, tell."""
    arguments = parser(__doc__)
    arguments.add_argument("study", nargs="+", help="study file, and changes to it")
    arguments.add_argument("--draws", type=int, default=5)
    arguments.add_argument("--keep", type=Path, help="leave the workspace in this folder; what stands there is reused")
    given = arguments.parse_args()
    rows, (study, *changes) = Rows(), given.study
    beside = {name: {"temporal": changes} for name, changes in STAND_INS.items()}
    changes += [f"evaluate.teachers={json.dumps(beside)}"]
    changes += [f"evaluate.students={json.dumps(students(study, changes))}"]
    with workspace(given.keep) as folder:
        found = drawn(study, [*changes, f"workspace={folder}"], given.draws)
    name = found[0]["study"]["name"]
    add_comparisons(rows, teachers(name, found) + others(name, found), given.draws)
    finish(f"ablations.py, {name}", rows, given.json)


if __name__ == "__main__":
    main()
