"""What is known of the body's own signals: skin conductance has two parts, heart and breath have a rate."""

from dataclasses import replace

import neurokit2
import numpy as np

from mtkd.errors import MtkdError, one_line
from mtkd.signals.channels import DERIVED
from mtkd.signals.steps.filters import SECOND_ORDER, iir
from mtkd.signals.steps.piece import Piece

_PEAKS = {"ecg": neurokit2.ecg_peaks, "ppg": neurokit2.ppg_peaks, "resp": neurokit2.rsp_peaks}
_KEY = {"ecg": "ECG_R_Peaks", "ppg": "PPG_Peaks", "resp": "RSP_Peaks"}
RANGES = {"ecg": (0.5, 4.0), "ppg": (0.5, 4.0), "resp": (0.03, 1.5)}
"""Rates that a body has, hertz."""


def split(piece: Piece, edge: float) -> Piece:
    """Each channel of skin conductance as two: its tonic part below ``edge`` hertz, and the phasic one above it.

    By NeuroKit2's high-pass method where it may look ahead, by the causal filter of the same order otherwise.

    Raises:
        MtkdError: the signal does not reach so high, or is too short to look ahead in.
    """
    if edge >= piece.sfreq / 2:
        raise MtkdError(f"{piece.where}.steps: split at {edge:g} Hz, but the signal reaches {piece.sfreq / 2:g} Hz")
    if piece.settings.phase == "zero":
        try:
            parts = [
                neurokit2.eda_phasic(row, sampling_rate=piece.sfreq, method="highpass", cutoff=edge)
                for row in piece.stepless
            ]
        except ValueError as error:
            raise MtkdError(f"{piece.where}.steps: split: {one_line(error)}") from None
        tonic, phasic = (np.stack([part[name].to_numpy() for part in parts]) for name in ("EDA_Tonic", "EDA_Phasic"))
        tonic = tonic if piece.levels is None else tonic + piece.levels
    else:
        tonic = iir(piece, None, edge, SECOND_ORDER).data
        phasic = piece.data - tonic
    names = [DERIVED[part].format(name) for part in ("tonic", "phasic") for name in piece.ch_names]
    levels = None if piece.levels is None else np.vstack([piece.levels, np.zeros_like(piece.levels)])
    valid = np.vstack([piece.valid] * 2)
    return replace(piece, data=np.vstack([tonic, phasic]), valid=valid, ch_names=names, levels=levels)


def rate(piece: Piece) -> Piece:
    """One more channel for each: the rate of its peaks in hertz, interpolated between them.

    Not valid where the sensor was off, or the rate is none that a body has.
    """
    found = np.stack([_rate(row, piece) for row in piece.stepless])
    low, high = RANGES[piece.modality]
    n_secs = piece.valid.shape[1]
    likely = np.ones((len(found), n_secs), bool)
    second = piece.second
    for row, values in enumerate(found):
        outside = second[~((values >= low) & (values <= high))]
        likely[row, outside] = False
    names = [*piece.ch_names, *(DERIVED["rate"].format(name) for name in piece.ch_names)]
    valid = np.vstack([piece.valid, piece.valid & likely])
    levels = None if piece.levels is None else np.vstack([piece.levels, np.zeros_like(found)])
    return replace(
        piece, data=np.vstack([piece.data, np.nan_to_num(found)]), valid=valid, ch_names=names, levels=levels
    )


def _rate(values: np.ndarray, piece: Piece) -> np.ndarray:
    """Hertz at every sample; NaN throughout where there are fewer than three peaks."""
    try:
        _, info = _PEAKS[piece.modality](values, sampling_rate=piece.sfreq)
        peaks = np.unique(np.asarray(info[_KEY[piece.modality]], dtype=float))
        peaks = peaks[np.isfinite(peaks)].astype(int)
        if len(peaks) < 3:
            return np.full(len(values), np.nan)
        return neurokit2.signal_rate(peaks, sampling_rate=piece.sfreq, desired_length=len(values)) / 60
    except (ValueError, TypeError, IndexError, ZeroDivisionError):  # of a signal without peaks, or too short for them
        return np.full(len(values), np.nan)
