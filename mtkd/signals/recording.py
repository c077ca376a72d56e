"""What every reader gives: a recording in SI units with its trials."""

from dataclasses import dataclass, field

import mne

from mtkd.config import Modality


@dataclass(frozen=True)
class Span:
    """One trial inside a recording.

    ``start_s`` and ``stop_s`` count from the recording's start. ``ratings`` may be empty: an unlabelled trial still
    teaches.
    """

    name: str
    stimulus: str
    start_s: float
    stop_s: float
    ratings: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Recording:
    """One file or session of one subject.

    ``raw`` is in SI units (volt, siemens, degree Celsius; belts and plethysmographs in their own arbitrary unit), NaN
    where a sensor gave nothing valid. ``modality`` names the sensor kind of every channel of ``raw``.
    """

    raw: mne.io.BaseRaw
    subject: str
    source: str
    modality: dict[str, Modality]
    spans: list[Span]
