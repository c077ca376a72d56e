"""Channel names, modalities and units: the one place where they are translated."""

import fnmatch
from collections.abc import Mapping

import numpy as np
from jaxtyping import Float

from mtkd.config import Kind, Modality
from mtkd.errors import MtkdError

MNE_TYPE: dict[Modality, str] = {
    "eeg": "eeg",
    "eog": "eog",
    "emg": "emg",
    "ecg": "ecg",
    "eda": "gsr",
    "resp": "resp",
    "ppg": "misc",
    "temp": "temperature",
}
UNIT: dict[Modality, str] = {
    "eeg": "V",
    "eog": "V",
    "emg": "V",
    "ecg": "V",
    "eda": "S",
    "resp": "a.u.",
    "ppg": "a.u.",
    "temp": "degC",
}
# What MNE leaves untouched when it reads a file, because it only knows volts.
_TO_SIEMENS = {"S": 1.0, "mS": 1e-3, "uS": 1e-6, "µS": 1e-6, "nS": 1e-9}
VOLTS = {"V", "mV", "uV", "µV"}  # the units MNE does know; numbers in any other it takes for volts
CELSIUS = {"degC", "deg C", "oC", "°C", "C", "Celsius", ""}  # files often name none
_TO_OHM = {"Ohm": 1.0, "ohm": 1.0, "Ω": 1.0, "kOhm": 1e3, "kohm": 1e3, "kΩ": 1e3}

GENEVA = (  # noqa: SIM905 - 32 lines of names would be no easier to read
    "Fp1 AF3 F3 F7 FC5 FC1 C3 T7 CP5 CP1 P3 P7 PO3 O1 Oz Pz Fp2 AF4 Fz F4 F8 FC6 FC2 Cz C4 T8 CP6 CP2 P4 P8 PO4 O2"
).split()
"""DEAP's electrodes in the order of its preprocessed files."""


MOST_S = 1e-4
"""Skin conducts 1 to 40 microsiemens (Boucsein, Electrodermal Activity, 2012); beyond 100 its electrodes touch."""


def conductance(resistance: Float[np.ndarray, "..."]) -> Float[np.ndarray, "..."]:
    """Ohm to siemens; NaN where no skin has such a resistance: one that is not positive, or below 1 / ``MOST_S``."""
    valid = resistance >= 1 / MOST_S
    return np.divide(1.0, resistance, out=np.full_like(resistance, np.nan), where=valid)


def to_siemens(values: Float[np.ndarray, "..."], unit: str, source: str) -> Float[np.ndarray, "..."]:
    """Skin conductance in siemens from a file's physical dimension, be it conductance or resistance.

    NaN beyond ``MOST_S``.

    Raises:
        MtkdError: the unit is neither, or cannot be what the file says.
    """
    if unit in _TO_SIEMENS:
        found = values * _TO_SIEMENS[unit]
        middle = np.median(found[np.isfinite(found)]) if np.isfinite(found).any() else 0.0
        if middle > 100 * MOST_S:
            raise MtkdError(f"{source}: its skin conductance is {middle:g} S, so not in the unit {unit!r}")
        return np.where(found <= MOST_S, found, np.nan)
    if unit in _TO_OHM:
        return conductance(values * _TO_OHM[unit])
    raise MtkdError(f"{source}: skin conductance in the unit {unit!r}; known are {', '.join([*_TO_SIEMENS, *_TO_OHM])}")


def type_channels(ch_names: list[str], patterns: Mapping[str, Kind], source: str) -> dict[str, Kind]:
    """Give every channel the modality of the first pattern (shell style) it matches.

    Raises:
        MtkdError: a channel matches none, so that nothing is typed by accident.
    """
    typed: dict[str, Kind] = {}
    for name in ch_names:
        found = next((kind for pattern, kind in patterns.items() if fnmatch.fnmatchcase(name, pattern)), None)
        if found is None:
            raise MtkdError(f"{source}: channel {name!r} matches no pattern of data.channels (use 'ignore' to drop it)")
        typed[name] = found
    return typed


def plain_name(name: str) -> str:
    """The electrode's or sensor's own name: EDF+ puts the signal type before it ("EEG Fp1")."""
    kind, _, rest = name.partition(" ")
    return rest if rest and kind.upper() in {"EEG", "ECG", "EOG", "EMG"} else name
