"""DEAP (Koelstra et al., IEEE Trans. Affective Computing 2012), in each of the three forms it is handed out in.

======  ==========================================================================================================
form    what it is
======  ==========================================================================================================
`.dat`  preprocessed, a pickle of Python 2; 128 Hz, 63 s a trial, the first ``baseline_s`` before the stimulus
`.mat`  the same arrays ``data`` (n_trials, 40, n_times) and ``labels`` (n_trials, 4), as MATLAB writes them
`.bdf`  the original session of a participant, see ``mtkd.signals.readers.deap_bdf``
======  ==========================================================================================================

All give the same trials under the same names: that of the video, ``t01`` to ``t40``, whichever came first.
"""

import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
from jaxtyping import Float, Num

from mtkd.config import Deap, Modality
from mtkd.errors import MtkdError
from mtkd.signals.channels import GENEVA, to_si, type_channels
from mtkd.signals.readers.deap_ratings import named, rated
from mtkd.signals.readers.matlab import load_matlab
from mtkd.signals.readers.pickles import load_arrays
from mtkd.signals.recording import File, Found, Recording, Span, Stream

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
UNITS: dict[Modality, str] = {"eeg": "uV", "eog": "uV", "emg": "uV", "eda": "Ohm", "resp": "", "ppg": "", "temp": ""}
_FILE = re.compile(r"s(\d+)\.(dat|mat|bdf)", re.IGNORECASE)
_FOLDERS = {"dat": "data_preprocessed_python", "mat": "data_preprocessed_matlab", "bdf": "data_original"}


def find(folder: Path, data: Deap) -> Found:
    """Files of the folder, or of those DEAP is handed out in, one form of each participant."""
    paths = [path for place in (folder, *(folder / name for name in _FOLDERS.values())) for path in _listed(place)]
    forms: dict[int, dict[str, list[Path]]] = {}
    for path in paths:
        number, form = int(_FILE.fullmatch(path.name)[1]), path.suffix[1:].lower()  # type: ignore[index]
        forms.setdefault(number, {}).setdefault(form, []).append(path)
    files: list[File] = []
    left_out: dict[str, str] = {}
    for number, found in sorted(forms.items()):
        form = data.format or next(form for form in _FOLDERS if form in found)
        reason = f"its participant's .{form} file is read" if form in found else f"data.format is {form}"
        left_out |= {path.name: reason for other in sorted(found.keys() - {form}) for path in found[other]}
        files += [_file(path, number) for path in found.get(form, [])]
    return Found(files, left_out)


def read(file: File, data: Deap) -> Iterator[Recording]:
    """One recording a trial of what was preprocessed: DEAP cut its sessions up, so trials do not touch each other.

    Raises:
        MtkdError: the file is damaged, foreign, or would run code.
    """
    path = file.path
    if path.suffix.lower() == ".bdf":
        from mtkd.signals.readers import deap_bdf  # takes MNE, which preprocessed files do without

        yield deap_bdf.read(file, data)
        return
    if data.units or data.bipolar or data.rename:
        raise MtkdError(f"{path}: data.units, bipolar and rename are for DEAP's .bdf files, these are preprocessed")
    is_pickle = path.suffix.lower() == ".dat"
    content = (
        load_arrays(np.fromfile(path, np.uint8).data, str(path)) if is_pickle else load_matlab(path, ("data", "labels"))
    )
    signals, labels = _checked(content, path)
    n_times = signals.shape[2]
    if n_times <= data.baseline_s * SFREQ:
        raise MtkdError(
            f"{path}: trials of {n_times / SFREQ:g} s hold nothing after a baseline of {data.baseline_s:g} s"
        )
    kinds = type_channels(list(CHANNELS), {**data.channels, **CHANNELS, **data.channels}, str(path))
    for index, (trial, ratings) in enumerate(zip(signals, labels, strict=True), start=1):
        felt = {name: float(value) for name, value in zip(RATINGS, ratings, strict=True) if not np.isnan(value)}
        span = Span(*named(index), data.baseline_s, n_times / SFREQ, felt)
        streams = {
            kind: _stream(trial, kind, [row for row, found in enumerate(kinds.values()) if found == kind], path)
            for kind in dict.fromkeys(kinds.values())
            if kind != "ignore"
        }
        yield Recording(file.subject, str(path), streams, [span])


def _listed(folder: Path) -> list[Path]:
    return [path for path in sorted(folder.iterdir()) if _FILE.fullmatch(path.name)] if folder.is_dir() else []


def _file(path: Path, number: int) -> File:
    rows = rated(path, number) if path.suffix.lower() == ".bdf" else None
    return File(f"s{number:02d}", f"s{number:02d}", (path,), rows)


def _stream(trial: Num[np.ndarray, "40 n_times"], kind: Modality, rows: list[int], path: Path) -> Stream:
    names = list(CHANNELS)
    read = partial(_read, trial, slice(rows[0], rows[-1] + 1) if rows == [*range(rows[0], rows[-1] + 1)] else rows)
    return Stream([names[row] for row in rows], SFREQ, trial.shape[1], partial(read, kind, str(path)))


def _read(
    trial: np.ndarray, rows: slice | list[int], kind: Modality, source: str, start: int, stop: int
) -> Float[np.ndarray, "n_chans n_times"]:
    return to_si(np.asarray(trial[rows, start:stop], np.float64), kind, UNITS[kind], source)


def _checked(content: dict, path: Path) -> tuple[np.ndarray, np.ndarray]:
    for key in ("data", "labels"):
        if not isinstance(content.get(key), np.ndarray) or content[key].dtype.kind not in "fiu":
            raise MtkdError(f"{path}: no numeric array {key!r}, so not a DEAP file")
    signals, labels = content["data"], content["labels"]
    if signals.ndim != 3 or signals.shape[1] != len(CHANNELS):
        raise MtkdError(f"{path}: 'data' is {signals.shape}, expected (trials, {len(CHANNELS)}, samples)")
    if labels.shape != (len(signals), len(RATINGS)):
        raise MtkdError(f"{path}: 'labels' is {labels.shape}, expected ({len(signals)}, {len(RATINGS)})")
    given = labels[~np.isnan(labels)]
    if given.size and not (given.min() >= 1 and given.max() <= 9):
        raise MtkdError(f"{path}: ratings from {given.min():g} to {given.max():g}, expected 1 to 9")
    return signals, labels
