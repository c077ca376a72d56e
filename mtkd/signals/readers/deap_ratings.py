"""DEAP's ``participant_ratings.csv``: what each participant was shown, in which order, and what was felt."""

import math
from pathlib import Path
from typing import Any

from mtkd.errors import MtkdError
from mtkd.signals.readers.columns import ABSENT, number, parsed, read_rows

TABLE = "participant_ratings.csv"
_COLUMNS = {"valence": 9, "arousal": 9, "dominance": 9, "liking": 9, "familiarity": 5}
"""Ratings go from 1 to these; familiarity was not asked of all."""
_MOST = 40
"""So many videos there are, and a trial of each; participants are fewer."""


def named(video: int) -> tuple[str, str]:
    """Name and stimulus of the trial that shows a video."""
    return f"t{video:02d}", f"video-{video:02d}"


def rated(path: Path, participant: int) -> list[dict[str, Any]]:
    """What a participant's trials show and how they were rated, in the order of their presentation.

    Raises:
        MtkdError: the table is not where DEAP's folders have it, or is damaged.
    """
    parents = (path.parent, path.parent.parent)
    places = [parent / name for parent in parents for name in ("", "metadata_csv", "Metadata", "metadata")]
    table = next((place / TABLE for place in places if (place / TABLE).is_file()), None)
    if table is None:
        raise MtkdError(f"{path}: no {TABLE} beside it, nor in metadata_csv/, so its videos are unknown")
    rows = [_row(table, row) for row in read_rows(table, ",", ()).values()]
    if not any(row["participant"] == participant for row in rows):
        raise MtkdError(f"{table}: has no trial of participant {participant}, as {path.name} is")
    own = sorted((row for row in rows if row["participant"] == participant), key=lambda row: row["trial"])
    videos = [row["video"] for row in own]
    if [row["trial"] for row in own] != [*range(1, len(own) + 1)] or len(set(videos)) < len(videos):
        raise MtkdError(f"{table}: the trials of participant {participant} are not 1, 2, 3, each of another video")
    return own


def _number(text: str) -> float:
    value = parsed(text)
    if math.isnan(value):
        raise ValueError(f"{text!r} is no number")
    return value


def _whole(text: str) -> int:
    value = _number(text)
    if not (value.is_integer() and 1 <= value <= _MOST):
        raise ValueError(f"{text!r} is no number from 1 to {_MOST}")
    return int(value)


def _row(table: Path, row: dict[str, str]) -> dict[str, Any]:
    lower = {key.lower(): value for key, value in row.items()}
    if len(lower) < len(row):
        raise MtkdError(f"{table}: two columns share a name")
    try:
        keys = {"participant": "participant_id", "trial": "trial", "video": "experiment_id"}
        numbers = {name: _whole(lower[key]) for name, key in keys.items()}
        ratings = {name: _number(lower[name]) for name in _COLUMNS if lower.get(name, "") not in ABSENT}
    except KeyError as error:
        raise MtkdError(f"{table}: its first line names no column {error}; commas stand between columns") from None
    except ValueError as error:
        raise MtkdError(f"{table}: a row without numbers where DEAP has them ({error})") from None
    for name, value in ratings.items():
        if not 1 <= value <= _COLUMNS[name]:
            raise MtkdError(f"{table}: {name} of {value:g}, expected 1 to {_COLUMNS[name]}")
    microseconds = number(table, lower, "start_time", "a row")
    return {**numbers, "start_s": None if microseconds is None else microseconds / 1e6, "ratings": ratings}
