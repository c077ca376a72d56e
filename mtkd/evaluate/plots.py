"""The report's figures, drawn from ``build_results`` and the models' predictions with matplotlib's object interface.

Nothing here touches pyplot's state or needs a display. A model has one colour in all figures (Okabe & Ito, 2008, told
apart by colour-blind readers), trivial predictors are grey, and every series is named in words beside its colour.
"""

import base64
import io
import math
import textwrap
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from mtkd.evaluate.metrics import calibration_curve, confidence_curve, confidence_over_time, ece
from mtkd.evaluate.predictions import Predictions
from mtkd.evaluate.reading import percent

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

TRIVIAL = ("#8c8c8c", "#5c5c5c")
COLOURS = ("#0072B2", "#56B4E9", "#E69F00", "#D55E00", "#009E73", "#CC79A7", "#882255", "#44AA99", "#999933", "#332288")
INK = "#333333"
TITLES = {"balanced_accuracy": "balanced accuracy", "auroc": "AUROC", "auroc_among_all": "AUROC among all"}
STYLES = ("-.", ":")
"""Of the lines at what is possible, in the order of the tables."""
DPI = 150
FEW = 0.01


def colours(models: list[dict[str, str]]) -> dict[str, str]:
    """A colour for each model of ``results["models"]``, by its place in the table."""
    grey = [model["name"] for model in models if model["kind"] == "trivial"]
    chosen = {name: TRIVIAL[index % len(TRIVIAL)] for index, name in enumerate(grey)}
    chosen |= {name: COLOURS[index % len(COLOURS)] for index, name in enumerate(trained(models))}
    return chosen | dict.fromkeys(possible(models), "black")


def trained(models: list[dict[str, str]]) -> list[str]:
    """Names of teachers and students."""
    return [model["name"] for model in models if model["kind"] in ("teacher", "beside", "student")]


def possible(models: list[dict[str, str]]) -> list[str]:
    """Names of the best there can be."""
    return [model["name"] for model in models if model["kind"] == "possible"]


def png(figure: "Figure") -> str:
    """The figure as a base64 PNG, to stand in a page without a file beside it."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=DPI)
    return base64.b64encode(buffer.getvalue()).decode("ascii")


def new_figure(width: float, height: float) -> "Figure":
    """An empty figure, width and height in inches, drawn by Agg."""
    import matplotlib

    matplotlib.rcParams["text.parse_math"] = False  # names may hold a $
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    figure = Figure(figsize=(width, height), layout=ConstrainedLayoutEngine(w_pad=0.08, h_pad=0.08))
    FigureCanvasAgg(figure)
    return figure


def results_figure(results: dict[str, Any], target: str) -> "Figure":
    """Every model's balanced accuracy and AUROC over subjects, by trial and window, chance and what is possible."""
    n_models = len(results["models"])
    figure = new_figure(10, 1.9 + 2 * 0.36 * n_models)
    axes = figure.subplots(2, len(TITLES), sharex="col", sharey=True)
    for row, (level, title) in zip(axes, (("trial", "by trial"), ("window", "by window")), strict=True):
        block = results["levels"][level][target]
        for ax, metric in zip(row, TITLES, strict=True):
            _spread(ax, block, results["models"], metric)
            ax.set_title(f"{TITLES[metric]}, {title}", loc="left", fontsize=9.5, color=INK)
    lines = {label: line for ax in axes.flat for line, label in zip(*ax.get_legend_handles_labels(), strict=True)}
    figure.legend(lines.values(), lines.keys(), loc="outside upper center", ncols=4, frameon=False, fontsize=9)
    return figure


def _spread(ax: "Axes", block: dict[str, Any], models: list[dict[str, str]], metric: str) -> None:
    palette, jitter = colours(models), np.random.default_rng(0)
    for place, name in enumerate(model["name"] for model in models):
        entry = block["models"][name]
        values = [subject[metric] for subject in entry["subjects"].values() if subject[metric] is not None]
        heights = place + jitter.uniform(-0.2, 0.2, len(values))
        ax.scatter(values, heights, s=14, color=palette[name], alpha=0.45, linewidths=0, zorder=2)
        if entry["mean"][metric] is not None:
            error = [entry["sd"][metric] or 0]
            bar: dict[str, Any] = {"ecolor": INK, "elinewidth": 1.6, "capsize": 3, "mec": INK, "zorder": 3}
            ax.errorbar([entry["mean"][metric]], [place], xerr=[error], fmt="D", ms=6, color=palette[name], **bar)
    ax.axvline(block["chance"][metric], color="#777777", lw=1, zorder=1, label="chance")
    if metric == "balanced_accuracy" and block["chance"]["limit"] is not None:
        label = "upper 5 % of guessing (pooled trials)"
        ax.axvline(block["chance"]["limit"], color="#777777", lw=1, ls="--", zorder=1, label=label)
    for index, name in enumerate(possible(models)):
        best = block["models"][name]["mean"][metric]
        if best is not None:
            ax.axvline(best, color="black", lw=1.4, ls=STYLES[index % len(STYLES)], zorder=1, label=name)
    ax.set_yticks(range(len(models)), [model["name"] for model in models], fontsize=9)
    ax.set_ylim(len(models) - 0.5, -0.5)
    low, high = ax.get_xlim()
    if metric != "auroc_among_all":  # whose figures of subjects are pseudo-values
        ax.set_xlim(max(low, -0.04), min(high, 1.04))  # a standard deviation may reach where no figure can be
    _tidy(ax, "x")


def confusion_figure(results: dict[str, Any], level: str = "trial", target: str = "joint") -> "Figure":
    """Confusion matrices of teachers and students: shares of each true class, with counts."""
    block = results["levels"][level][target]
    names = trained(results["models"])
    labels = ["\n".join(_wrapped(part, 12) for part in name.split(", ")) for name in block["class_names"]]
    many = len(labels) > 2
    figure, panels = _panels(names, 2.9 if many else 2.1, 3.2 if many else 2.5, most=3 if many else 5)
    for ax, name in zip(panels, names, strict=True):
        counts = np.array(block["models"][name]["confusion"])
        shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
        image = ax.imshow(shares, vmin=0, vmax=1, cmap="Blues")
        for (row, column), share in np.ndenumerate(shares):
            text = f"{percent(share)}\n({counts[row, column].round(1):g})"
            ax.text(column, row, text, ha="center", va="center", fontsize=8, color="white" if share > 0.55 else INK)
        ax.set_title(_wrapped(name), fontsize=9.5, color=INK)
        turned: dict[str, Any] = {"rotation": 45, "ha": "right", "rotation_mode": "anchor"} if many else {}
        ax.set_xticks(range(len(labels)), labels, fontsize=8, **turned)
        ax.set_yticks(range(len(labels)), labels, fontsize=8)
        ax.tick_params(length=0)
    figure.supxlabel("decided class", fontsize=9)
    figure.supylabel("true class", fontsize=9)
    bar = figure.colorbar(image, ax=panels, shrink=0.7, pad=0.01)
    bar.set_label("share of the true class", fontsize=9)
    bar.ax.tick_params(labelsize=8)
    return figure


def calibration_figure(results: dict[str, Any], predictions: dict[str, Predictions]) -> "Figure":
    """Reliability curves of teachers and students by window; a dot's area grows with its bin's share of windows.

    Bins with less than a hundredth of the windows are hollow and off the line.
    """
    names = trained(results["models"])
    palette, n_bins = colours(results["models"]), results["study"]["n_bins"]
    figure, panels = _panels(names, 2.1, 2.5)
    for ax, name in zip(panels, names, strict=True):
        rows = predictions[name].labelled()
        curve = calibration_curve(rows.label, rows.probs, n_bins)
        _reliability(ax, curve["probability"], curve["accuracy"], curve["n"], palette[name])
        error = ece(rows.label, rows.probs, n_bins)
        ax.set_title(f"{_wrapped(name)}\nECE {error:.3f}", fontsize=9.5, color=INK)
        ax.set_xlim(1 / rows.n_classes - 0.05, 1.03)
    figure.supxlabel("probability of the decided class (mean of the bin)", fontsize=9)
    figure.supylabel("share of right decisions", fontsize=9)
    return figure


def confidence_figure(results: dict[str, Any], predictions: dict[str, Predictions], names: list[str]) -> "Figure":
    """The same of the confidence of ``names``, against the probability that was given to the true class."""
    palette, n_bins = colours(results["models"]), results["study"]["n_bins"]
    figure, panels = _panels(names, 2.1, 2.5)
    for ax, name in zip(panels, names, strict=True):
        curve = confidence_curve(predictions[name].labelled(), n_bins)
        _reliability(ax, curve["confidence"], curve["probability"], curve["n"], palette[name])
        gap = np.average(np.abs(np.subtract(curve["confidence"], curve["probability"])), weights=curve["n"])
        ax.set_title(f"{_wrapped(name)}\nmean distance {gap:.3f}", fontsize=9.5, color=INK)
        ax.set_xlim(-0.03, 1.03)
    figure.supxlabel("confidence (mean of the bin)", fontsize=9)
    figure.supylabel("probability given to the true class", fontsize=9)
    return figure


def _reliability(ax: "Axes", said: list[float], found: list[float], n: list[float], colour: str) -> None:
    """What was found against what was said, a dot a bin; hollow and off the line where few windows are in it."""
    share = np.array(n) / sum(n)
    many = np.array(n) >= max(FEW * sum(n), 2)
    ax.plot([0, 1], [0, 1], color="#777777", lw=1, ls="--")
    ax.plot(np.array(said)[many], np.array(found)[many], color=colour, lw=1.5)
    filled = [colour if enough else "white" for enough in many]
    rims = [INK if enough else colour for enough in many]
    ax.scatter(said, found, s=12 + 240 * share, color=filled, edgecolors=rims, lw=0.7, clip_on=False, zorder=3)
    ax.set_ylim(0, 1.03)
    _tidy(ax, "both")


def time_figure(results: dict[str, Any], predictions: dict[str, Predictions], names: list[str]) -> "Figure":
    """Mean confidence and accuracy against the window's place in its trial, for each of ``names``."""
    palette, hop_s = colours(results["models"]), results["study"].get("hop_s")
    figure, panels = _panels(names, 2.1, 2.3)
    said: list[float] = []
    for ax, name in zip(panels, names, strict=True):
        course = confidence_over_time(predictions[name].labelled())
        time = np.array(course["window"]) * (hop_s or 1)
        mark: dict[str, Any] = {"marker": "o", "ms": 3.5} if len(time) < 25 else {}
        ax.plot(time, course["confidence"], color=palette[name], lw=2, label="confidence", **mark)
        ax.plot(time, course["accuracy"], color=INK, lw=1.3, ls="--", label="accuracy")
        ax.set_title(_wrapped(name), fontsize=9.5, color=INK)
        _tidy(ax, "both")
        said += [*course["confidence"], *course["accuracy"]]
    panels[0].set_ylim(max(min(said) - 0.08, 0), min(max(said) + 0.08, 1.02))
    lines, labels = panels[0].get_legend_handles_labels()
    figure.legend(lines, labels, loc="outside upper center", ncols=2, frameon=False, fontsize=9)
    figure.supxlabel("start of the window in its trial (s)" if hop_s else "window in its trial (number)", fontsize=9)
    figure.supylabel("mean over trials", fontsize=9)
    return figure


def _panels(names: list[str], width: float, height: float, most: int = 5) -> tuple["Figure", list["Axes"]]:
    """A figure with one panel a name, ``width`` by ``height`` inches each, ``most`` side by side."""
    n_rows = math.ceil(len(names) / most)
    columns = math.ceil(len(names) / n_rows)
    figure = new_figure(max(width * columns + 0.8, 4), height * n_rows + 0.4)
    axes = figure.subplots(n_rows, columns, squeeze=False, sharex=True, sharey=True)
    for spare in axes.flat[len(names) :]:
        spare.remove()
    for lowest in axes.flat[len(names) - columns : len(names)]:
        lowest.tick_params(labelbottom=True)
    return figure, list(axes.flat[: len(names)])


def _wrapped(name: str, width: int = 20) -> str:
    return textwrap.fill(name, width, break_on_hyphens=False)


def _tidy(ax: "Axes", grid: Literal["x", "both"]) -> None:
    ax.spines[["top", "right"]].set_visible(False)
    ax.grid(axis=grid, color="#e4e4e4", lw=0.7)
    ax.set_axisbelow(True)
    ax.tick_params(labelsize=8, colors=INK)
