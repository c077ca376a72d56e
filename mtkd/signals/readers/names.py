"""What a study calls the channels of one file: renamed, subtracted, left out, in other units than the file says."""

import glob
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from mtkd.config import Kind, Source
from mtkd.errors import MtkdError


@dataclass(frozen=True)
class Names:
    """``ours`` is what each of the file's channels is called here; the rest is of those it has, in its own names.

    ``kinds`` are the study's patterns, by our names. ``left_out`` tells of channels of no use, by our names.
    ``unheard`` are the keys of the study that no channel of this file answers to; another's may.
    """

    ours: dict[str, str]
    bipolar: dict[str, tuple[str, str]]
    units: dict[str, str]
    kinds: dict[str, Kind]
    left_out: dict[str, str]
    unheard: frozenset[str]


def names_of(
    path: Path, has: Collection[str], data: Source, more: Mapping[str, str], left_out: Mapping[str, str]
) -> Names:
    """How a study takes the channels that a file has. Where it names one, its own name goes as well as ours.

    ``more`` renames some of them, too. One of ``left_out``, which are by our names, is taken all the same where
    ``data.channels`` gives its very name a modality, unless that is the name of a difference.

    Raises:
        MtkdError: there is no channel to rename by ``more``, two would share a name, or a difference is of one.
    """
    ours = _renamed(path, has, renames(has, data, more))
    theirs = {name: own for own, name in ours.items()}
    pairs = {name: (theirs.get(a, a), theirs.get(b, b)) for name, (a, b) in data.bipolar.items()}
    for name, (first, second) in pairs.items():
        if first == second:
            raise MtkdError(f"{path}: data.bipolar: {name} would be the difference of {first!r} and itself")
    bipolar = {name: pair for name, pair in pairs.items() if set(pair) <= set(has)}
    units = of_file(data.units, theirs, has)
    halves = _halves(pairs, bipolar, set(has) - set(more))
    reasons = {**{ours[row]: why for row, why in halves.items()}, **left_out}
    bads = {name: why for name, why in reasons.items() if name in data.bipolar or not _is_wanted(name, data)}
    made = {
        name: f"is made of {row}, and {reasons[ours[row]]}"
        for name, pair in bipolar.items()
        for row in pair
        if ours[row] in bads
    }
    out = bads | made
    kept = {pattern: kind for pattern, kind in data.channels.items() if pattern not in {*out, *map(glob.escape, out)}}
    return Names(
        ours=ours,
        bipolar=bipolar,
        units=units,
        kinds={**dict.fromkeys(map(glob.escape, out), "ignore"), **kept},
        left_out=out,
        unheard=unheard(data, {*has, *theirs}, bipolar),
    )


def of_file(said: Mapping[str, str], theirs: Mapping[str, str], has: Collection[str]) -> dict[str, str]:
    """What is said of channels that a file has, by its own names. Where both names are told of, its own goes before."""
    ours = {theirs.get(name, name): value for name, value in said.items()}
    return {name: said.get(name, ours[name]) for name in has if name in said or name in ours}


def renames(has: Collection[str], data: Source, more: Mapping[str, str]) -> dict[str, str]:
    """New names of channels that a file has, by its own; all of ``more``, which may be of some that it has not."""
    return {theirs: ours for theirs, ours in data.rename.items() if theirs in has} | dict(more)


def _is_wanted(name: str, data: Source) -> bool:
    """Whether the study gives this very channel a modality, and not by a pattern."""
    return any(data.channels.get(key, "ignore") != "ignore" for key in (name, glob.escape(name)))


def _halves(
    pairs: Mapping[str, tuple[str, str]], whole: Mapping[str, tuple[str, str]], has: Collection[str]
) -> dict[str, str]:
    """Channels of differences that lack the other one, with the reason: alone they are something else.

    Not one that was named for this very file: who names it knows what it is.
    """
    used = {row for pair in whole.values() for row in pair}
    return {
        row: f"is half of {name}, and there is no {other}"
        for name, pair in pairs.items()
        if name not in whole
        for row, other in (pair, pair[::-1])
        if row in has and row not in used
    }


def unheard(data: Source, has: Collection[str], bipolar: Collection[str] = ()) -> frozenset[str]:
    """The keys of ``data`` that name no channel of ``has``, as ``data.units: Skin``."""
    absent = [f"data.{key}: {name}" for key in ("rename", "units") for name in getattr(data, key) if name not in has]
    return frozenset([*absent, *(f"data.bipolar: {name}" for name in data.bipolar if name not in bipolar)])


def _renamed(path: Path, has: Collection[str], renames: Mapping[str, str]) -> dict[str, str]:
    """What each of the file's channels is called here."""
    told = ", ".join(has)
    called: dict[str, str] = {}
    for theirs, ours in renames.items():
        if theirs == ours:
            continue
        if theirs not in has:
            raise MtkdError(f"{path}: has no channel {theirs!r} that could be renamed {ours!r}; it has {told}")
        if ours in has:
            raise MtkdError(
                f"{path}: cannot rename its channel {theirs!r} {ours!r}, of which it has one; it has {told}"
            )
        if called.setdefault(ours, theirs) != theirs:
            raise MtkdError(f"{path}: cannot rename both {called[ours]!r} and {theirs!r} {ours!r}; it has {told}")
    return {name: renames.get(name, name) for name in has}
