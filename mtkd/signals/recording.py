"""What every reader gives: files that are recordings, and a recording in SI units with its trials."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from mtkd.config import Modality


@dataclass(frozen=True)
class File:
    """One recording on disk, before it is read.

    ``name`` is unique within a study. All of ``paths`` are read for it, the main one first, and ``rows`` is what other
    files of the data set say of it (ratings, times): together they are what its shard depends on.
    """

    name: str
    subject: str
    paths: tuple[Path, ...]
    rows: Any = None

    @property
    def path(self) -> Path:
        """The main one, which errors name."""
        return self.paths[0]


@dataclass(frozen=True)
class Found:
    """What a folder holds: files to read, and what was left out of it, each with its reason."""

    files: list[File]
    left_out: dict[str, str] = field(default_factory=dict)


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
class Stream:
    """The channels of one modality, read piece by piece.

    ``read(start, stop)`` gives samples (n_chans, n_times) in SI units (volt, siemens, degree Celsius; belts and
    plethysmographs in their own arbitrary unit), NaN where a sensor gave nothing valid. ``sfreq`` in hertz.
    ``left_out`` tells of channels of the recording, of whatever modality, and of seconds of it that were passed over,
    and why; ``unheard`` of keys of the study that none of its channels answers to. ``joints`` are samples, each in NaN,
    where the recording was stopped and went on: however short that is, its two sides are not one signal.
    """

    ch_names: list[str]
    sfreq: float
    n_times: int
    read: Callable[[int, int], Float[np.ndarray, "n_chans n_times"]]
    left_out: Mapping[str, str] = field(default_factory=dict)
    unheard: frozenset[str] = frozenset()
    joints: tuple[int, ...] = ()


@dataclass(frozen=True)
class Recording:
    """One file or session of one subject: a stream for each of its modalities, and the trials in it.

    ``rejected`` tells of trials that it should have, and why it has not.
    """

    subject: str
    source: str
    streams: dict[Modality, Stream]
    spans: list[Span]
    rejected: dict[str, str] = field(default_factory=dict)
