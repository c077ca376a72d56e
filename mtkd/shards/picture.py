"""One trial as a picture: every channel over time, and when it was masked."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mtkd.config import Modality
from mtkd.files import publish_file
from mtkd.shards.index import Sample
from mtkd.shards.magnitudes import is_rate, scaled
from mtkd.shards.read import ShardSet
from mtkd.signals.channels import UNIT

_INCH_A_CHANNEL = 0.22
_LEVELS = ("S", "degC", "Hz")  # units of what has a level worth reading


@dataclass(frozen=True)
class _Panel:
    """Channels (n_chans, n_times) that are drawn at one scale, with the seconds in which each is valid."""

    title: str
    unit: str
    names: list[str]
    data: np.ndarray
    valid: np.ndarray
    sfreq: float


def draw_trial(shards: ShardSet, key: str, path: Path) -> None:
    """Write a PNG: a panel a modality, its channels one under another at one scale, masked seconds shaded."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot as plt

    sample = shards.samples[key]
    panels = [panel for modality in sample.modalities for panel in _panels(shards, sample, modality)]
    heights = [max(5, len(panel.names)) for panel in panels]
    figure, axes = plt.subplots(
        len(heights),
        figsize=(11, 1 + _INCH_A_CHANNEL * sum(heights) + 0.3 * len(heights)),
        height_ratios=heights,
        sharex=True,
        squeeze=False,
        layout="constrained",
    )
    for axis, panel in zip(axes[:, 0], panels, strict=True):
        _draw(axis, panel)
    rated = ", ".join(f"{name} {value:.3g}" for name, value in sample.ratings.items()) or "not rated"
    axes[0, 0].set_title(f"{key}, {sample.stimulus} ({rated})", parse_math=False)
    axes[-1, 0].set_xlabel("time in the trial (s)")
    axes[-1, 0].set_xlim(0, sample.duration_s)
    path.parent.mkdir(parents=True, exist_ok=True)
    with publish_file(path) as aside:
        figure.savefig(aside, format="png", dpi=120)
    plt.close(figure)


def _panels(shards: ShardSet, sample: Sample, modality: Modality) -> Iterator[_Panel]:
    """One for the modality, and one for the rates that were made of it."""
    layout = sample.modalities[modality]
    data, valid = (shards.read(sample.key, f"{modality}.{name}") for name in ("npy", "valid.npy"))
    for title, unit, rates in ((modality, UNIT[modality], False), (f"{modality} rate", "Hz", True)):
        rows = [row for row, name in enumerate(layout.ch_names) if is_rate(name) == rates]
        if rows:
            yield _Panel(title, unit, [layout.ch_names[row] for row in rows], data[rows], valid[rows], layout.sfreq)


def _draw(axis: Any, panel: _Panel) -> None:
    n_times = panel.data.shape[1]
    second = np.minimum(np.arange(n_times) / panel.sfreq, panel.valid.shape[1] - 1).astype(int)
    rows = [np.where(valid[second], row, np.nan) for row, valid in zip(panel.data, panel.valid, strict=True)]
    levels = [0.0 if np.isnan(row).all() else float(np.nanmedian(row)) for row in rows]
    rows = [row - level for row, level in zip(rows, levels, strict=True)]
    step = 1.25 * max([1e-12, *(np.ptp(np.nanpercentile(row, [0.1, 99.9])) for row in rows if not np.isnan(row).all())])
    for index, row in enumerate(rows):
        axis.plot(np.arange(n_times) / panel.sfreq, row - index * step, linewidth=0.6, color="#1f4e79")
        for off in np.flatnonzero(~panel.valid[index]):
            low, high = -(index + 0.5) * step, -(index - 0.5) * step
            axis.fill_between([off, off + 1], low, high, color="#d55e00", alpha=0.25, linewidth=0)
    names = [_named(panel, name, level) for name, level in zip(panel.names, levels, strict=True)]
    axis.set_yticks([-index * step for index in range(len(names))], names, fontsize=7, parse_math=False)
    top, bottom = np.nanmax([*rows[0], 0.5 * step]), np.nanmin([*rows[-1], -0.5 * step])
    axis.set_ylim(bottom - (len(rows) - 1 + 0.05) * step, top + 0.05 * step)
    unit, scale = scaled(panel.unit, step)
    axis.set_ylabel(f"{panel.title}\n{_told(step * scale)} {unit} a row", fontsize=8)
    axis.margins(x=0)


def _named(panel: _Panel, name: str, level: float) -> str:
    """With the level that was taken off it, where one is worth reading."""
    if panel.unit not in _LEVELS or level == 0:
        return name
    unit, scale = scaled(panel.unit, abs(level))
    return f"{name} ({_told(level * scale)} {unit})"


def _told(value: float) -> str:
    """Three digits, and no power of ten where these are all before the point."""
    return f"{value:.3g}" if abs(value) < 1000 else f"{value:.0f}"
