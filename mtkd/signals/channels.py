"""Channel names, modalities and units: the one place where they are translated."""

import fnmatch
from collections.abc import Collection, Iterable, Mapping

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
    "resp": "a.u.",  # microvolt where a file has volts, its own numbers elsewhere
    "ppg": "a.u.",
    "temp": "degC",
}
# What MNE leaves untouched when it reads a file, because it only knows volts.
TO_SIEMENS = {"S": 1.0, "mS": 1e-3, "uS": 1e-6, "µS": 1e-6, "nS": 1e-9}
VOLTS = {"V": 1.0, "mV": 1e-3, "uV": 1e-6, "µV": 1e-6}  # the units MNE does know; numbers in any other are volts to it
TO_VOLT = {**VOLTS, "nV": 1e-9}
CELSIUS = ["degC", "deg C", "oC", "°C", "C", "Celsius", ""]  # files often name none
TO_OHM = {"Ohm": 1.0, "ohm": 1.0, "Ω": 1.0, "kOhm": 1e3, "kohm": 1e3, "kΩ": 1e3}

GENEVA = (  # noqa: SIM905 - 32 lines of names would be no easier to read
    "Fp1 AF3 F3 F7 FC5 FC1 C3 T7 CP5 CP1 P3 P7 PO3 O1 Oz Pz Fp2 AF4 Fz F4 F8 FC6 FC2 Cz C4 T8 CP6 CP2 P4 P8 PO4 O2"
).split()
"""DEAP's electrodes in the order of its preprocessed files."""


LEAST_S, MOST_S = 1e-9, 1e-4
"""Skin conducts 1 to 40 microsiemens (Boucsein, Electrodermal Activity, 2012); beyond 100 its electrodes touch, and
where a thousandth of one is not reached they hang in the air."""


def conductance(resistance: Float[np.ndarray, "..."]) -> Float[np.ndarray, "..."]:
    """Ohm to siemens; NaN where no skin has such a resistance: below 1 / ``MOST_S``, or beyond 1 / ``LEAST_S``."""
    valid = (resistance >= 1 / MOST_S) & (resistance <= 1 / LEAST_S)
    return np.divide(1.0, resistance, out=np.full_like(resistance, np.nan), where=valid)


def to_siemens(values: Float[np.ndarray, "..."], unit: str, source: str) -> Float[np.ndarray, "..."]:
    """Skin conductance in siemens from a file's physical dimension, be it conductance or resistance.

    NaN below ``LEAST_S`` and beyond ``MOST_S``.

    Raises:
        MtkdError: the unit is neither, or cannot be what the file says.
    """
    if unit in TO_SIEMENS:
        found = values * TO_SIEMENS[unit]
        middle = np.median(found[np.isfinite(found)]) if np.isfinite(found).any() else 0.0
        if abs(middle) > 100 * MOST_S:
            raise MtkdError(
                f"{source}: its skin conductance is {middle:g} S, so not in the unit {unit!r}; data.units corrects it"
            )
        return np.where((found >= LEAST_S) & (found <= MOST_S), found, np.nan)
    if unit in TO_OHM:
        return conductance(values * TO_OHM[unit])
    raise MtkdError(f"{source}: skin conductance in the unit {unit!r}; known are {', '.join([*TO_SIEMENS, *TO_OHM])}")


KNOWN: dict[Modality, Collection[str]] = {
    "eda": [*TO_SIEMENS, *TO_OHM],
    "temp": CELSIUS,
    **{kind: TO_VOLT for kind, unit in UNIT.items() if unit == "V"},
}
"""Units of the modalities whose unit matters; belts and pulses have none."""


def to_si(values: Float[np.ndarray, "..."], modality: Modality, unit: str, source: str) -> Float[np.ndarray, "..."]:
    """A sensor's values from one of the units in ``KNOWN`` to that of its modality in ``UNIT``.

    Raises:
        MtkdError: skin conductance in a unit that is unknown, or cannot be what the file says.
    """
    if modality == "eda":
        return to_siemens(values, unit, source)
    if UNIT[modality] == "a.u.":  # volts of an amplifier, in the microvolts of most files and of DEAP's arrays
        return values * TO_VOLT[unit] * 1e6 if unit in TO_VOLT else values
    return values * TO_VOLT[unit] if UNIT[modality] == "V" else values


def type_channels(ch_names: list[str], patterns: Mapping[str, Kind], source: str) -> dict[str, Kind]:
    """Give every channel the modality of the first pattern (shell style) it matches.

    Raises:
        MtkdError: a channel matches none, so that nothing is typed by accident.
    """
    typed: dict[str, Kind] = {}
    for name in ch_names:
        found = first_pattern(name, patterns)
        if found is None:
            raise MtkdError(f"{source}: channel {name!r} matches no pattern of data.channels (use 'ignore' to drop it)")
        typed[name] = patterns[found]
    return typed


def first_pattern(name: str, patterns: Iterable[str]) -> str | None:
    """The pattern that decides about a channel."""
    return next((each for each in patterns if each == name or fnmatch.fnmatchcase(name, each)), None)


def plain_name(name: str) -> str:
    """The electrode's or sensor's own name: EDF+ puts the signal type before it ("EEG Fp1")."""
    kind, _, rest = name.partition(" ")
    return rest.strip() if rest.strip() and kind.upper() in {"EEG", "ECG", "EOG", "EMG"} else name


DERIVED = {"tonic": "{} tonic", "phasic": "{} phasic", "rate": "{} rate"}
"""Names of the channels that steps make of others."""


def origin(name: str) -> str:
    """The recording's channel that a channel was made of, by its name."""
    for form in DERIVED.values():
        name = name.removesuffix(form.format(""))
    return name
