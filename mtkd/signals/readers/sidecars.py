"""Which tables and descriptions of a BIDS data set hold for a recording: the specification's inheritance principle."""

import json
import os
from pathlib import Path
from typing import Any

from mtkd.errors import MtkdError, one_line


def sidecars(recording: Path, root: Path, ending: str) -> list[Path]:
    """Files called ``ending`` (``events.tsv``) that hold for a recording, from the general to the particular.

    They lie between the data set's root and the recording's folder, and their names have no entity that the
    recording's has not: the events of ``run-2`` are none of a recording without a run.
    """
    own = _entities(recording.name)
    found = []
    for folder in reversed([recording.parent, *recording.parent.parents]):
        if folder.is_relative_to(root):
            near = (*folder.glob(f"*_{ending}"), folder / ending)
            fitting = [path for path in near if _entities(path.name) <= own and is_there(path)]
            found += sorted(fitting, key=lambda path: (len(_entities(path.name)), path.name))
    return found


def is_there(path: Path) -> bool:
    """Whether there is such a file.

    Raises:
        MtkdError: its name is there and no file, as where git-annex has not yet fetched what a link leads to.
    """
    if os.path.lexists(path) and not path.is_file():
        raise MtkdError(f"{path}: is no file, or a link to one that was not fetched")
    return path.is_file()


def nearest(recording: Path, root: Path, ending: str) -> Path | None:
    """The one that is nearest to a recording, which stands for all others; None where there is none.

    Raises:
        MtkdError: two are equally near.
    """
    found = sidecars(recording, root, ending)
    alike = [path for path in found if _nearness(path) == _nearness(found[-1])]
    if len(alike) > 1:
        raise MtkdError(f"{recording}: both {alike[0].name} and {alike[1].name} could be its {ending}")
    return found[-1] if found else None


def description(recording: Path, root: Path, ending: str) -> dict[str, Any]:
    """What all files called ``ending`` (``eeg.json``) say that hold for a recording; the particular goes first.

    Raises:
        MtkdError: one is no JSON.
    """
    said: dict[str, Any] = {}
    for path in sidecars(recording, root, ending):
        said |= _read_json(path)
    return said


def _read_json(path: Path) -> dict[str, Any]:
    try:
        if path.stat().st_size > 2**20:
            raise ValueError("larger than any description")
        said = json.loads(path.read_text(encoding="utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise MtkdError(f"{path}: no JSON ({one_line(error)})") from None
    return said if isinstance(said, dict) else {}


def _nearness(path: Path) -> tuple[Path, int]:
    return path.parent, len(_entities(path.name))


def root_of(recording: Path) -> Path:
    """The data set that a recording is part of: the nearest folder that says it is one, or its own."""
    parents = recording.parent.parents
    return next(
        (folder for folder in (recording.parent, *parents) if (folder / "dataset_description.json").is_file()),
        recording.parent,
    )


def _entities(name: str) -> set[str]:
    return set(name.split("_")[:-1])
