"""EDF and BDF files, one trial each: subject and condition stand in the file name.

A study names the pattern ("Subject{subject}_{condition}.edf"), what each condition means, and the modality of each
channel.
"""

import re
from collections.abc import Iterator
from pathlib import Path

from mtkd.config import Condition, Edf
from mtkd.errors import MtkdError
from mtkd.signals.readers.raw import read_streams
from mtkd.signals.recording import File, Found, Recording, Span

_EDF = (".edf", ".bdf")


def find(folder: Path, data: Edf) -> Found:
    """Files of the folder that match the pattern, with the subject of each; EDFs that do not are left out."""
    matched = {path: _match(path, data.pattern) for path in sorted(folder.iterdir())}
    if not any(matched.values()):
        first = next((path.name for path in matched if path.suffix.lower() in _EDF), None)
        told = f"such as {first}" if first else "of which none is an EDF or BDF"
        raise MtkdError(f"{folder}: data.pattern = {data.pattern} fits none of its files, {told}")
    files = [File("_".join(found), found[0], (path,), found[1]) for path, found in matched.items() if found]
    others = [path.name for path, found in matched.items() if not found and path.suffix.lower() in _EDF]
    return Found(files, dict.fromkeys(others, "data.pattern does not fit its name"))


def read(file: File, data: Edf) -> Iterator[Recording]:
    """The file as one recording with one trial.

    Raises:
        MtkdError: the file is damaged or truncated, its condition is not in the study, or it is too short for it.
    """
    if file.rows not in data.conditions:
        known = ", ".join(data.conditions)
        raise MtkdError(f"{file.path}: its condition is not among those of data.conditions ({known})")
    streams = read_streams(file.path, data, {}, {})
    condition = data.conditions[file.rows]
    duration_s = min(stream.n_times / stream.sfreq for stream in streams.values())
    start_s, stop_s = _limits(condition, duration_s, file.path)
    span = Span(file.rows, file.rows, start_s, stop_s, dict(condition.ratings))
    yield Recording(file.subject, str(file.path), streams, [span])


def _match(path: Path, pattern: str) -> tuple[str, str] | None:
    """Subject and condition, if the name has them where the pattern does."""
    parts = re.split(r"(\{subject\}|\{condition\})", pattern)
    named = {"{subject}": r"(?P<subject>[A-Za-z0-9]+)", "{condition}": r"(?P<condition>[A-Za-z0-9]+)"}
    found = re.fullmatch("".join(named.get(part, re.escape(part)) for part in parts), path.name)
    return (found["subject"], found["condition"]) if found else None


def _limits(condition: Condition, duration_s: float, path: Path) -> tuple[float, float]:
    start_s = condition.start_s if condition.start_s >= 0 else duration_s + condition.start_s
    stop_s = duration_s if condition.stop_s is None else condition.stop_s
    stop_s = stop_s if stop_s >= 0 else duration_s + stop_s
    if not 0 <= start_s < stop_s <= duration_s + 1e-6:
        raise MtkdError(
            f"{path}: {duration_s:g} s long, too short for the study's cut from {start_s:g} s to {stop_s:g} s"
        )
    return start_s, stop_s
