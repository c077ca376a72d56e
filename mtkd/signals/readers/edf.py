"""EDF and BDF files, one trial each: subject and condition stand in the file name.

A study names the pattern ("Subject{subject}_{condition}.edf"), what each condition means, and the modality of each
channel.
"""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import mne
import numpy as np

from mtkd.config import Condition, Data, Kind, Modality
from mtkd.errors import MtkdError, one_line
from mtkd.signals.channels import CELSIUS, MNE_TYPE, UNIT, VOLTS, plain_name, to_siemens, type_channels
from mtkd.signals.recording import Recording, Span

KNOWN: dict[Modality, set[str]] = {
    "temp": CELSIUS,
    **{kind: VOLTS for kind, unit in UNIT.items() if unit == "V"},
}
"""Units of the modalities that come as they are; skin conductance is converted, belts and pulses have none."""
RENAME = "predict.channels={ITS NAME: THE STUDY'S NAME} tells a channel that it calls by another name"


def sources(folder: Path, data: Data) -> dict[Path, str]:
    """Files of the folder that match the pattern, with the subject of each."""
    matched = {path: _match(path, data.pattern) for path in sorted(folder.iterdir())}
    return {path: found["subject"] for path, found in matched.items() if found}


def read(path: Path, data: Data) -> Iterator[Recording]:
    """The file as one recording with one trial.

    Raises:
        MtkdError: the file is damaged or truncated, its condition is not in the study, or it is too short for it.
    """
    found = _match(path, data.pattern)
    if found is None or found["condition"] not in data.conditions:
        known = ", ".join(data.conditions)
        raise MtkdError(f"{path}: its condition is not among those of data.conditions ({known})")
    raw, modality = read_raw(path, data.channels)
    condition = data.conditions[found["condition"]]
    start_s, stop_s = _limits(condition, raw.n_times / raw.info["sfreq"], path)
    span = Span(found["condition"], found["condition"], start_s, stop_s, dict(condition.ratings))
    yield Recording(raw, found["subject"], str(path), modality, [span])


def read_raw(
    path: Path, channels: Mapping[str, Kind], names: Mapping[str, str] | None = None
) -> tuple[mne.io.BaseRaw, dict[str, Modality]]:
    """Any file MNE reads, in SI units, with the modality of every channel kept; ``names`` renames some of the file's.

    Raises:
        MtkdError: the file is missing, damaged, truncated, has no channel to rename, or one that no pattern of
            ``channels`` names.
    """
    if not path.is_file():
        raise MtkdError(f"{path}: no such file")
    labelled = _physical_dimensions(path) if path.suffix.lower() in {".edf", ".bdf"} else []
    units = dict(labelled)
    try:
        raw = mne.io.read_raw(path, preload=True, verbose="error")
    except Exception as error:  # MNE's readers raise nearly anything on foreign bytes
        raise MtkdError(f"{path}: not readable by MNE ({type(error).__name__}: {one_line(error)})") from None
    if not all(name.isprintable() for name in raw.ch_names):
        raise MtkdError(f"{path}: damaged or foreign file, the name of a channel is no text")
    has = ", ".join(raw.ch_names)
    for theirs, ours in (names or {}).items():
        if theirs not in raw.ch_names:
            raise MtkdError(f"{path}: has no channel {theirs!r} that could be renamed {ours!r}; it has {has}")
        if ours in raw.ch_names:
            raise MtkdError(f"{path}: cannot rename its channel {theirs!r} {ours!r}, of which it has one; it has {has}")
        raw.rename_channels({theirs: ours}, verbose="error")
        units = {ours if name == theirs else name: unit for name, unit in units.items()}
    _refuse_twins([name for name, _ in labelled], channels, path)
    typed = type_channels(raw.ch_names, channels, str(path))
    kept = {name: kind for name, kind in typed.items() if kind != "ignore"}
    if not kept:
        hint = "" if names is None else f"; {RENAME}"
        raise MtkdError(f"{path}: no channel is left that the study asks for; it has {has}{hint}")
    raw.pick(list(kept))
    for name, kind in kept.items():
        if kind == "eda":
            unit = units.get(name, "S")
            raw.apply_function(to_siemens, picks=[name], unit=unit, source=str(path), verbose="error")
        elif units and kind in KNOWN and units.get(name) not in KNOWN[kind]:
            known = ", ".join(sorted(KNOWN[kind] - {""}))
            raise MtkdError(f"{path}: {name} is in the unit {units.get(name)!r}; known are {known}")
    raw.set_channel_types(
        {name: MNE_TYPE[kind] for name, kind in kept.items()}, on_unit_change="ignore", verbose="error"
    )
    renamed = {name: plain_name(name) for name in kept}
    if len(set(renamed.values())) < len(renamed):
        raise MtkdError(f"{path}: two channels share a name")
    raw.rename_channels(renamed, verbose="error")
    return raw, {renamed[name]: kind for name, kind in kept.items()}


def _refuse_twins(names: list[str], channels: Mapping[str, Kind], path: Path) -> None:
    """Refuse channels of one name, which MNE would number, where they are not to be ignored."""
    for name in sorted({name for name in names if names.count(name) > 1} - {"EDF Annotations", "BDF Annotations"}):
        if type_channels([name], channels, str(path))[name] != "ignore":
            raise MtkdError(f"{path}: two channels share a name, {name!r}")


def _match(path: Path, pattern: str) -> dict[str, str] | None:
    parts = re.split(r"(\{subject\}|\{condition\})", pattern)
    named = {"{subject}": r"(?P<subject>[A-Za-z0-9]+)", "{condition}": r"(?P<condition>[A-Za-z0-9]+)"}
    found = re.fullmatch("".join(named.get(part, re.escape(part)) for part in parts), path.name)
    return found.groupdict() if found else None


def _limits(condition: Condition, duration_s: float, path: Path) -> tuple[float, float]:
    start_s = condition.start_s if condition.start_s >= 0 else duration_s + condition.start_s
    stop_s = duration_s if condition.stop_s is None else condition.stop_s
    stop_s = stop_s if stop_s >= 0 else duration_s + stop_s
    if not 0 <= start_s < stop_s <= duration_s + 1e-6:
        raise MtkdError(
            f"{path}: {duration_s:g} s long, too short for the study's cut from {start_s:g} s to {stop_s:g} s"
        )
    return start_s, stop_s


def _physical_dimensions(path: Path) -> list[tuple[str, str]]:
    """Name and unit of each channel as the header says them: MNE forgets those it does not know, such as "uS".

    Raises:
        MtkdError: the header makes no sense, or the file is shorter than it promises (MNE would read what is there).
    """
    fixed = _head(path, 256)
    kind = "BDF" if fixed[:1] == b"\xff" else "EDF"
    if path.suffix.lower() != f".{kind.lower()}":  # MNE goes by the name
        raise MtkdError(f"{path}: {kind} by its content, so its name must end with .{kind.lower()}")
    if fixed[192:197] in (b"EDF+D", b"BDF+D"):
        raise MtkdError(f"{path}: a discontinuous recording ({kind}+D), whose gaps would be closed")
    sample_bytes = 3 if kind == "BDF" else 2
    try:
        header_bytes, n_records, n_signals = int(fixed[184:192]), int(fixed[236:244]), int(fixed[252:256])
        if not 0 < n_signals <= 4096 or header_bytes != 256 * (1 + n_signals):
            raise ValueError("its sizes do not agree")
        if n_records < 1 or not 0 < float(fixed[244:252]) < 1e6:
            raise ValueError("it promises no data")
        header = _head(path, header_bytes)
        _check_ranges(header[256:], n_signals)
        n_samples = [int(header[start : start + 8]) for start in range(256 + n_signals * 216, 256 + n_signals * 224, 8)]
        if min(n_samples) < 1:
            raise ValueError("a channel without samples")
    except ValueError:
        raise MtkdError(f"{path}: not an EDF or BDF file, its header makes no sense") from None
    expected = header_bytes + n_records * sum(n_samples) * sample_bytes
    if path.stat().st_size < expected:
        raise MtkdError(f"{path}: truncated, {path.stat().st_size} bytes of the {expected} its header promises")
    fields = (
        header[256:].decode("latin1")[first : first + n_signals * size]
        for first, size in ((0, 16), (n_signals * 96, 8))
    )
    names, units = (
        [text[i : i + len(text) // n_signals].strip() for i in range(0, len(text), len(text) // n_signals)]
        for text in fields
    )
    return list(zip(names, units, strict=True))


def _check_ranges(header: bytes, n_signals: int) -> None:
    """Refuse ranges from which no physical value follows, whatever the samples are.

    Raises:
        ValueError: they are empty, turned around, not finite or beyond what single precision holds.
    """

    def column(first: int) -> np.ndarray:
        start = first * n_signals
        return np.array([float(header[at : at + 8]) for at in range(start, start + 8 * n_signals, 8)])

    low, high, digital_low, digital_high = (column(first) for first in (104, 112, 120, 128))
    if not (np.abs([low, high]) < 1e30).all() or (low == high).any() or not (digital_low < digital_high).all():
        raise ValueError("its ranges make no sense")


def _head(path: Path, n_bytes: int) -> bytes:
    with path.open("rb") as file:
        return file.read(n_bytes)
