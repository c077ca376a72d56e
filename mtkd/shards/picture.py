"""One trial as a picture: every channel over time, and when it was masked."""

from pathlib import Path
from typing import Any

import numpy as np

from mtkd.config import Modality
from mtkd.files import publish_file
from mtkd.shards.read import ShardSet
from mtkd.signals.channels import UNIT

_INCH_A_CHANNEL = 0.22
_SCALED = {"V": ("µV", 1e6), "S": ("µS", 1e6), "degC": ("°C", 1.0), "a.u.": ("a.u.", 1.0)}


def draw_trial(shards: ShardSet, key: str, path: Path) -> None:
    """Write a PNG: a panel a modality, its channels one under another at one scale, masked seconds shaded."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot as plt

    sample = shards.samples[key]
    heights = [max(5, len(layout.ch_names)) for layout in sample.modalities.values()]
    figure, axes = plt.subplots(
        len(heights),
        figsize=(11, 1 + _INCH_A_CHANNEL * sum(heights) + 0.3 * len(heights)),
        height_ratios=heights,
        sharex=True,
        squeeze=False,
        layout="constrained",
    )
    for axis, (modality, layout) in zip(axes[:, 0], sample.modalities.items(), strict=True):
        data, valid = (shards.read(key, f"{modality}.{name}") for name in ("npy", "valid.npy"))
        _draw_modality(axis, modality, layout.ch_names, data, valid, layout.sfreq)
    rated = ", ".join(f"{name} {value:.3g}" for name, value in sample.ratings.items()) or "not rated"
    axes[0, 0].set_title(f"{key}, {sample.stimulus} ({rated})")
    axes[-1, 0].set_xlabel("time in the trial (s)")
    axes[-1, 0].set_xlim(0, sample.duration_s)
    path.parent.mkdir(parents=True, exist_ok=True)
    with publish_file(path) as aside:
        figure.savefig(aside, format="png", dpi=120)
    plt.close(figure)


def _draw_modality(
    axis: Any, modality: Modality, names: list[str], data: np.ndarray, valid: np.ndarray, sfreq: float
) -> None:
    unit, scale = _SCALED[UNIT[modality]]
    times = np.arange(data.shape[1]) / sfreq
    centred = [scale * (row - np.median(row[on]) if on.any() else row) for row, on in _rows(data, valid, sfreq)]
    spans = [np.ptp(np.percentile(row, [1, 99])) for row in centred]
    step = 1.2 * max(max(spans), 1e-12)
    for index, row in enumerate(centred):
        axis.plot(times, row - index * step, linewidth=0.6, color="#1f4e79")
        for second in np.flatnonzero(~valid[index]):
            low, high = -(index + 0.5) * step, -(index - 0.5) * step
            axis.fill_between([second, second + 1], low, high, color="#d55e00", alpha=0.25, linewidth=0)
    axis.set_yticks([-index * step for index in range(len(names))], names, fontsize=7)
    axis.set_ylim(-(len(names) - 0.4) * step, 0.6 * step)
    told = f"{step:.3g} {unit} apart" if len(names) > 1 else f"{step:.3g} {unit}"
    axis.set_ylabel(f"{modality}\n{told}", fontsize=8)
    axis.margins(x=0)


def _rows(data: np.ndarray, valid: np.ndarray, sfreq: float) -> list[tuple[np.ndarray, np.ndarray]]:
    """Each channel with the samples at which it is valid."""
    second = np.minimum(np.arange(data.shape[1]) / sfreq, valid.shape[1] - 1).astype(int)
    return [(row, on[second]) for row, on in zip(data, valid, strict=True)]
