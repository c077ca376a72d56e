"""What models are given: windows of some trials, with masks."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from mtkd.config import Modality, Windows
from mtkd.errors import MtkdError
from mtkd.shards.index import Sample
from mtkd.shards.labels import UNLABELLED, class_index
from mtkd.shards.read import ShardSet
from mtkd.shards.schema import Layout
from mtkd.signals.windows import cut, cut_valid, n_windows


@dataclass(frozen=True)
class Batch:
    """Some trials cut into steps (windows, or the temporal teacher's patches).

    ``signals`` in SI units. ``valid`` is true where a channel gave a signal throughout the step; where it is false,
    part of the step may still hold one. ``steps`` is false where a trial is padded to the longest,
    and throughout for a trial that only fills a rank's share. ``labels`` holds the class of the trial, -1 without one.
    """

    signals: dict[Modality, Float[Tensor, "batch step chan time"]]
    valid: dict[Modality, Bool[Tensor, "batch step chan"]]
    steps: Bool[Tensor, "batch step"]
    labels: Int[Tensor, " batch"]
    keys: list[str]

    def to(self, device: torch.device) -> "Batch":
        """The same on another device."""
        return Batch(
            {name: signal.to(device) for name, signal in self.signals.items()},
            {name: valid.to(device) for name, valid in self.valid.items()},
            self.steps.to(device),
            self.labels.to(device),
            self.keys,
        )

    def present(self, modality: Modality) -> Bool[Tensor, "batch step"]:
        """Whether any channel of a modality is valid in a step."""
        return self.valid[modality].any(dim=-1) & self.steps


@dataclass(frozen=True)
class Cutter:
    """Reads trials and cuts them: which modalities, on which channels, at which windows, with which labels.

    The labels of ``hidden`` subjects are as good as none.
    """

    shards: ShardSet
    layouts: dict[Modality, Layout]
    windows: Windows
    labels: dict[str, float]
    hidden: frozenset[str] = frozenset()

    def n_steps(self, sample: Sample) -> int:
        """Windows of a trial."""
        return n_windows(sample.duration_s, self.windows.window_s, self.windows.hop_s)

    def label(self, sample: Sample) -> int:
        """See ``class_index``."""
        return UNLABELLED if sample.subject in self.hidden else class_index(sample, self.labels)

    def batch(self, keys: list[str], filler: int = 0) -> Batch:
        """Read and cut trials. The last ``filler`` of them only fill up a rank's share: their steps are masked."""
        samples = [self.shards.samples[key] for key in keys]
        n_steps = [self.n_steps(sample) for sample in samples]
        longest = max(n_steps)
        signals, valid = {}, {}
        for sample in samples:
            for modality in self.layouts.keys() & sample.modalities.keys():
                self.shards.check_room(sample, modality)
        for modality, layout in self.layouts.items():
            n_times = round(self.windows.window_s * layout.sfreq)
            signal = np.empty((len(keys), longest, len(layout.ch_names), n_times), np.float32)
            mask = np.zeros((len(keys), longest, len(layout.ch_names)), bool)
            for row, sample in enumerate(samples):
                if n_steps[row] < longest or not _is_whole(sample, modality, layout):
                    signal[row] = 0  # else every sample is written anyway
                if modality in sample.modalities:
                    data = self.shards.read(sample.key, f"{modality}.npy")
                    on = sample.valid[modality] == 1  # throughout
                    whole = None if on else self.shards.read(sample.key, f"{modality}.valid.npy")
                    own, n = sample.modalities[modality], n_steps[row]
                    place_windows(data, whole, own, layout, self.windows, signal[row, :n], mask[row, :n])
            signals[modality], valid[modality] = torch.from_numpy(signal), torch.from_numpy(mask)
        steps = torch.arange(longest)[None] < torch.tensor(n_steps)[:, None]
        steps[len(keys) - filler :] = False
        return Batch(signals, valid, steps, torch.tensor([self.label(sample) for sample in samples]), keys)


def _is_whole(sample: Sample, modality: Modality, layout: Layout) -> bool:
    """Whether a trial has all channels of a modality."""
    return modality in sample.modalities and sample.modalities[modality].ch_names == layout.ch_names


def place_windows(
    data: Float[np.ndarray, "own_chan n_times"],
    valid: Bool[np.ndarray, "own_chan n_secs"] | None,
    own: Layout,
    layout: Layout,
    windows: Windows,
    signal: Float[np.ndarray, "step chan time"],
    mask: Bool[np.ndarray, "step chan"],
) -> None:
    """Cut a trial's modality into ``signal`` and ``mask``, as many windows as they hold, its channels where ``layout``
    has them.

    Without ``valid`` all channels were on throughout. Channels unknown to the layout are left out; where it has one
    more than the trial, nothing is written.
    """
    pieces = cut(data, own.sfreq, windows.window_s, windows.hop_s, len(signal))
    if valid is None:
        whole = np.ones((len(mask), len(own.ch_names)), bool)
    else:
        whole = cut_valid(valid, windows.window_s, windows.hop_s, len(mask))
    if own.ch_names == layout.ch_names:
        signal[:], mask[:] = pieces, whole
        return
    known = [row for row, name in enumerate(own.ch_names) if name in layout.ch_names]
    place = [layout.ch_names.index(own.ch_names[row]) for row in known]
    signal[:, place], mask[:, place] = pieces[:, known], whole[:, known]


def layouts(samples: list[Sample], modalities: list[Modality]) -> dict[Modality, Layout]:
    """The channels each modality has over all trials in which any gave a signal, in order of first appearance, and its
    one rate.

    Raises:
        MtkdError: it has several.
    """
    found: dict[Modality, Layout] = {}
    for modality in modalities:
        own = [sample.modalities[modality] for sample in samples if sample.valid.get(modality, 0) > 0]
        if len(rates := sorted({layout.sfreq for layout in own})) > 1:
            raise MtkdError(
                f"{modality}: the set has it at {' and '.join(f'{rate:g}' for rate in rates)} Hz, not at one rate"
            )
        if own:
            ch_names = list(dict.fromkeys(name for layout in own for name in layout.ch_names))
            found[modality] = Layout(ch_names=ch_names, sfreq=own[0].sfreq)
    return found
