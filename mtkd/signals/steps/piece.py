"""What goes through the steps: one modality from a trial's lead to its end."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from mtkd.config import Modality, ModalitySignals
from mtkd.signals.masks import second_of


@dataclass(frozen=True)
class Piece:
    """``data`` (n_chans, n_times) in SI units, ``valid`` (n_chans, n_secs), the trial from ``lead_s`` on.

    ``source`` names the recording in errors, ``settings`` are those of the modality. ``levels`` (n_chans, n_times) is
    what is in ``data`` of steps at joints and long gaps, which no filter may hear: piecewise constant, 0 at first; None
    where there are none.
    """

    data: Float[np.ndarray, "n_chans n_times"]
    valid: Bool[np.ndarray, "n_chans n_secs"]
    sfreq: float
    ch_names: list[str]
    modality: Modality
    lead_s: float
    settings: ModalitySignals
    source: str
    levels: Float[np.ndarray, "n_chans n_times"] | None = None

    @property
    def level(self) -> Float[np.ndarray, "n_chans n_times"]:
        """What a filter starts from at rest: each channel's first value, and ``levels``; (n_chans, 1) without any."""
        return self.data[:, :1] if self.levels is None else self.data[:, :1] + self.levels

    @property
    def stepless(self) -> Float[np.ndarray, "n_chans n_times"]:
        """``data`` without ``levels``."""
        return self.data if self.levels is None else self.data - self.levels

    @property
    def second(self) -> Int[np.ndarray, " n_times"]:
        """That of each sample, as a column of ``valid``."""
        return np.minimum(second_of(self.data.shape[1], self.sfreq, self.lead_s), self.valid.shape[1] - 1)

    @property
    def phase(self) -> str:
        """As MNE calls it."""
        return "forward" if self.settings.phase == "causal" else "zero"

    @property
    def where(self) -> str:
        """The file and the key of the study, for errors."""
        return f"{self.source}: signals.modalities.{self.modality}"
