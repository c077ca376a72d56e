"""How large a modality's values are, which tells a wrong unit before anything is trained on it."""

from dataclasses import dataclass

import numpy as np

from mtkd.config import Modality
from mtkd.shards.read import ShardSet
from mtkd.signals.channels import DERIVED, UNIT

_OTHERS = tuple(DERIVED[part].format("") for part in ("phasic", "rate"))
_APART = 1000
_MOST_TRIALS, _MOST_SAMPLES = 12, 2000
_SCALES = {
    "V": (("V", 1.0), ("mV", 1e3), ("µV", 1e6)),
    "S": (("S", 1.0), ("mS", 1e3), ("µS", 1e6), ("nS", 1e9)),
    "degC": (("°C", 1.0),),
    "a.u.": (("a.u.", 1.0),),
    "Hz": (("Hz", 1.0),),
}
_LIKELY: dict[Modality, tuple[float, float]] = {
    "eeg": (1e-6, 1e-3),
    "eog": (1e-6, 1e-2),
    "emg": (1e-7, 1e-2),
    "ecg": (5e-5, 2e-2),
    "eda": (1e-8, 1e-4),
    "temp": (5.0, 50.0),
}
"""Of skin conductance and temperature the level, of voltages the span, in SI units, whatever filters were laid on."""


@dataclass(frozen=True)
class Magnitude:
    """Median, first and 99th percentile of a modality's valid samples, in its SI unit.

    ``apart`` is how many times as far the trial that moves most does so as the one that moves least.
    """

    modality: Modality
    median: float
    low: float
    high: float
    apart: float = 1.0

    @property
    def in_words(self) -> list[str]:
        """The three, and the unit in which they are short."""
        values = (self.median, self.low, self.high)
        unit, scale = scaled(UNIT[self.modality], max(map(abs, values)))
        return [*(f"{value * scale:.3g}" for value in values), unit]

    @property
    def doubt(self) -> str | None:
        """A sentence on what is more likely a wrong unit than a body."""
        if not self.is_likely:
            level = ", and a high-pass takes off a level" * (UNIT[self.modality] == "V")
            return f"{self.modality}: no body gives such values; data.units corrects a unit{level}"
        if self.apart > _APART:
            return f"{self.modality}: some trials are {self.apart:.0f} times as large as others, as if in other units"
        return None

    @property
    def is_likely(self) -> bool:
        """Whether a body could give such values."""
        low, high = _LIKELY.get(self.modality, (-np.inf, np.inf))
        value = self.median if self.modality in ("eda", "temp") else self.high - self.low
        return low <= value <= high


def scaled(unit: str, largest: float) -> tuple[str, float]:
    """The unit in which a value of that size has digits before its point, and by what to multiply it for that."""
    return next((pair for pair in _SCALES[unit] if largest * pair[1] >= 1), _SCALES[unit][-1])


def magnitude(shards: ShardSet, modality: Modality) -> Magnitude | None:
    """That of a modality over some trials, without what has no level: phasic parts and rates. None of nothing."""
    own = [sample for sample in shards.index.samples if modality in sample.modalities]
    values = []
    for sample in own[:: max(1, len(own) // _MOST_TRIALS)][:_MOST_TRIALS]:
        layout = sample.modalities[modality]
        data, valid = (shards.read(sample.key, f"{modality}.{name}") for name in ("npy", "valid.npy"))
        rows = [row for row, name in enumerate(layout.ch_names) if not name.endswith(_OTHERS)]
        places = np.arange(0, data.shape[1], max(1, data.shape[1] // _MOST_SAMPLES))
        second = np.minimum(places / layout.sfreq, valid.shape[1] - 1).astype(int)
        values.append(data[rows][:, places][valid[rows][:, second]])
    values = [each for each in values if each.size]
    if not values:
        return None
    low, median, high = np.percentile(np.concatenate(values), [1, 50, 99])
    spans = [float(np.ptp(np.percentile(each, [1, 99]))) for each in values]
    apart = max(spans) / min(spans) if min(spans) > 0 else 1.0
    return Magnitude(modality, float(median), float(low), float(high), apart)


def is_rate(name: str) -> bool:
    """Whether a channel is the rate of another, in hertz."""
    return name.endswith(DERIVED["rate"].format(""))
