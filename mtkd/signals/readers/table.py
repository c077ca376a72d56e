"""Any files MNE can read, and one table of their trials: a study that needs no code.

``trials.csv``, a line a trial: ``file,subject,start_s,stop_s`` and then ratings, for instance
``walk.edf,anna,12.5,72.5,7,3``. ``start_s`` and ``stop_s`` count from the file's start; empty ones mean its two ends.
``trial`` and a stimulus may be told by further columns.
"""

import math
import re
import unicodedata
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mtkd.config import Column, Table
from mtkd.errors import MtkdError
from mtkd.files import fingerprint
from mtkd.signals.readers.columns import ABSENT, number, parsed, ratings, read_rows
from mtkd.signals.readers.companions import all_of
from mtkd.signals.readers.raw import read_streams
from mtkd.signals.recording import File, Found, Recording, Span

_OWN = ("file", "subject", "start_s", "stop_s", "trial")
_STARTS = {"start", "starts", "onset", "begin", "begins", "from", "tmin"}
_STOPS = {"stop", "stops", "end", "ends", "to", "until", "tmax", "offset", "duration", "length"}
_BESIDE = {"s", "sec", "secs", "second", "seconds", "ms", "t", "time", "at", "trial"}
"""Words beside those in the name of a column of times; one with other words (``likely_to_end``) is none."""
_WHOLE = "are no columns of it, so that each trial is a whole file"
_LONGEST = 255
"""Bytes of a name; a file's cannot have more."""


def find(folder: Path, data: Table) -> Found:
    """The files that the table names, each with its rows.

    Raises:
        MtkdError: the table is missing or damaged, a row makes no sense, or a file has two subjects.
    """
    table = folder / data.table
    rows = read_rows(table, ",", ("file", "subject"))
    if not rows:
        raise MtkdError(f"{table}: has no rows")
    names = list(next(iter(rows.values())))
    _refuse_alike(table, names)
    rated = data.rated or _numeric(table, rows, data.stimulus)
    named = {line: _named(folder, table, row, line) for line, row in rows.items()}
    subjects: dict[str, str] = {}
    for line, (name, subject) in named.items():
        if subjects.setdefault(name, subject) != subject:
            raise MtkdError(f"{table}: line {line}: {name} is of {subject}, but also of {subjects[name]}")
    stems = _stems(subjects)
    trials: dict[str, list[dict[str, Any]]] = {name: [] for name in subjects}
    for line, row in rows.items():
        own = trials[named[line][0]]
        default = f"{stems[named[line][0]]}-{len(own) + 1}"
        own.append(_trial(table, row, line, default, rated, data.stimulus))
    for name, told in trials.items():
        _refuse_twice(table, name, told)
    whole = {} if {"start_s", "stop_s"} & set(names) else {f"{data.table}: start_s, stop_s": _WHOLE}
    files = [
        File(f"{subjects[name]}_{stems[name]}", subjects[name], all_of(folder / name), told)
        for name, told in trials.items()
    ]
    return Found(files, whole)


def read(file: File, data: Table) -> Iterator[Recording]:
    """The file as one recording with the trials of its rows.

    Raises:
        MtkdError: the file is damaged, or a trial reaches beyond it.
    """
    streams = read_streams(file.path, data, {}, {})
    duration_s = min(stream.n_times / stream.sfreq for stream in streams.values())
    spans = []
    for row in file.rows:
        start_s = row["start_s"] or 0.0
        stop_s = duration_s if row["stop_s"] is None else row["stop_s"]
        if not 0 <= start_s < stop_s <= duration_s + 1e-6:
            raise MtkdError(
                f"{file.path}: {duration_s:g} s long; {data.table} has a trial of it from {start_s:g} s to {stop_s:g} s"
            )
        spans.append(Span(row["name"], row["stimulus"], start_s, stop_s, row["ratings"]))
    yield Recording(file.subject, str(file.path), streams, spans)


def _stems(subjects: dict[str, str]) -> dict[str, str]:
    """What files and trials are called by each of the table's files: its name without ending and folders.

    Where that would be the same for two, as of ``a.edf`` and ``a.bdf``, a fingerprint of the whole name goes behind it.
    """
    stems = {name: Path(name).with_suffix("").as_posix().replace("/", "-") for name in subjects}
    keys = {name: re.sub(r"[\W_]", "-", f"{subjects[name]}-{stem}") for name, stem in stems.items()}
    counts = Counter(keys.values())
    return {
        name: stem if counts[keys[name]] == 1 else f"{stem}-{fingerprint(name)[:6]}" for name, stem in stems.items()
    }


def _refuse_alike(table: Path, names: list[str]) -> None:
    """Refuse times under another name, which would be taken for a rating, and each trial for its whole file."""
    for name in names:
        if name not in _OWN and name.lower() in _OWN:
            raise MtkdError(f"{table}: has a column {name!r}, which must be called {name.lower()!r}")
    for needed, others in (("start_s", _STARTS), ("stop_s", _STOPS)):
        alike = [name for name in names if _is_of_times(name, others)]
        if needed not in names and alike:
            raise MtkdError(f"{table}: has a column {alike[0]!r}, but times in seconds are called {needed!r}")


def _is_of_times(name: str, words: set[str]) -> bool:
    found = set(re.findall("[a-z]+", name.lower()))
    return len(found & words) == 1 and found <= words | _BESIDE


def _refuse_twice(table: Path, name: str, told: list[dict[str, Any]]) -> None:
    seen: set[tuple] = set()
    for row in told:
        cut = row["start_s"] or 0.0, row["stop_s"]
        if cut in seen:
            edges = ("its end" if edge is None else f"{edge:g} s" for edge in cut)
            raise MtkdError(f"{table}: {name} has the trial from {' to '.join(edges)} twice")
        seen.add(cut)


def _named(folder: Path, table: Path, row: dict[str, str], line: int) -> tuple[str, str]:
    """A row's file, spelled in one way, and its subject."""
    if not Path(row["file"]).name or not row["subject"]:
        raise MtkdError(f"{table}: line {line} names no file or no subject")
    for key in ("file", "subject", "trial"):
        text = row.get(key, "")
        if not text.isprintable() or len(text.encode()) > _LONGEST:
            raise MtkdError(f"{table}: line {line}: {key} is {text[:20]!r}, no name")
    path = Path(row["file"])
    if path.is_absolute() and path.is_relative_to(folder.absolute()):
        path = path.relative_to(folder.absolute())
    if path.is_absolute() or ".." in path.parts:
        raise MtkdError(f"{table}: line {line}: the file {row['file']!r} lies outside {folder}")
    return path.as_posix(), unicodedata.normalize("NFC", row["subject"])


def _numeric(table: Path, rows: dict[int, dict[str, str]], stimulus: str | None) -> dict[str, Column]:
    """All further columns that hold numbers throughout; infinity is refused later on, by its row.

    Raises:
        MtkdError: one holds numbers for the most part: it would be left out for the sake of a few cells.
    """
    found = {}
    for name in next(iter(rows.values())):
        if not name or name in _OWN or name == stimulus:
            continue
        told = {line: row[name] for line, row in rows.items() if row[name] not in ABSENT}
        words = [line for line, text in told.items() if math.isnan(parsed(text))]
        if not words:
            found[name] = Column(column=name)
        elif 2 * len(words) < len(told):
            raise MtkdError(
                f"{table}: line {words[0]}: {name} is {told[words[0]]!r}, but a number in most rows; "
                "data.ratings says which columns are ratings"
            )
    return found


def _trial(
    table: Path, row: dict[str, str], line: int, default: str, rated: dict[str, Column], stimulus: str | None
) -> dict[str, Any]:
    where = f"line {line}"
    if stimulus is not None and stimulus not in row:
        raise MtkdError(f"{table}: has no column {stimulus!r}, which data.stimulus names")
    name = row.get("trial") or default
    start_s, stop_s = (number(table, row, key, where) for key in ("start_s", "stop_s"))
    if stop_s is not None and stop_s <= (start_s or 0.0):
        raise MtkdError(f"{table}: {where}: stop_s = {stop_s:g} is not after start_s = {start_s or 0.0:g}")
    return {
        "name": name,
        "stimulus": row[stimulus] if stimulus else name,
        "start_s": start_s,
        "stop_s": stop_s,
        "ratings": ratings(table, row, rated, where),
    }
