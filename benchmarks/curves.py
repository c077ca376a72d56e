"""How much distillation helps: ``python benchmarks/curves.py STUDY [key=value ...] --over KEY V1 V2 ...``.

The study is run with each of the values of a key, such as ``--over splits.n_labelled 4 8 null`` for the number of
labelled subjects or ``--over data.simulate.label_noise 0 0.5 0.9`` for the noise of their ratings; null is none. Each
of the draws has splits and seeds of its own, and a subject's figure is the mean over them. Each row is a student's mean
over subjects divided by that of the student it is compared with, which learned from labels alone, with the test over
subjects and draws, corrected over all rows of all values. Where the best possible predictor is known, the share of what
it reaches above chance is a row too.

With ``--control key=value ...`` each draw is made a second time with these changes, such as teachers without EEG, and
every student with teachers is held against its namesake there, too.
"""

from typing import Any

import numpy as np
from rows import Rows, finish
from studies import LEVELS, METRICS, Comparison, add_comparisons, drawn, figures, given_over, workspace

from mtkd.evaluate.best import NO_EEG
from mtkd.evaluate.statistics import share_of_possible


def comparisons(name: str, found: list[dict[str, Any]]) -> list[Comparison]:
    """Of each student that is compared with another one, at both levels."""
    return [
        Comparison(
            f"{name}, “{test['model']}”, {METRICS[test['metric']]} by {level}",
            *(figures(found, level, test[side], test["metric"]) for side in ("model", "baseline")),
        )
        for level in LEVELS
        for test in found[0]["levels"][level]["joint"]["comparisons"]
    ]


def against_control(name: str, found: list[dict[str, Any]], control: list[dict[str, Any]]) -> list[Comparison]:
    """Of each student that is compared with another one, with that of its name in the control."""
    return [
        Comparison(
            f"{name}, “{model}”, {title} by {level}, against the control",
            *(figures(each, level, model, metric) for each in (found, control)),
        )
        for level in LEVELS
        for metric, title in METRICS.items()
        for model in dict.fromkeys(
            test["model"] for test in found[0]["levels"][level]["joint"]["comparisons"] if test["metric"] == metric
        )
    ]


def add_shares(rows: Rows, name: str, found: list[dict[str, Any]]) -> None:
    """What each student reaches of what is possible above chance, where that is known and there is any."""
    students = [each["name"] for each in found[0]["models"] if each["kind"] == "student"]
    known = any(each["name"] == NO_EEG for each in found[0]["models"])
    for level in LEVELS:
        blocks = [each["levels"][level]["joint"] for each in found]
        for metric, title in METRICS.items() if known else ():
            chance, best = np.mean([_ends(each, metric) for each in blocks], axis=0).tolist()
            for student in students:
                ours = float(np.mean([each["models"][student]["mean"][metric] for each in blocks]))
                share = share_of_possible(ours, chance, best)
                if share is not None:
                    told = f"{name}, “{student}”, {title} by {level}, of the possible above chance"
                    rows.at_least(told, share, 0.95, f"{ours:.3f} of {best:.3f}")


def _ends(block: dict[str, Any], metric: str) -> tuple[float, float]:
    return block["chance"][metric], block["models"][NO_EEG]["mean"][metric]


def main() -> None:
    """Train, evaluate, tell."""
    given, rows, every = given_over(__doc__, controlled=True), Rows(), []
    named = {}
    with workspace(given.keep) as folder:
        for value in given.values:
            name = f"{given.key.split('.')[-1]} {value}"
            words = [*given.changes, f"workspace={folder}", f"{given.key}={value}"]
            named[name] = drawn(given.study, words, given.draws)
            every += comparisons(name, named[name])
            if given.control:
                control = drawn(given.study, [*words, *given.control], given.draws)
                every += against_control(name, named[name], control)
    add_comparisons(rows, every, given.draws)
    for name, found in named.items():
        add_shares(rows, name, found)
    finish(f"curves.py, {found[0]['study']['name']}, {given.key}", rows, given.json)


if __name__ == "__main__":
    main()
