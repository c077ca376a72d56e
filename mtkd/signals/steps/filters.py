"""Filters by MNE, resampling, and what is taken off or masked sample by sample."""

import functools
import math
from dataclasses import replace
from fractions import Fraction
from typing import Any

import mne
import numpy as np
from jaxtyping import Float

from mtkd.errors import MtkdError
from mtkd.signals.masks import seconds
from mtkd.signals.steps.piece import Piece
from mtkd.signals.windows import nearest

ANTI_ALIAS = 0.4  # share of the new sampling rate that a causal low-pass leaves
PASSED = {"causal": ANTI_ALIAS, "zero": 0.45}
"""The same share by phase: there the filter that looks ahead is 0.7 dB down, and 6 dB at the new Nyquist frequency."""
Params = tuple[tuple[str, Any], ...]
_STEEP: Params = (("order", 8), ("ftype", "ellip"), ("rp", 0.1), ("rs", 60.0), ("output", "sos"))
"""That low-pass: 0.1 dB of ripple up to its edge, 60 dB down from the new Nyquist frequency on. It is scaled so
that what is slow passes as it is.
"""
_BUTTERWORTH: Params = (("order", 4), ("ftype", "butter"), ("output", "sos"))
SECOND_ORDER: Params = (("order", 2), ("ftype", "butter"), ("output", "sos"))
"""It has settled soon."""
_SAME = 1e-9
"""Rates that differ by less than this share of them do so by rounding: a sample in eleven days, at a thousand hertz."""
_DRIFT = 0.01
"""A trial's end may be off by this part of a sample, of the faster rate, when it comes to another rate."""
_MOST = [2**power for power in range(5, 18)]
"""Numbers that a ratio of rates is told in: the least that do, as a filter has twenty taps for each of them. By the
largest it is off by eight in a million at the worst, which is better than the clocks of recorders are.
"""
NOTCH_WIDTH = 1 / 50
"""Of the frequency it stops."""


def bandpass(piece: Piece, low: float | None, high: float | None) -> Piece:
    """Pass what lies between two frequencies; a Butterworth filter of fourth order, as MNE makes it.

    Raises:
        MtkdError: the signal does not reach so high, or nothing passes.
    """
    if high is not None and high >= piece.sfreq / 2:
        raise MtkdError(f"{piece.where}.steps: bandpass to {high:g} Hz, but the signal reaches {piece.sfreq / 2:g} Hz")
    to = piece.settings.sfreq
    top = min(high or np.inf, PASSED[piece.settings.phase] * to if to < piece.sfreq else np.inf)
    if low is not None and not 0 <= low < top:  # MNE would take it for a band to stop
        raise MtkdError(f"{piece.where}.steps: nothing passes from {low:g} Hz to {top:g} Hz")
    return iir(piece, low, high)


def notch(piece: Piece, freqs: list[float]) -> Piece:
    """Stop a narrow band around each frequency.

    Raises:
        MtkdError: the signal does not reach so high.
    """
    for freq in freqs:
        width = freq * NOTCH_WIDTH
        if freq + width >= piece.sfreq / 2:
            raise MtkdError(f"{piece.where}.steps: notch at {freq:g} Hz, but the signal reaches {piece.sfreq / 2:g} Hz")
        # from higher to lower, MNE stops what lies between; of second order it has settled within a second
        piece = iir(piece, freq + width, freq - width, SECOND_ORDER)
    return piece


def iir(piece: Piece, low: float | None, high: float | None, params: Params = _BUTTERWORTH) -> Piece:
    """A filter starts from rest: a level (skin conductance, an electrode's offset) would begin with a jump.

    Nor does it hear the steps of ``levels``, or it would ring on in the seconds after a gap. What passes at 0 Hz is put
    back afterwards.
    """
    level, options = piece.level, {"method": "iir", "phase": piece.phase, "verbose": "error"}
    try:
        designed = _designed(piece.sfreq, low, high, params, piece.phase)
        filtered = mne.filter.filter_data(piece.data - level, piece.sfreq, low, high, iir_params=designed, **options)
    except (ValueError, RuntimeError) as error:  # a filter that cannot be designed
        raise MtkdError(f"{piece.where}.steps: {error}") from None
    passes_level = not low or (high is not None and high < low)
    return replace(piece, data=filtered + level) if passes_level else replace(piece, data=filtered, levels=None)


@functools.lru_cache(maxsize=256)
def _designed(sfreq: float, low: float | None, high: float | None, params: Params, phase: str) -> dict[str, Any]:
    """A filter's coefficients, in MNE's words. They are those of all trials, and take longer than filtering one."""
    options = {"method": "iir", "phase": phase, "verbose": "error"}
    designed = mne.filter.create_filter(None, sfreq, low, high, iir_params=dict(params), **options)
    if params == _STEEP:
        sos = designed["sos"]
        sos[0, :3] /= np.prod(sos[:, :3].sum(axis=1) / sos[:, 3:].sum(axis=1))
    return designed


def resample(piece: Piece) -> Piece:
    """To the modality's rate.

    Raises:
        MtkdError: it is no whole fraction of the piece's own, which a causal filter needs.
    """
    to = piece.settings.sfreq
    if math.isclose(to, piece.sfreq, rel_tol=_SAME):
        return replace(piece, sfreq=to)
    return _interpolated(piece, to) if piece.settings.phase == "zero" else _decimated(piece, to)


def _interpolated(piece: Piece, to: float) -> Piece:
    """At any rate, by a filter that looks ahead; constants stay what they are, and a slope goes on beyond its ends."""
    import scipy.signal  # two seconds, of which a process that reads shards alone needs none

    n_before, start, rows = piece.data.shape[1], piece.data[:, :1], piece.data - piece.level
    n_times = round(n_before * to / piece.sfreq)
    padtype = "antireflect" if n_before > 1 else "constant"  # one sample alone has no reflection, and SciPy crashes
    try:
        # MNE's own goes by the lengths, which may have no factor in common: a filter as long as the trial, and minutes
        up, down = _ratio(piece.sfreq, to, max(n_times, n_before)).as_integer_ratio()
        taps = _taps(up, down)
        data = start + scipy.signal.resample_poly(rows, up, down, axis=-1, window=taps, padtype=padtype)
    except (ValueError, RuntimeError) as error:
        raise MtkdError(f"{piece.where}: {error}") from None
    own = np.minimum(np.arange(n_times), data.shape[1] - 1)  # where the ratio is a little off, one may be missing
    if piece.levels is None:
        return replace(piece, data=data[:, own], sfreq=to)
    levels = piece.levels[:, np.minimum(np.arange(n_times) * piece.sfreq / to + _SAME, n_before - 1).astype(int)]
    return replace(piece, data=data[:, own] + levels, sfreq=to, levels=levels)


def _ratio(sfreq: float, to: float, n_times: int) -> Fraction:
    """``to`` by ``sfreq`` in numbers as small as keep ``n_times`` samples of the faster one in step.

    Raises:
        ValueError: one is so many times the other that no such number tells it.
    """
    slower, faster = sorted((Fraction(to), Fraction(sfreq)))
    exact = slower / faster
    if exact < Fraction(1, _MOST[-1]):
        raise ValueError(f"{to:g} Hz cannot be made of {sfreq:g} Hz")
    near = [exact.limit_denominator(most) for most in _MOST]
    found = next((each for each in near if abs(each - exact) * n_times < _DRIFT * exact), near[-1])
    return found if to < sfreq else 1 / found


@functools.lru_cache(maxsize=8)
def _taps(up: int, down: int) -> Float[np.ndarray, " n_taps"]:
    """The filter that SciPy would make anew for each trial, with every ``up``-th of its taps brought to the same sum.

    These are what one new sample is made of, in turn: were their sums not the same, a level would become a ripple.
    """
    import scipy.signal

    most = max(up, down)
    taps = scipy.signal.firwin(20 * most + 1, 1 / most, window=("kaiser", 5.0)) if most > 1 else np.ones(1)
    turn = np.arange(len(taps)) % up
    taps /= up * np.bincount(turn, taps)[turn]
    taps.flags.writeable = False
    return taps


def _decimated(piece: Piece, to: float) -> Piece:
    """At a whole fraction of the rate, by a filter that does not look ahead."""
    step = piece.sfreq / to
    whole = round(step)
    if whole < 1 or not math.isclose(step, whole, rel_tol=_SAME):
        near = sorted({piece.sfreq / n for n in (max(1, int(step)), int(step) + 1)}, reverse=True)
        told = " or ".join(f"{rate:g}" for rate in near)
        raise MtkdError(
            f"{piece.where}.sfreq = {to:g} Hz is no whole fraction of {piece.sfreq:g} Hz, which a causal filter needs, "
            f"as {told} would be; phase: zero takes any rate"
        )
    passed = iir(piece, None, ANTI_ALIAS * to, _STEEP)
    levels = None if passed.levels is None else passed.levels[:, ::whole]
    return replace(piece, data=np.ascontiguousarray(passed.data[:, ::whole]), sfreq=to, levels=levels)


def baseline(piece: Piece, length_s: float) -> Piece:
    """Take off each channel's mean over the last ``length_s`` before the trial, of the seconds in which it was on.

    One that was on in none of them is masked throughout.

    Raises:
        MtkdError: at the rate of the piece there is no sample so shortly before it.
    """
    start, stop = (nearest(edge * piece.sfreq) for edge in (piece.lead_s - length_s, piece.lead_s))
    if start >= stop:
        raise MtkdError(f"{piece.where}.steps: a baseline of {length_s:g} s holds no sample at {piece.sfreq:g} Hz")
    on = piece.valid[:, piece.second[start:stop]]
    n_on = on.sum(axis=1, keepdims=True)
    level = np.where(on, piece.data[:, start:stop], 0).sum(axis=1, keepdims=True) / np.maximum(n_on, 1)
    return replace(piece, data=piece.data - level, valid=piece.valid & (n_on > 0))


def reject(piece: Piece, span: float) -> Piece:
    """Mask the seconds in which a channel spans more than ``span``, in the unit of its modality."""
    starts = seconds(piece.data.shape[1], piece.sfreq, piece.lead_s)
    spans = np.maximum.reduceat(piece.data, starts, axis=1) - np.minimum.reduceat(piece.data, starts, axis=1)
    valid = piece.valid.copy()
    n_secs = min(valid.shape[1], spans.shape[1])
    valid[:, :n_secs] &= spans[:, :n_secs] <= span
    return replace(piece, valid=valid)
