"""The tables on the command line and the page ``report.html``, both from the content of ``results.json``."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from mtkd.errors import MtkdError
from mtkd.evaluate import plots
from mtkd.evaluate.metrics import has_confidence
from mtkd.evaluate.predictions import Predictions
from mtkd.evaluate.reading import between, listed, number, p_value, percent, reading, with_sd
from mtkd.evaluate.results import COMPARED
from mtkd.evaluate.scalp import scalp_figure
from mtkd.files import publish_file

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from rich.table import Table

TEMPLATE = "report.html.j2"
LINE = 90
"""Characters of provenance that fit in a line of the page."""
COLUMNS = {
    "balanced_accuracy": "balanced accuracy",
    "auroc": "AUROC",
    "auroc_among_all": "AUROC among all",
    "macro_f1": "macro-F1",
    "kappa": "Cohen's κ",
    "ece": "ECE",
}


def format_table(results: dict[str, Any], level: str, target: str = "joint") -> list[tuple[str, str, str]]:
    """(model, balanced accuracy, AUROC) of each row, as "0.61 ± 0.08": mean and standard deviation over subjects."""
    block = _block(results, level, target)
    return [
        (name, with_sd(block["models"][name], "balanced_accuracy"), with_sd(block["models"][name], "auroc"))
        for name in (model["name"] for model in results["models"])
    ]


def console_table(results: dict[str, Any]) -> "Table":
    """The joint classes' table for a terminal: balanced accuracy and AUROC by window and by trial."""
    from rich.table import Table

    protocol = results["protocol"]
    table = Table(
        title=f"{results['study']['name']}: {protocol['n_subjects']} test subjects, {protocol['n_trials']} trials",
        caption="mean ± standard deviation over subjects"
        + ("; possible: what the best predictor there can be says" if plots.possible(results["models"]) else "")
        + (f"; nothing of {', '.join(results['study']['untested'])}" if results["study"].get("untested") else "")
        + ("; statistics of test subjects' recordings were used" if results["study"]["transductive"] else ""),
    )
    table.add_column("model", overflow="fold")
    for level in results["levels"]:
        for title in ("balanced\naccuracy", "\nAUROC"):
            table.add_column(f"{title}\nby {level}", justify="right", no_wrap=True)
    columns = [format_table(results, level) for level in results["levels"]]
    for rows in zip(*columns, strict=True):
        table.add_row(rows[0][0], *(text for row in rows for text in row[1:]))
    return table


def write_report(
    results: dict[str, Any], predictions: dict[str, Predictions], importance: list[dict[str, Any]], folder: Path
) -> Path:
    """Write ``folder/report.html``, one file that needs nothing else: no script, no request, figures inside.

    Args:
        results: of ``build_results``, or read back from ``results.json``.
        predictions: those it was built from.
        importance: of the spatial teacher's electrodes, over all folds and then of each, see ``scalp_figure``; empty
            where there is none.
        folder: made where it is not there.

    Returns:
        The page's path.

    Raises:
        MtkdError: ``predictions`` are not those of ``results``.
    """
    names = [model["name"] for model in results["models"]]
    if set(names) != set(predictions):
        raise MtkdError(f"report: results and predictions differ in {sorted(set(names) ^ set(predictions))}")
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    page = environment.get_template(TEMPLATE).render(_context(results, predictions, importance))
    path = folder / "report.html"
    with publish_file(path) as aside:
        aside.write_text(page, encoding="utf-8")
    return path


def _context(
    results: dict[str, Any], predictions: dict[str, Predictions], importance: list[dict[str, Any]]
) -> dict[str, Any]:
    targets, trained = list(results["levels"]["trial"]), plots.trained(results["models"])
    return {
        "study": results["study"],
        "protocol": results["protocol"],
        "reading": reading(results),
        "unheard": {name: count for name, count in results["study"].get("unheard", {}).items() if count},
        "targets": [_target(results, target) for target in targets],
        "subsets": [_subset_rows(name, table) for name, table in results["subsets"].items()],
        "confusion": _image(plots.confusion_figure(results)) if trained else None,
        "calibration": _image(plots.calibration_figure(results, predictions)) if trained else None,
        "confidence": _confidence(results, predictions),
        "scalps": [_scalp(each, _top(importance)) for each in importance],
        "folds": [_fold(fold, results["study"]["class_names"]) for fold in results["folds"]],
        "provenance": [(key, _text(value)) for key, value in results["provenance"].items()],
    }


def _image(figure: "Figure") -> dict[str, Any]:
    return {"data": plots.png(figure), "width": round(figure.get_figwidth() * 100)}


def _target(results: dict[str, Any], target: str) -> dict[str, Any]:
    levels = []
    for level in ("trial", "window"):
        block = _block(results, level, target)
        shown = {
            "level": level,
            "rows": [_row(model, block) for model in results["models"]],
            "marks": _marks(block),
            "comparisons": [_comparison(entry, block["gap_closed"]) for entry in block["comparisons"]],
            "beside": [_comparison(entry, {}) for entry in block["beside"]],
            "best_teachers": listed(
                [f"“{name}” ({COLUMNS[metric]})" for metric, name in block["best_teacher"].items()]
            ),
            "limit": number(block["chance"]["limit"]),
        }
        levels.append(shown)
    class_names = results["levels"]["trial"][target]["class_names"]
    figure = _image(plots.results_figure(results, target))
    counts = results["levels"]["trial"][target]["chance"]["n_trials_per_class"]
    return {
        "name": target,
        "levels": levels,
        "figure": figure,
        "columns": list(COLUMNS.values()),
        "possible": plots.possible(results["models"]),
        "classes": [f"{name}: {count} trials" for name, count in zip(class_names, counts, strict=True)],
    }


def _row(model: dict[str, str], block: dict[str, Any]) -> dict[str, Any]:
    entry = block["models"][model["name"]]
    low, high = entry["interval"]
    return {
        **model,
        "values": [with_sd(entry, metric) for metric in COLUMNS],
        "pooled": f"{number(entry['pooled']['balanced_accuracy'])} ({number(low)} to {number(high)})",
        "between_seeds": " / ".join(number(entry["sd_seeds"][metric], ".3f") for metric in COMPARED),
        "shares": [
            f"{percent(share['balanced_accuracy'])} / {percent(share['auroc'])}".replace(" %", "\u00a0%")
            for share in entry["share_of_possible"].values()
        ],
        "n_rows": entry["n_rows"],
    }


def _marks(block: dict[str, Any]) -> list[dict[str, str]]:
    """What the rows are to be held against: chance, and what the best possible models reach on average over studies."""
    chance = block["chance"]
    marks = [{"name": "chance", **{metric: number(chance[metric]) for metric in COMPARED}}]
    for name, best in block["expected"].items():
        values = {metric: number(best.get(metric)) for metric in COMPARED}
        marks.append({"name": f"{name}: on average", **values})
    return marks


def _comparison(entry: dict[str, Any], gaps: dict[str, Any]) -> dict[str, Any]:
    gap = gaps.get(entry["model"], {}).get(entry["metric"])
    return {
        "model": entry["model"],
        "baseline": entry["baseline"],
        "metric": COLUMNS[entry["metric"]],
        "n": f"{entry['n']} ({entry['n_differing']})",
        "difference": number(entry["mean_difference"], "+.3f") + between(entry),
        "effect": number(entry["effect"], "+.2f"),
        "p_values": [p_value(entry[key]) for key in ("p", "p_holm", "p_greater", "p_wilcoxon")],
        "gap": percent(gap),
    }


def _confidence(results: dict[str, Any], predictions: dict[str, Predictions]) -> dict[str, Any] | None:
    names = [name for name in plots.trained(results["models"]) if has_confidence(predictions[name].labelled())]
    if not names:
        return None
    rows = []
    for name in names:
        answers = predictions[name].labelled()
        entries = [results["levels"][level]["joint"]["models"][name] for level in ("window", "trial")]
        split = [answers.confidence[answers.right], answers.confidence[~answers.right]]
        means = [number(float(part.mean()) if len(part) else None) for part in split]
        ranking = [number(entry["pooled"]["confidence_auroc"]) for entry in entries]
        spread = with_sd(entries[0], "confidence_auroc")
        rows.append({"name": name, "values": [*ranking, spread, *means, number(float(answers.right.mean()))]})
    figures = {"figure": plots.time_figure, "calibration": plots.confidence_figure}
    return {"rows": rows} | {key: _image(draw(results, predictions, names)) for key, draw in figures.items()}


def _subset_rows(name: str, table: list[dict[str, Any]]) -> dict[str, Any]:
    rows = [
        {
            "modalities": " + ".join(entry["modalities"]),
            "values": [with_sd(entry[level], metric) for level in ("trial", "window") for metric in COMPARED],
        }
        for entry in table
    ]
    return {"name": name, "rows": rows}


def _top(importance: list[dict[str, Any]]) -> float:
    """The largest importance of any fold, for one scale of colours."""
    return max((float(value) for each in importance for value in each["values"] if value == value), default=1.0)


def _scalp(importance: dict[str, Any], top: float) -> dict[str, Any]:
    figure, left_out = scalp_figure(importance, top)
    has_edges = importance.get("learned") is not None
    return {"figure": _image(figure) if figure else None, "left_out": left_out, "edges": has_edges}


def _fold(fold: dict[str, Any], class_names: list[str]) -> dict[str, Any]:
    sides = []
    for side in ("train", "val", "test"):
        shares = fold["class_shares"].get(side)
        text = ", ".join(percent(share) for share in shares) if shares else "—"
        sides.append({"n": len(fold[side]), "subjects": ", ".join(map(str, fold[side])), "shares": text})
    return {"fold": fold["fold"], "sides": sides, "class_names": class_names}


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    line = json.dumps(value, ensure_ascii=False)
    return line if len(line) <= LINE else json.dumps(value, indent=2, ensure_ascii=False)


def _block(results: dict[str, Any], level: str, target: str) -> dict[str, Any]:
    try:
        block: dict[str, Any] = results["levels"][level][target]
    except KeyError:
        raise MtkdError(f"results: no {level} level with target {target}") from None
    return block
