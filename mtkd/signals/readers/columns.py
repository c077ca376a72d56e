"""Tables of trials: rows of text, and what their columns say of a trial."""

import csv
import itertools
import math
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mtkd.config import Column
from mtkd.errors import MtkdError, one_line

ABSENT = ("", "n/a", "N/A", "NA", "NaN", "nan", "null", "NULL", "None")
_MAX_BYTES, _MAX_ROWS, _MAX_COLUMNS, _MAX_TOLD = 2**26, 200_000, 2000, 300


def read_rows(path: Path, delimiter: str, needed: tuple[str, ...]) -> dict[int, dict[str, str]]:
    """The rows of a table with a line of names, as text, by the line each begins in; those without any text are none.

    Raises:
        MtkdError: the file is missing or no such table, or lacks a column that is needed.
    """
    names, rows = _cells(path, delimiter)
    _check_names(path, names, needed, {",": "commas", "\t": "tabs"}[delimiter])
    filled = {line: row for line, row in rows if any(cell.strip() for cell in row)}
    for line, row in filled.items():
        while len(row) > len(names) and not row[-1].strip():  # a delimiter at the end
            row.pop()
        if len(row) != len(names):
            raise MtkdError(f"{path}: line {line} has {len(row)} cells, its first line {len(names)}")
    return {line: dict(zip(names, (cell.strip() for cell in row), strict=True)) for line, row in filled.items()}


def _cells(path: Path, delimiter: str) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """The line of names, and the rows."""
    if not path.is_file():
        raise MtkdError(f"{path}: no such file")
    if path.stat().st_size > _MAX_BYTES:
        raise MtkdError(f"{path}: {path.stat().st_size} bytes, larger than any table of trials")
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file, delimiter=delimiter, strict=True)
            first = next((row for row in reader if any(cell.strip() for cell in row)), [])
            names = [name.strip() for name in first]
            rows = list(_by_line(reader, _MAX_ROWS + 1))
            for line, row in rows:
                if delimiter == "\t" and any("\n" in cell for cell in row):  # no such cell is meant, and rows vanish
                    raise MtkdError(f"{path}: line {line} has a quote that ends in another line")
    except (csv.Error, UnicodeDecodeError) as error:
        raise MtkdError(f"{path}: no table of text in UTF-8 ({one_line(error)})") from None
    if len(names) > _MAX_COLUMNS or len(rows) > _MAX_ROWS:
        raise MtkdError(
            f"{path}: more than {_MAX_COLUMNS} columns or {_MAX_ROWS} rows, larger than any table of trials"
        )
    return names, rows


def _check_names(path: Path, names: list[str], needed: tuple[str, ...], apart: str) -> None:
    if strange := [name for name in names if not name.isprintable()]:
        raise MtkdError(f"{path}: no table (a column is called {strange[0][:20]!r}; {apart} stand between columns)")
    counts = Counter(names)
    for name in [*needed, *filter(None, names)]:
        if not counts[name]:
            known = ", ".join(names) if len(names) > 1 else f"one column only; {apart} stand between columns"
            raise MtkdError(f"{path}: its first line names no column {name!r}, but {known[:_MAX_TOLD]}")
        if counts[name] > 1:
            raise MtkdError(f"{path}: {counts[name]} columns are called {name!r}, one is needed")


def _by_line(reader: Any, most: int) -> Iterator[tuple[int, list[str]]]:
    """Rows with the line each begins in: a quoted cell may go over several."""
    line = reader.line_num + 1
    for row in itertools.islice(reader, most):
        yield line, row
        line = reader.line_num + 1


def number(path: Path, row: Mapping[str, str], name: str, where: str) -> float | None:
    """A cell as a number; None where it is empty.

    Raises:
        MtkdError: it holds something else.
    """
    text = row.get(name, "")
    if text in ABSENT:
        return None
    value = parsed(text)
    if not abs(value) < 1e12:
        raise MtkdError(f"{path}: {where}: {name} is {text!r}, no number")
    return value


def parsed(text: str) -> float:
    """A number that stands in a table, NaN for any other text; ``1_0`` is ten to Python alone."""
    try:
        return float("nan" if "_" in text else text)
    except ValueError:
        return float("nan")


def ratings(path: Path, row: Mapping[str, str], rated: Mapping[str, Column], where: str) -> dict[str, float]:
    """What the columns of the ratings say; those that are empty are left out.

    Raises:
        MtkdError: a column is missing, or holds a word without a level, no number where none has one, or one that is
            out of range.
    """
    found = {}
    for name, column in rated.items():
        if column.column not in row:
            raise MtkdError(f"{path}: has no column {column.column!r}, which data.ratings.{name} names")
        text = row[column.column]
        if text in column.absent:
            continue
        if text in column.levels:
            found[name] = column.levels[text]
        elif column.levels and text not in ABSENT:
            known = ", ".join(column.levels)
            raise MtkdError(f"{path}: {where}: {column.column} is {text!r}; data.ratings.{name}.levels knows {known}")
        elif (value := number(path, row, column.column, where)) is not None:
            found[name] = value
        low, high = column.range or (-math.inf, math.inf)
        if not low <= found.get(name, low) <= high:
            told = f"not within data.ratings.{name}.range"
            raise MtkdError(f"{path}: {where}: {column.column} is {text!r}, {told} = [{low:g}, {high:g}]")
    return found
