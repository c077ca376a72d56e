"""A student's answers along a recording, and their picture."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float


@dataclass(frozen=True)
class Timeline:
    """Answers along a recording: its windows in seconds, what was said of each; NaN where no sensor was on."""

    start_s: Float[np.ndarray, " window"]
    stop_s: Float[np.ndarray, " window"]
    probs: Float[np.ndarray, "window class"]
    confidence: Float[np.ndarray, " window"]


def plot_predictions(timeline: Timeline, class_names: list[str], title: str, path: Path) -> None:
    """Write a PNG: class probabilities stacked over time in seconds, the confidence below; gaps are NaN."""
    import matplotlib

    matplotlib.rcParams["text.parse_math"] = False  # names may hold a $
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 4.6), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=[2.2, 1])
    colours = matplotlib.colormaps["viridis"](np.linspace(0.08, 0.92, len(class_names)))
    edges = np.append(timeline.start_s, timeline.stop_s[-1])
    # windows may overlap: each is drawn from its start to the next one's
    floor = np.zeros(len(timeline.start_s))
    for index, name in enumerate(class_names):
        top = floor + timeline.probs[:, index]
        above.stairs(top, edges, baseline=floor, fill=True, color=colours[index], label=name)
        floor = top
    above.set(ylabel="class probability", ylim=(0, 1), xlim=(edges[0], edges[-1]), title=title)
    above.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False, reverse=True)  # as they are stacked
    below.stairs(timeline.confidence, edges, baseline=None, color="0.2", linewidth=1.8)
    below.set(xlabel="time (s)", ylabel="confidence", ylim=(0, 1))
    for axes in (above, below):
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=150, format="png")
