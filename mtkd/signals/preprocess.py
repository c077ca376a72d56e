"""From a recording to the arrays of its trials: referencing, filtering, resampling, cutting, masks."""

from dataclasses import dataclass

import mne
import numpy as np
from jaxtyping import Bool, Float

from mtkd.config import Modality, ModalitySignals, Signals
from mtkd.errors import MtkdError
from mtkd.signals.recording import Recording, Span

ANTI_ALIAS = 0.4  # share of the new sampling rate that a causal low-pass leaves


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
    """Filter, reference and resample each modality over the whole recording, then cut its trials out.

    Raises:
        MtkdError: a rate that a causal filter cannot reach, or a band the recording's rate does not hold.
    """
    present = [modality for modality in signals.modalities if modality in modalities_of(recording)]
    whole = {modality: _process(recording, modality, signals) for modality in present}
    return [(span, {modality: _cut(signal, span) for modality, signal in whole.items()}) for span in recording.spans]


def _process(recording: Recording, modality: Modality, signals: Signals) -> Signal:
    settings = signals.modalities[modality]
    ch_names = [name for name, kind in recording.modality.items() if kind == modality]
    raw = recording.raw.copy().pick(ch_names)
    data, valid = _fill(raw.get_data(), raw.info["sfreq"])
    alive = valid.any(axis=1)
    if modality == "eeg" and signals.reference == "average" and alive.any():
        reference = mne.io.RawArray(data[alive], mne.pick_info(raw.info, np.flatnonzero(alive)), verbose="error")
        data[alive] = reference.set_eeg_reference("average", verbose="error").get_data()
    try:
        data = _filter(data, raw.info["sfreq"], settings, recording.source, modality)
        data = _resample(data, raw.info["sfreq"], settings, recording.source, modality)
    except (ValueError, RuntimeError) as error:  # a filter that cannot be designed
        raise MtkdError(f"{recording.source}: signals.modalities.{modality}: {error}") from None
    second = np.minimum(np.arange(data.shape[1]) / settings.sfreq, valid.shape[1] - 1).astype(int)
    data[~valid[:, second]] = 0.0
    return Signal(data.astype(np.float32), valid, settings.sfreq, ch_names)


def _fill(data: np.ndarray, sfreq: float) -> tuple[np.ndarray, np.ndarray]:
    """Bridge NaN linearly, so that a filter survives, and say which seconds were whole (of a flat channel none)."""
    finite = np.isfinite(data)
    n_secs = int(np.ceil(data.shape[1] / sfreq - 1e-9))
    starts = np.round(np.arange(n_secs) * sfreq).astype(int)
    valid = np.logical_and.reduceat(finite, starts, axis=1)
    filled = np.where(finite, data, 0.0)
    for row in np.flatnonzero(~finite.all(axis=1) & finite.any(axis=1)):
        times = np.arange(data.shape[1])
        filled[row] = np.interp(times, times[finite[row]], data[row, finite[row]])
    valid[np.ptp(filled, axis=1) == 0] = False
    return filled, valid


def _filter(data: np.ndarray, sfreq: float, settings: ModalitySignals, source: str, modality: str) -> np.ndarray:
    low, high = settings.band
    causal = settings.phase == "causal"
    if high is not None and high >= sfreq / 2:
        raise MtkdError(
            f"{source}: signals.modalities.{modality}.band reaches {high:g} Hz, the recording {sfreq / 2:g} Hz"
        )
    if causal and settings.sfreq < sfreq:
        high = min(high or np.inf, ANTI_ALIAS * settings.sfreq)
    if low is None and high is None:
        return data
    if low is not None and not 0 <= low < (high or np.inf):  # MNE would take it for a band to stop
        raise MtkdError(f"{source}: signals.modalities.{modality}: nothing passes from {low:g} Hz to {high} Hz")
    # A filter starts from rest: a level (skin conductance, an electrode's offset) would begin with a jump.
    start = data[:, :1]
    filtered = mne.filter.filter_data(
        data - start, sfreq, low, high, method="iir", phase="forward" if causal else "zero", verbose="error"
    )
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
    return np.ascontiguousarray(data[:, :: int(step)])


def _cut(signal: Signal, span: Span) -> Signal:
    start, stop = (round(edge * signal.sfreq) for edge in (span.start_s, span.stop_s))
    data = signal.data[:, start:stop]
    n_secs = int(np.ceil(data.shape[1] / signal.sfreq - 1e-9))
    # A trial may start inside a second of the recording: its own seconds are whole where all they touch are.
    first = np.floor(span.start_s + np.arange(n_secs) + 1e-9).astype(int)
    last = np.minimum(np.ceil(span.start_s + np.arange(n_secs) + 1 - 1e-9).astype(int) - 1, signal.valid.shape[1] - 1)
    valid = signal.valid[:, first] & signal.valid[:, last]
    return Signal(np.ascontiguousarray(data), valid, signal.sfreq, signal.ch_names)
