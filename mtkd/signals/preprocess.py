"""From a recording to the arrays of its trials: the study's steps, masks, cutting."""

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from mtkd.config import Modality, ModalitySignals, Signals, Step
from mtkd.console import say
from mtkd.errors import MtkdError
from mtkd.signals.masks import KNOWN_S, Filled, fill, n_lead, still_s
from mtkd.signals.recording import Recording, Span, Stream
from mtkd.signals.steps import filters
from mtkd.signals.steps.piece import Piece
from mtkd.signals.windows import n_samples, nearest


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


Trial = tuple[Span, dict[Modality, Signal]]


def preprocess(recording: Recording, signals: Signals) -> Iterator[Trial]:
    """Take each modality of each trial through its steps, from ``signals.lead_s`` before it on.

    A filter needs seconds to settle. Were it run over whole recordings, a trial at the start of its file would begin
    unsettled and one from the middle of its file would not, and where files are conditions that gives the class away.

    Each modality gets the samples that begin within the trial, ``lasts_s`` of it, whatever its rate.

    Raises:
        MtkdError: a trial with less than ``lead_s`` before it or beyond its recording's end, a rate that a causal
            filter cannot reach, or a band the recording's rate does not hold.
    """
    present = [modality for modality in signals.modalities if modality in recording.streams]
    _refuse_beyond(recording, present, signals)
    steps = {modality: _functions(recording, modality, signals) for modality in present}
    for span in recording.spans:
        duration_s = lasts_s(span, [signals.modalities[modality].sfreq for modality in present])
        yield (
            span,
            {
                modality: _process(recording, span, duration_s, modality, signals, steps[modality])
                for modality in present
            },
        )


def lasts_s(span: Span, sfreqs: Iterable[float]) -> float:
    """How long a trial is, in seconds: as its span says.

    Up to half a sample of its fastest signal longer where it would end between two: times in tables are rounded, and a
    last window must not be lost for that.
    """
    length_s, fastest = round(span.stop_s - span.start_s, 9), max(sfreqs)
    return max(length_s, math.floor(length_s * fastest + 0.5) / fastest)


def _refuse_beyond(recording: Recording, present: list[Modality], signals: Signals) -> None:
    """Refuse trials that begin before their lead, or end more than half a sample behind a signal."""
    for span in recording.spans:
        if span.start_s < signals.lead_s - 1e-9:
            raise MtkdError(
                f"{recording.source}: the trial {span.name} starts {span.start_s:g} s into the recording, but its "
                f"filters shall have signals.lead_s = {signals.lead_s:g} s before it to settle"
            )
        for modality in present:
            stream = recording.streams[modality]
            if span.stop_s * stream.sfreq > stream.n_times + 0.5 + 1e-6 * max(1.0, stream.sfreq):
                raise MtkdError(
                    f"{recording.source}: the trial {span.name} ends at {span.stop_s:g} s, but {modality} at "
                    f"{stream.n_times / stream.sfreq:g} s"
                )


Function = Callable[[Piece], Piece]


def _functions(recording: Recording, modality: Modality, signals: Signals) -> list[Function]:
    """The steps of one modality of this recording, resampling among them; what they are fitted to is fitted now."""
    settings = signals.modalities[modality]
    done: list[tuple[str, Function]] = []
    for step in settings.steps:
        name = step.name
        done.append((name, _ica(recording, signals, step, done) if name == "ica" else _function(step)))
    names = [name for name, _ in done]
    if "resample" not in names:
        done.insert(names.index("reject") if "reject" in names else len(names), ("resample", filters.resample))
    return [function for _, function in done]


def _function(step: Step) -> Function:
    """What a step of the study does to a piece. Modules are imported by the steps that need them."""
    name, value = step.name, step.value

    def by_value(function: Callable[..., Piece], *values: Any) -> Function:
        return lambda piece: function(piece, *values)

    if name == "resample":
        return filters.resample
    if name in ("notch", "baseline", "reject"):
        return by_value(getattr(filters, name), value)
    if name == "bandpass":
        return by_value(filters.bandpass, *value)
    if name in ("reference", "bads"):
        from mtkd.signals.steps import electrodes

        values = (value,) if name == "reference" else (value.threshold, value.interpolate)
        return by_value(getattr(electrodes, name), *values)
    from mtkd.signals.steps import peripherals

    return by_value(peripherals.split, value) if name == "split" else peripherals.rate


def _ica(recording: Recording, signals: Signals, step: Step, before: list[tuple[str, Function]]) -> Function:
    """Fit components to all trials of the recording as they are when they come to this step.

    The EOG goes through the filters of the EEG on its way.
    """
    from mtkd.signals.steps import electrodes

    settings = signals.modalities["eeg"]
    functions: dict[Modality, list[Function]] = {
        "eeg": [function for _, function in before],
        "eog": [function for name, function in before if name in ("notch", "bandpass", "resample")],
    }
    eeg, eog = (
        [
            _through(_piece(recording, span, lasts_s(span, [settings.sfreq]), modality, signals.lead_s, settings), own)
            for span in recording.spans
            if modality in recording.streams
        ]
        for modality, own in functions.items()
    )
    if not any(np.ptp(piece.data, axis=1).any() for piece in eeg):  # no electrode was on, which the masks tell
        return lambda piece: piece
    if eog and not any(np.ptp(piece.data, axis=1).any() for piece in eog):
        say("shards", f"{recording.source}: ica takes nothing off, as {', '.join(eog[0].ch_names)} never moved")
        return lambda piece: piece
    found = electrodes.fit_ica(eeg, eog, step.value.n_components, step.value.threshold)
    return lambda piece: electrodes.apply_ica(piece, found)


def _piece(
    recording: Recording,
    span: Span,
    duration_s: float,
    modality: Modality,
    lead_s: float,
    settings: ModalitySignals,
) -> Piece:
    """From the lead to the trial's end. Masks and levels know what lay before: a sensor may have stood still already.

    A trial begins at the nearest sample; what begins at its end or later, it does not hear.
    """
    stream = recording.streams[modality]
    own, n_before = nearest(span.start_s * stream.sfreq), nearest(lead_s * stream.sfreq)
    start = max(0, min(own - n_before, stream.n_times - 1))
    before = min(start, nearest(max(still_s(modality), KNOWN_S) * stream.sfreq))
    known_s = lead_s + before / stream.sfreq
    stop = start + n_before + n_samples(round(span.stop_s - span.start_s, 9), stream.sfreq)
    stop = min(stop, n_samples(span.stop_s, stream.sfreq))
    n_times = before + _n_native(stream.sfreq, settings.sfreq, lead_s, duration_s)
    joints = [joint - start + before for joint in stream.joints]
    filled = fill(_read(stream, start - before, stop, n_times), stream.sfreq, modality, known_s, joints)
    valid = filled.valid[:, n_lead(known_s) - n_lead(lead_s) :]
    data, levels = filled.data[:, before:], _levels(filled, before)
    return Piece(data, valid, stream.sfreq, stream.ch_names, modality, lead_s, settings, recording.source, levels)


def _levels(filled: Filled, before: int) -> Float[np.ndarray, "n_chans n_times"] | None:
    """All steps up to each sample, of those behind the first: what lay before it is no part of the trial."""
    if filled.steps is None or not (steps := filled.steps[:, before + 1 :]).any():
        return None
    return np.pad(np.cumsum(steps, axis=1), ((0, 0), (1, 0)))


def _n_native(sfreq: float, to: float, lead_s: float, duration_s: float) -> int:
    """Samples from the lead to the trial's end, of which the new rate's can be made.

    So many for a duration, wherever a trial starts: rounding both ends would make some one sample shorter.
    """
    n_new = nearest(lead_s * to) + n_samples(duration_s, to)
    return max(n_samples(lead_s + duration_s, sfreq), math.floor((n_new - 0.5) * sfreq / to) + 1)


def _read(stream: Stream, start: int, stop: int, n_times: int) -> Float[np.ndarray, "n_chans n_times"]:
    """So many samples, those behind ``stop`` as the last before it: a trial hears nothing of what comes after."""
    data = stream.read(start, min(stop, stream.n_times))
    missing = n_times - data.shape[1]
    return np.pad(data, ((0, 0), (0, missing)), mode="edge") if missing > 0 else data


def _through(piece: Piece, functions: list[Function]) -> Piece:
    for function in functions:
        piece = function(piece)
    return piece


def _process(
    recording: Recording,
    span: Span,
    duration_s: float,
    modality: Modality,
    signals: Signals,
    functions: list[Function],
) -> Signal:
    piece = _piece(recording, span, duration_s, modality, signals.lead_s, signals.modalities[modality])
    return _cut(_through(piece, functions), signals.lead_s, duration_s)


def _cut(piece: Piece, start_s: float, duration_s: float) -> Signal:
    """The trial without its lead, in single precision; zeros where it is not valid."""
    start = nearest(start_s * piece.sfreq)
    stop = start + n_samples(duration_s, piece.sfreq)
    data = piece.data[:, start:stop].astype(np.float32, order="C")
    n_secs = min(math.ceil(duration_s - 1e-9), math.ceil(data.shape[1] / piece.sfreq - 1e-9))
    own = np.minimum(n_lead(start_s) + np.arange(n_secs), piece.valid.shape[1] - 1)
    if not piece.valid.all():
        data[~piece.valid[:, piece.second[start:stop]]] = 0.0
    return Signal(data, piece.valid[:, own], piece.sfreq, piece.ch_names)
