"""What is done to electrodes together: reference, bad ones, components of the eyes; by MNE."""

from dataclasses import replace

import mne
import numpy as np

from mtkd.errors import MtkdError, one_line
from mtkd.signals.montage import positions
from mtkd.signals.steps.piece import Piece

ICA_SFREQ = 100.0
"""Components are fitted on about as many samples a second: blinks and saccades need no more."""


def reference(piece: Piece, to: str | list[str]) -> Piece:
    """The average of the electrodes that are on, or of those of ``to`` that are, taken off each of them.

    Second by second: where an electrode falls off, the average is of the others. After a high-pass its offset is gone
    by then, so that the average does not jump. Where one is all that is left of its reference, it would be zero, which
    looks like a signal: it is masked.

    Raises:
        MtkdError: one of ``to`` is not there, or there is but one electrode.
    """
    if len(piece.ch_names) == 1:
        raise MtkdError(
            f"{piece.where}.steps: reference: of {piece.ch_names[0]} alone, the only electrode, it would leave nothing"
        )
    names = piece.ch_names if to == "average" else list(to)
    for name in names:
        if name not in piece.ch_names:
            raise MtkdError(f"{piece.where}.steps: the reference {name!r} is none of {', '.join(piece.ch_names)}")
    referenced, levels, second = piece.data.copy(), piece.levels, piece.second
    levels = None if levels is None else levels.copy()
    of = [piece.ch_names.index(name) for name in names]
    valid = piece.valid.copy()
    patterns, which = np.unique(piece.valid, axis=1, return_inverse=True)
    for index, alive in enumerate(patterns.T):
        seconds = which.ravel() == index
        own = [row for row in of if alive[row]]
        if not own:
            valid[:, seconds] = False
            continue
        if len(own) == 1:
            valid[own[0], seconds] = False
        now = seconds[second]
        for rows in [referenced] if levels is None else [referenced, levels]:
            rows[np.ix_(alive, now)] -= rows[np.ix_(own, now)].mean(axis=0)
    return replace(piece, data=referenced, valid=valid, levels=levels)


def bads(piece: Piece, threshold: float, interpolate: bool) -> Piece:
    """Electrodes that differ from the others are interpolated from those around them, or masked throughout.

    Those that are off throughout, too. Raises nothing: with few electrodes or unknown ones less can be done.
    """
    on = np.asarray(piece.valid.any(axis=1))
    bad = ~on
    if on.sum() >= 4:
        raw = _raw(piece, piece.stepless, on)
        # of all others one would be the bad one, and all equally far from it
        n_neighbors = min(20, 2 * (int(on.sum()) - 1) // 3)
        found = mne.preprocessing.find_bad_channels_lof(
            raw, n_neighbors=n_neighbors, threshold=threshold, verbose="error"
        )
        bad |= np.isin(piece.ch_names, found)
    valid, data, levels = piece.valid.copy(), piece.data, piece.levels
    placed = np.array([name.lower() in positions() for name in piece.ch_names])
    if interpolate and (bad & placed).any() and (placed & ~bad).sum() >= 4:
        data = _interpolated(piece, data, placed, bad)
        levels = None if levels is None else _interpolated(piece, levels, placed, bad)
        # as sure as those it was made of
        valid[bad & placed] = valid[placed & ~bad].mean(axis=0) > 0.5
        bad &= ~placed
    valid[bad] = False
    return replace(piece, data=data, valid=valid, levels=levels)


def _interpolated(piece: Piece, rows: np.ndarray, placed: np.ndarray, bad: np.ndarray) -> np.ndarray:
    """``rows`` (n_chans, n_times), those of the bad electrodes made of the others whose place is known."""
    raw = _raw(piece, rows, placed)
    raw.info["bads"] = [name for name, is_bad in zip(piece.ch_names, bad & placed, strict=True) if is_bad]
    raw.interpolate_bads(reset_bads=True, verbose="error")
    rows = rows.copy()
    rows[placed] = raw.get_data()
    return rows


def fit_ica(pieces: list[Piece], eog: list[Piece], n_components: float, threshold: float) -> mne.preprocessing.ICA:
    """Components of a recording's electrodes, those that go with its EOG marked.

    ``pieces`` and ``eog`` are its trials at one rate. Of the EOG, what never moves is passed over; some must.

    Raises:
        MtkdError: there is no EOG at the rate of the EEG, or too little that differs.
    """
    first = pieces[0]
    if not eog or eog[0].sfreq != first.sfreq:
        raise MtkdError(f"{first.where}.steps: ica needs EOG in the recording, at the rate of the EEG")
    moves = np.any([np.ptp(piece.data, axis=1) > 0 for piece in eog], axis=0)  # no correlation is with what does not
    data = np.hstack([_together(a.stepless, b.stepless[moves]) for a, b in zip(pieces, eog, strict=True)])
    names = first.ch_names
    eyes = [f"EOG {name}" for name, is_on in zip(eog[0].ch_names, moves, strict=True) if is_on]
    info = mne.create_info([*names, *eyes], first.sfreq, ["eeg"] * len(names) + ["eog"] * len(eyes))
    raw = mne.io.RawArray(data, info, verbose="error")
    ica = mne.preprocessing.ICA(n_components=n_components, method="infomax", rng=0, max_iter=500)
    try:
        ica.fit(raw, decim=max(1, int(first.sfreq // ICA_SFREQ)), verbose="error")
        # a z-score among n components is below the root of n: with few electrodes it would never say anything
        found, _ = ica.find_bads_eog(raw, threshold=threshold, measure="correlation", verbose="error")
        ica.exclude = found
    except (ValueError, RuntimeError, np.linalg.LinAlgError) as error:
        raise MtkdError(f"{first.where}.steps: ica: {one_line(error)}") from None
    return ica


def apply_ica(piece: Piece, ica: mne.preprocessing.ICA) -> Piece:
    """The piece without the components of the eyes."""
    every = np.ones(len(piece.ch_names), bool)
    cleaned = ica.apply(_raw(piece, piece.data, every), verbose="error").get_data()
    if piece.levels is None:
        return replace(piece, data=cleaned)
    levels = ica.apply(_raw(piece, piece.levels, every), verbose="error").get_data()
    return replace(piece, data=cleaned, levels=levels - levels[:, :1])


def _together(electrodes: np.ndarray, eyes: np.ndarray) -> np.ndarray:
    """One below the other: from different rates, one may have come a sample longer than the other."""
    n_times = min(electrodes.shape[1], eyes.shape[1])
    return np.vstack([electrodes[:, :n_times], eyes[:, :n_times]])


def _raw(piece: Piece, rows: np.ndarray, chosen: np.ndarray) -> mne.io.RawArray:
    """The chosen of ``rows`` (n_chans, n_times), which are the piece's channels."""
    names = [name for name, is_chosen in zip(piece.ch_names, chosen, strict=True) if is_chosen]
    raw = mne.io.RawArray(rows[chosen], mne.create_info(names, piece.sfreq, "eeg"), verbose="error")
    known = {name: positions()[name.lower()] for name in names if name.lower() in positions()}
    if len(known) == len(names):
        raw.set_montage(mne.channels.make_dig_montage(known, coord_frame="head"), verbose="error")
    return raw
