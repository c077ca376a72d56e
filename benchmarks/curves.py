"""How much distillation helps: ``python benchmarks/curves.py STUDY [key=value ...] --over KEY V1 V2 ... [--seeds N]``.

The study is run once with each of the values of a key, such as ``--over splits.n_labelled 4 8 null`` for the number of
labelled subjects or ``--over data.simulate.label_noise 0 0.5 0.9`` for the noise of their ratings; null is none. Each
row is a distilled student's mean over subjects divided by that of the student it is compared with, which learned from
labels alone, with the test of the study's own table. Where the best possible predictor is known, the share of what it
reaches above chance is a row too.
"""

import contextlib
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rows import Rows, finish, parser
from studies import LEVELS, METRICS, add_row, results

from mtkd.evaluate.best import NO_EEG


def add_rows(rows: Rows, name: str, found: dict[str, Any]) -> None:
    """Of each distilled student, at both levels."""
    for level in LEVELS:
        block = found["levels"][level]["joint"]
        for test in block["comparisons"]:
            title = f"{name}, “{test['model']}”, {METRICS[test['metric']]} by {level}"
            add_row(rows, title, block, test)
        for student in (each["name"] for each in found["models"] if each["kind"] == "student"):
            for metric, share in block["models"][student]["share_of_possible"].get(NO_EEG, {}).items():
                ours, best = (block["models"][each]["mean"][metric] for each in (student, NO_EEG))
                title = f"{name}, “{student}”, {METRICS[metric]} by {level}, of the possible above chance"
                rows.at_least(title, share, 0.95, f"{ours:.3f} of {best:.3f}")


def main() -> None:
    """Train, evaluate, tell."""
    arguments = parser(__doc__)
    arguments.add_argument("study", nargs="+", help="study file, and changes to it")
    arguments.add_argument("--over", nargs="+", required=True, metavar=("KEY", "VALUE"), help="a key and its values")
    arguments.add_argument("--seeds", type=int, default=5)
    arguments.add_argument("--keep", type=Path, help="leave the workspace in this folder; what stands there is reused")
    given = arguments.parse_args()
    rows, (study, *changes), (key, *values) = Rows(), given.study, given.over
    if not values:
        arguments.error(f"--over {key}: no value")
    scratch: Callable[[], Any] = tempfile.TemporaryDirectory
    with scratch() if given.keep is None else contextlib.nullcontext(given.keep.resolve()) as folder:
        for value in values:
            own = [*changes, f"n_seeds={given.seeds}", f"workspace={folder}", f"{key}={value}"]
            found = results(study, own)
            add_rows(rows, f"{key.split('.')[-1]} {value}", found)
    finish(f"curves.py, {found['study']['name']}, {key}", rows, given.json)


if __name__ == "__main__":
    main()
