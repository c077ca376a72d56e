"""From a recording to the arrays of its trials: filtering, resampling, masks, referencing, cutting."""

from dataclasses import dataclass
from typing import Any

import mne
import numpy as np
from jaxtyping import Bool, Float

from mtkd.config import Modality, ModalitySignals, Signals
from mtkd.errors import MtkdError
from mtkd.signals.recording import Recording, Span

ANTI_ALIAS = 0.4  # share of the new sampling rate that a causal low-pass leaves
_STEEP = {"order": 8, "ftype": "ellip", "rp": 0.1, "rs": 60.0, "output": "sos"}
"""That low-pass: 0.1 dB of ripple up to its edge, 60 dB down from the new Nyquist frequency on."""
BEYOND = 1e15
"""No sensor says that, in any unit of ours; filtered it would leave what single precision holds."""
STILL_S = 5
"""A sensor whose value has not moved for so long, in whole seconds, is off."""
STILL_SLOW_S: dict[Modality, int] = {"eda": 30, "temp": 60}
"""The same for slow signals on coarse scales, which may stand still."""


@dataclass(frozen=True)
class Signal:
    """One modality of one trial.

    ``data`` (n_chans, n_times) in SI units, 0 where ``valid`` is false; ``valid`` (n_chans, n_secs) says for every
    started second whether the sensor gave a signal; ``sfreq`` in hertz.
    """

    data: Float[np.ndarray, "n_chans n_times"]
    valid: Bool[np.ndarray, "n_chans n_secs"]
    sfreq: float
    ch_names: list[str]


def modalities_of(recording: Recording) -> set[Modality]:
    """The modalities a recording has at least one channel of."""
    return set(recording.modality.values())


def preprocess(recording: Recording, signals: Signals) -> list[tuple[Span, dict[Modality, Signal]]]:
    """Filter, resample and reference each modality of each trial, from ``signals.lead_s`` before it on.

    A filter needs seconds to settle. Were it run over whole recordings, a trial at the start of its file would begin
    unsettled and one from the middle of its file would not, and where files are conditions that gives the class away.

    Raises:
        MtkdError: a trial with less than ``lead_s`` before it, a rate that a causal filter cannot reach, or a band the
            recording's rate does not hold.
    """
    present = [modality for modality in signals.modalities if modality in modalities_of(recording)]
    for span in recording.spans:
        if span.start_s < signals.lead_s - 1e-9:
            raise MtkdError(
                f"{recording.source}: the trial {span.name} starts {span.start_s:g} s into the recording, but its "
                f"filters shall have signals.lead_s = {signals.lead_s:g} s before it to settle"
            )
    return [
        (span, {modality: _process(recording, span, modality, signals) for modality in present})
        for span in recording.spans
    ]


def _process(recording: Recording, span: Span, modality: Modality, signals: Signals) -> Signal:
    settings, sfreq = signals.modalities[modality], recording.raw.info["sfreq"]
    ch_names = [name for name, kind in recording.modality.items() if kind == modality]
    start, stop = (round(edge * sfreq) for edge in (span.start_s - signals.lead_s, span.stop_s))
    data, valid = _fill(recording.raw.get_data(ch_names, start, stop), sfreq, STILL_SLOW_S.get(modality, STILL_S))
    try:
        data = _filter(data, sfreq, settings, recording.source, modality)
        data = _resample(data, sfreq, settings, recording.source, modality)
    except (ValueError, RuntimeError) as error:  # a filter that cannot be designed
        raise MtkdError(f"{recording.source}: signals.modalities.{modality}: {error}") from None
    second = np.minimum(np.arange(data.shape[1]) / settings.sfreq, valid.shape[1] - 1).astype(int)
    if modality == "eeg" and signals.reference == "average":
        data = _rereference(data, valid, second, settings.sfreq)
    data[~valid[:, second]] = 0.0
    whole = Signal(data.astype(np.float32), valid, settings.sfreq, ch_names)
    return _cut(whole, signals.lead_s, signals.lead_s + span.stop_s - span.start_s)


def _rereference(data: np.ndarray, valid: np.ndarray, second: np.ndarray, sfreq: float) -> np.ndarray:
    """The average of the electrodes that are on taken off each of them; ``second`` is that of every sample.

    After filtering: an electrode's offset is gone by then, so that the average does not jump when one falls off.
    """
    referenced = data.copy()
    patterns, which = np.unique(valid, axis=1, return_inverse=True)
    for index, alive in enumerate(patterns.T):
        where = np.ix_(alive, which.ravel()[second] == index)
        if where[0].size and where[1].size:
            info = mne.create_info(int(alive.sum()), sfreq, "eeg")
            raw = mne.io.RawArray(data[where], info, verbose="error").set_eeg_reference("average", verbose="error")
            referenced[where] = raw.get_data()
    return referenced


def _fill(data: np.ndarray, sfreq: float, still_s: int) -> tuple[np.ndarray, np.ndarray]:
    """Bridge NaN linearly, so that a filter survives, and say in which seconds the sensor was on throughout."""
    finite = np.abs(data) < BEYOND  # false for NaN, too
    n_secs = int(np.ceil(data.shape[1] / sfreq - 1e-9))
    starts = np.round(np.arange(n_secs) * sfreq).astype(int)
    filled = np.where(finite, data, 0.0)
    for row in np.flatnonzero(~finite.all(axis=1) & finite.any(axis=1)):
        times = np.arange(data.shape[1])
        filled[row] = np.interp(times, times[finite[row]], data[row, finite[row]])
    return filled, np.logical_and.reduceat(finite, starts, axis=1) & _moved(filled, starts, still_s)


def _moved(data: np.ndarray, starts: np.ndarray, still_s: int) -> np.ndarray:
    """Whether each channel's value moved in the ``still_s`` seconds up to the end of each second, from ``starts`` on.

    Nobody can know earlier that a sensor has come off, and a mask that looked ahead would tell a causal model of it.
    One that has not moved since the recording began is off until it does.
    """
    changed = np.zeros(data.shape, bool)
    changed[:, 1:] = data[:, 1:] != data[:, :-1]
    n_moves = np.cumsum(np.logical_or.reduceat(changed, starts, axis=1), axis=1)
    before = np.zeros_like(n_moves)
    before[:, still_s:] = n_moves[:, :-still_s]
    return n_moves > before


def _filter(data: np.ndarray, sfreq: float, settings: ModalitySignals, source: str, modality: str) -> np.ndarray:
    low, high = settings.band
    if high is not None and high >= sfreq / 2:
        raise MtkdError(
            f"{source}: signals.modalities.{modality}.band reaches {high:g} Hz, the recording {sfreq / 2:g} Hz"
        )
    if low is None and high is None:
        return data
    top = min(high or np.inf, ANTI_ALIAS * settings.sfreq if settings.sfreq < sfreq else np.inf)
    if low is not None and not 0 <= low < top:  # MNE would take it for a band to stop
        raise MtkdError(f"{source}: signals.modalities.{modality}: nothing passes from {low:g} Hz to {top:g} Hz")
    return _iir(data, sfreq, low, high, phase="forward" if settings.phase == "causal" else "zero")


def _iir(data: np.ndarray, sfreq: float, low: float | None, high: float | None, **options: Any) -> np.ndarray:
    """A filter starts from rest: a level (skin conductance, an electrode's offset) would begin with a jump."""
    start = data[:, :1]
    filtered = mne.filter.filter_data(data - start, sfreq, low, high, method="iir", verbose="error", **options)
    return filtered if low else filtered + start


def _resample(data: np.ndarray, sfreq: float, settings: ModalitySignals, source: str, modality: str) -> np.ndarray:
    if settings.sfreq == sfreq:
        return data
    if settings.phase == "zero":
        return mne.filter.resample(data, up=settings.sfreq, down=sfreq, method="polyphase", verbose="error")
    step = sfreq / settings.sfreq
    if step < 1 or not float(step).is_integer():
        raise MtkdError(
            f"{source}: signals.modalities.{modality}.sfreq = {settings.sfreq:g} Hz is no whole fraction of "
            f"{sfreq:g} Hz, which a causal filter needs"
        )
    if step > 1:
        data = _iir(data, sfreq, None, ANTI_ALIAS * settings.sfreq, phase="forward", iir_params=_STEEP)
    return np.ascontiguousarray(data[:, :: int(step)])


def _cut(signal: Signal, start_s: float, stop_s: float) -> Signal:
    start, stop = (round(edge * signal.sfreq) for edge in (start_s, stop_s))
    data = signal.data[:, start:stop]
    n_secs = int(np.ceil(data.shape[1] / signal.sfreq - 1e-9))
    # It may start inside a second of the signal: its own seconds are whole where all they touch are.
    first = np.minimum(np.floor(start_s + np.arange(n_secs) + 1e-9).astype(int), signal.valid.shape[1] - 1)
    last = np.minimum(np.ceil(start_s + np.arange(n_secs) + 1 - 1e-9).astype(int) - 1, signal.valid.shape[1] - 1)
    valid = signal.valid[:, first] & signal.valid[:, last]
    return Signal(np.ascontiguousarray(data), valid, signal.sfreq, signal.ch_names)
