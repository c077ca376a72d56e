"""DEAP's preprocessed Python files, ``sNN.dat`` (Koelstra et al., IEEE Trans. Affective Computing 2012).

``data`` (n_trials, 40, n_times) at 128 Hz, the first ``baseline_s`` before the stimulus; ``labels`` (n_trials, 4), 1
to 9.
"""

import re
from collections.abc import Iterator
from pathlib import Path

import mne
import numpy as np

from mtkd.config import Data, Modality
from mtkd.errors import MtkdError
from mtkd.signals.channels import GENEVA, MNE_TYPE, conductance
from mtkd.signals.readers.pickles import load_arrays
from mtkd.signals.recording import Recording, Span

SFREQ = 128.0
RATINGS = ("valence", "arousal", "dominance", "liking")
PERIPHERALS: dict[str, Modality] = {
    "hEOG": "eog",
    "vEOG": "eog",
    "zEMG": "emg",
    "tEMG": "emg",
    "GSR": "eda",
    "Resp": "resp",
    "Plet": "ppg",
    "Temp": "temp",
}
CHANNELS: dict[str, Modality] = {**dict.fromkeys(GENEVA, "eeg"), **PERIPHERALS}
_FILE = re.compile(r"s(\d+)\.dat")


def sources(folder: Path, data: Data) -> dict[Path, str]:
    """Files of the folder with the subject of each."""
    return {path: path.stem for path in sorted(folder.iterdir()) if _FILE.fullmatch(path.name)}


def read(path: Path, data: Data) -> Iterator[Recording]:
    """One recording a trial: DEAP cut its sessions up, so trials do not touch each other.

    Raises:
        MtkdError: the file is damaged, foreign, or would run code.
    """
    content = load_arrays(path.read_bytes(), str(path))
    signals, labels = _checked(content, path)
    n_times = signals.shape[2]
    if n_times <= data.baseline_s * SFREQ:
        raise MtkdError(
            f"{path}: trials of {n_times / SFREQ:g} s hold nothing after a baseline of {data.baseline_s:g} s"
        )
    info = mne.create_info(list(CHANNELS), SFREQ, [MNE_TYPE[kind] for kind in CHANNELS.values()])
    for index, (trial, ratings) in enumerate(zip(signals, labels, strict=True), start=1):
        span = Span(
            name=f"t{index:02d}",
            stimulus=f"video-{index:02d}",
            start_s=data.baseline_s,
            stop_s=n_times / SFREQ,
            ratings={name: float(value) for name, value in zip(RATINGS, ratings, strict=True) if np.isfinite(value)},
        )
        raw = mne.io.RawArray(_to_si(trial), info, copy="auto", verbose="error")
        yield Recording(raw, path.stem, str(path), CHANNELS, [span])


def _checked(content: dict, path: Path) -> tuple[np.ndarray, np.ndarray]:
    for key in ("data", "labels"):
        if not isinstance(content.get(key), np.ndarray) or content[key].dtype.kind not in "fiu":
            raise MtkdError(f"{path}: no numeric array {key!r}, so not a DEAP file")
    signals, labels = content["data"], content["labels"]
    if signals.ndim != 3 or signals.shape[1] != len(CHANNELS):
        raise MtkdError(f"{path}: 'data' is {signals.shape}, expected (trials, {len(CHANNELS)}, samples)")
    if labels.shape != (len(signals), len(RATINGS)):
        raise MtkdError(f"{path}: 'labels' is {labels.shape}, expected ({len(signals)}, {len(RATINGS)})")
    rated = labels[np.isfinite(labels)]
    if rated.size and not (rated.min() >= 1 and rated.max() <= 9):
        raise MtkdError(f"{path}: ratings from {rated.min():g} to {rated.max():g}, expected 1 to 9")
    return signals, labels


def _to_si(trial: np.ndarray) -> np.ndarray:
    """(40, n_times): microvolt to volt, skin resistance in ohm to conductance in siemens, the rest untouched."""
    values = trial.astype(np.float64)
    for row, (name, modality) in enumerate(CHANNELS.items()):
        if modality in ("eeg", "eog", "emg"):
            values[row] *= 1e-6
        elif name == "GSR":
            values[row] = conductance(values[row])
    return values
