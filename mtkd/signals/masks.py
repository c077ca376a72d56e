"""When a sensor was on: bridging what it did not say, and remembering that it did not."""

import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from mtkd.config import Modality
from mtkd.signals.windows import nearest

BEYOND = 1e15
"""No sensor says that, in any unit of ours; filtered it would leave what single precision holds."""
BRIDGED_S = 0.1
"""A gap up to so long is bridged: a packet that was lost within a heartbeat must not move the level."""
KNOWN_S = 10.0
"""What a signal's level is known from, before a gap: some breaths, which are the slowest of what swings."""
_GLITCH = 0.005  # share of the values before a gap that tell nothing, at either end
_LOOKED_AT = 1280  # of these values, which is enough to tell a swing
STILL_S = 5
"""A sensor whose value has not moved for so long, in whole seconds, is off."""
STILL_SLOW_S: dict[Modality, int] = {"eda": 30, "temp": 60}
"""The same for slow signals on coarse scales, which may stand still."""


def still_s(modality: Modality) -> int:
    """From so many seconds on without a move, a sensor is off."""
    return STILL_SLOW_S.get(modality, STILL_S)


def n_lead(lead_s: float) -> int:
    """How many seconds lie before a trial. They count from its start: of a broken lead the first is the shorter one.

    A second across the start would tell the trial's last whole second what comes after it.
    """
    return int(np.ceil(lead_s - 1e-9))


@functools.lru_cache(maxsize=256)
def second_of(n_times: int, sfreq: float, lead_s: float = 0.0) -> np.ndarray:
    """The second of each sample; read-only, as trials of one length share it."""
    after = (np.arange(n_times) - nearest(lead_s * sfreq)) / sfreq
    own = np.maximum(n_lead(lead_s) + np.floor(after + 1e-9).astype(int), 0)
    own.flags.writeable = False
    return own


@functools.lru_cache(maxsize=256)
def seconds(n_times: int, sfreq: float, lead_s: float = 0.0) -> np.ndarray:
    """The first sample of each started second; of one without samples, the last before it. Read-only, too."""
    own = second_of(n_times, sfreq, lead_s)
    all_of_them = np.arange(own.max(initial=-1) + 1)
    starts = np.searchsorted(own, all_of_them)
    starts = np.maximum(starts - (own[starts] > all_of_them), 0)
    starts.flags.writeable = False
    return starts


@dataclass(frozen=True)
class Filled:
    """Samples (n_chans, n_times) of which each is a number, and in which seconds a sensor was on throughout.

    ``steps`` (n_chans, n_times) is by how much a channel's level changes where it comes back after a long gap or at a
    joint, 0 elsewhere; None where none does.
    """

    data: Float[np.ndarray, "n_chans n_times"]
    valid: Bool[np.ndarray, "n_chans n_secs"]
    steps: Float[np.ndarray, "n_chans n_times"] | None = None


def fill(
    data: Float[np.ndarray, "n_chans n_times"],
    sfreq: float,
    modality: Modality,
    lead_s: float = 0.0,
    joints: Sequence[int] = (),
) -> Filled:
    """Put numbers where there are none, so that a filter survives: NaN, or beyond what a sensor says.

    Gaps are bridged linearly. Behind longer ones, and those with one of ``joints`` in them, a signal may come back at a
    level of its own: where it is far from what it was shortly before, the value before stays, and ``steps`` tells by
    how much it moved.
    """
    starts = seconds(data.shape[1], sfreq, lead_s)
    if data.min(initial=0.0) > -BEYOND and data.max(initial=0.0) < BEYOND:  # false for NaN, too
        return Filled(data, _moved(data, starts, still_s(modality)))
    finite = np.abs(data) < BEYOND
    filled, steps = np.where(finite, data, 0.0), np.zeros(data.shape)
    times = np.arange(data.shape[1])
    for row in np.flatnonzero(~finite.all(axis=1) & finite.any(axis=1)):
        filled[row] = np.interp(times, times[finite[row]], data[row, finite[row]])
        _find_steps(filled[row], steps[row], finite[row], sfreq, joints)
    valid = np.logical_and.reduceat(finite, starts, axis=1) & _moved(filled, starts, still_s(modality))
    return Filled(filled, valid, steps if steps.any() else None)


def _find_steps(
    row: Float[np.ndarray, " n_times"],
    steps: Float[np.ndarray, " n_times"],
    finite: Bool[np.ndarray, " n_times"],
    sfreq: float,
    joints: Sequence[int],
) -> None:
    """Tell ``steps`` of one channel, and hold its value through the gaps before them, in place.

    What was there before is seen as if it had been at the last level all along.
    """
    there, n_known = np.flatnonzero(finite), max(1, nearest(KNOWN_S * sfreq))
    stepless = row.copy()
    for start, stop in _gaps(finite):
        if stop - start <= max(1, BRIDGED_S * sfreq) and not any(start <= joint < stop for joint in joints):
            continue
        n_before = int(np.searchsorted(there, start))
        known = stepless[there[max(0, n_before - n_known) : n_before]]
        if _is_beyond(stepless[stop], known[:: max(1, len(known) // _LOOKED_AT)]):
            row[start:stop] = row[start - 1]
            steps[stop] = row[stop] - row[start - 1]
            stepless[stop:] -= steps[stop]


def _is_beyond(value: float, known: Float[np.ndarray, " n_known"]) -> bool:
    """Whether a value lies beyond what was known by half of the usual swing: nearer, it is a swing of its own.

    A glitch of a few samples is none of what was known. The usual swing is the median of four stretches, of which one
    may have a blink in it.
    """
    edge, quarter = int(_GLITCH * len(known)), max(1, len(known) // 4)
    ordered = np.partition(known, [edge, len(known) - 1 - edge])
    swing = np.median(np.ptp(known[len(known) % quarter :].reshape(-1, quarter), axis=1))
    return not ordered[edge] - swing / 2 <= value <= ordered[-1 - edge] + swing / 2


def _gaps(finite: Bool[np.ndarray, " n_times"]) -> Iterator[tuple[int, int]]:
    """The first sample of each gap, and the first after it; none of those at either end."""
    edges = np.flatnonzero(finite[1:] != finite[:-1]) + 1
    lost = edges[finite[edges - 1]]
    back = edges[~finite[edges - 1]]
    yield from zip(lost.tolist(), back[back > lost[0]].tolist() if len(lost) else [], strict=False)


def _moved(data: np.ndarray, starts: np.ndarray, n_secs: int) -> np.ndarray:
    """Whether each channel's value moved in the ``n_secs`` seconds up to the end of each second, from ``starts`` on.

    Nobody can know earlier that a sensor has come off, and a mask that looked ahead would tell a causal model of it.
    One that has not moved since the recording began is off until it does.
    """
    changed = np.zeros(data.shape, bool)
    np.not_equal(data[:, 1:], data[:, :-1], out=changed[:, 1:])
    n_moves = np.cumsum(np.logical_or.reduceat(changed, starts, axis=1), axis=1)
    before = np.zeros_like(n_moves)
    before[:, n_secs:] = n_moves[:, :-n_secs]
    return n_moves > before
