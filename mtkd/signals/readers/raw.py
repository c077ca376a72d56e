"""Any file MNE can read as streams: one for each modality, at its own rate, read piece by piece."""

import glob
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType

import mne
import numpy as np
from jaxtyping import Float

from mtkd.config import Kind, Modality, Source
from mtkd.errors import MtkdError, one_line
from mtkd.signals.channels import KNOWN, UNIT, VOLTS, first_pattern, plain_name, to_si, type_channels
from mtkd.signals.montage import electrode
from mtkd.signals.readers.edf_header import ANNOTATIONS, Header, Signal, read_header
from mtkd.signals.readers.formats import Bad, Row, bads, breaks, open_raw, rows_of_header, rows_of_raw
from mtkd.signals.readers.names import Names, names_of, renames
from mtkd.signals.recording import Stream

CLIPPED_S = 0.02
"""A converter that gives its outermost value for so long, and for three samples, is at its end."""
CLIPPED_SLOW_S: dict[Modality, float] = {"resp": 0.2, "eda": 2.0, "temp": 10.0}
"""The same for slow signals: where a file's range is that of its data, their highest value lasts."""
_NO_BREAK = "\xa0"
"""A blank that some recorders fill names with."""
RENAME = "predict.channels={ITS NAME: THE STUDY'S NAME} tells a channel that it calls by another name"


@dataclass(frozen=True)
class Channel:
    """One of the file's rows, or the difference of two, in ``unit`` once each is multiplied with its gain."""

    name: str
    kind: Modality
    rows: tuple[str, ...]
    unit: str
    gains: tuple[float, ...] = (1.0, 1.0)


@dataclass(frozen=True)
class _Reader:
    """Reads channels of one modality. ``ends`` are the values beyond which a row is at its converter's end.

    ``lost`` are samples, from the first to before the last, that are none: of gaps, beside joints, and what the file
    calls bad, perhaps of some rows alone.
    """

    raw: mne.io.BaseRaw
    channels: list[Channel]
    ends: dict[str, tuple[float, float]]
    lost: list[tuple[int, int, tuple[str, ...]]]
    source: str

    def __call__(self, start: int, stop: int) -> Float[np.ndarray, "n_chans n_times"]:
        rows = list(dict.fromkeys(row for channel in self.channels for row in channel.rows))
        clipped_s = CLIPPED_SLOW_S.get(self.channels[0].kind, CLIPPED_S)
        n_still = max(3, round(clipped_s * self.raw.info["sfreq"]))
        before = min(n_still - 1, start)  # a converter may be at its end already
        try:
            picks = [self.raw.ch_names.index(row) for row in rows]  # a name such as "ecg" is a type to MNE
            values = self.raw.get_data(picks, start - before, stop)
            for first, last, of in self.lost:
                own = [row in (of or rows) for row in rows]
                values[own, max(0, first - start + before) : max(0, last - start + before)] = np.nan
        except Exception as error:  # MNE's readers raise nearly anything on foreign bytes
            raise MtkdError(f"{self.source}: damaged ({type(error).__name__}: {one_line(error)})") from None
        whole = {row: _unclipped(values[i], self.ends[row], n_still)[before:] for i, row in enumerate(rows)}
        return np.stack([self._channel(channel, [whole[row] for row in channel.rows]) for channel in self.channels])

    def _channel(self, channel: Channel, rows: list[np.ndarray]) -> np.ndarray:
        first, *second = (row * gain for row, gain in zip(rows, channel.gains, strict=False))
        return to_si(first - second[0] if second else first, channel.kind, channel.unit, self.source)


def read_streams(
    path: Path,
    data: Source,
    own: Mapping[str, Kind],
    names: Mapping[str, str],
    left_out: Mapping[str, str] = MappingProxyType({}),
    hint: str = "",
    needed: bool = True,
) -> dict[Modality, Stream]:
    """The channels of a file that a study, or the reader by ``own`` patterns, gives a modality.

    ``names`` renames some of the file's. ``left_out`` are those of no use, by our names, with the reason, as are those
    that the file calls bad; one that the study names in ``channels`` is taken nevertheless. ``hint`` ends the sentence
    on a file with none of the channels, of which at least one is ``needed``.

    Raises:
        MtkdError: the file is missing, damaged, truncated, has no channel to rename by ``names``, one that no pattern
            names, or one in a unit that is none of its modality's.
    """
    if not path.is_file():
        raise MtkdError(f"{path}: no such file")
    header = read_header(path) if path.suffix.lower() in {".edf", ".bdf"} else None
    raw = None if header else open_raw(path)
    rows = rows_of_header(header) if header else rows_of_raw(path, raw)
    if not all(name.replace(_NO_BREAK, " ").isprintable() for name in rows):
        raise MtkdError(f"{path}: damaged or foreign file, the name of a channel is no text")
    bads = dict.fromkeys(raw.info["bads"] if raw else [], "its file calls it bad")
    called = renames(rows, data, names)
    left_out = {**{called.get(name, name): why for name, why in bads.items()}, **left_out}
    asked = names_of(path, rows, data, names, left_out)
    channels = _channels(path, header, data, own, rows, asked)
    if needed and not channels:
        has = ", ".join([*(name for name in rows if asked.ours[name] not in asked.left_out), *_told(asked.left_out)])
        raise MtkdError(f"{path}: no channel is left that the study asks for; it has {has}{hint}")
    kinds = list(dict.fromkeys(channel.kind for channel in channels))
    streams = {kind: _stream(path, header, raw, [c for c in channels if c.kind == kind], rows) for kind in kinds}
    return {
        kind: replace(stream, left_out={**asked.left_out, **stream.left_out}, unheard=asked.unheard)
        for kind, stream in streams.items()
    }


def _told(left_out: Mapping[str, str]) -> list[str]:
    return [f"{name} ({why})" for name, why in left_out.items()]


def units_in(path: Path) -> dict[str, str]:
    """What a file says of its channels' units, the empty text where it says nothing; none of formats that have none.

    Raises:
        MtkdError: it is damaged.
    """
    if path.suffix.lower() not in {".edf", ".bdf", ".vhdr"}:
        return {}
    return {name: row.unit for name, row in described(path)[0].items() if row.unit is not None}


def described(path: Path) -> tuple[dict[str, Row], float]:
    """A file's channels, whatever a study makes of them, and how long it is in seconds.

    Raises:
        MtkdError: it is damaged.
    """
    if path.suffix.lower() in {".edf", ".bdf"}:
        header = read_header(path)
        return rows_of_header(header), header.n_records * header.record_s
    raw = open_raw(path)
    return rows_of_raw(path, raw), raw.n_times / float(raw.info["sfreq"])


def _channels(
    path: Path,
    header: Header | None,
    data: Source,
    own: Mapping[str, Kind],
    has: dict[str, Row],
    asked: Names,
) -> list[Channel]:
    used = {row for pair in asked.bipolar.values() for row in pair}
    rows: dict[str, tuple[str, ...]] = {asked.ours[name]: (name,) for name in has if name not in used}
    if both := sorted(rows.keys() & asked.bipolar.keys()):
        raise MtkdError(f"{path}: has a channel {both[0]!r} already, which data.bipolar would make")
    rows |= asked.bipolar
    patterns = {**asked.kinds, **own, **asked.kinds}  # the study's go first, and count where the reader has the same
    typed = type_channels(list(rows), patterns, str(path))
    if header is not None:
        _refuse_twins(path, header, {name: typed.get(asked.ours[name], "eeg") for name in has})
    if data.asks_for("eeg"):
        of_file = {name: has[row[0]].kind for name, row in rows.items()}
        told = {name: str(kind) for name in rows if (kind := own.get(glob.escape(name), "eeg")) != "eeg"}
        _refuse_caught(path, patterns, typed, of_file | told)
    channels = [
        _channel(path, Channel(_name(name, kind), kind, rows[name], ""), has, asked.units)
        for name, kind in typed.items()
        if kind != "ignore" and data.asks_for(kind)
    ]
    if any(not channel.name for channel in channels):
        raise MtkdError(f"{path}: a channel of {', '.join({c.kind for c in channels if not c.name})} has no name")
    for channel in channels:
        alike = (each for each in channels if (each.kind, each.name) == (channel.kind, channel.name))
        if twins := [other.rows[0] for other in alike if other is not channel]:
            raise MtkdError(f"{path}: two channels share a name: {channel.rows[0]!r} and {twins[0]!r}")
    return channels


def _name(name: str, kind: Kind) -> str:
    """What a channel is called from here on."""
    plain = plain_name(name.strip())
    return electrode(plain) if kind == "eeg" else plain


def _refuse_caught(path: Path, patterns: Mapping[str, Kind], typed: dict[str, Kind], said: dict[str, str]) -> None:
    """Refuse as electrodes what only a pattern for all the rest takes for such, and the file for something else."""
    caught = [
        f"{name} ({said[name]})"
        for name, kind in typed.items()
        if kind == "eeg" and said[name] != "eeg" and not str(first_pattern(name, patterns)).strip("*?")
    ]
    if caught:
        raise MtkdError(
            f"{path}: data.channels makes electrodes of {', '.join(caught)}, which the file says are none; "
            "name what they are, or ignore them"
        )


def _refuse_twins(path: Path, header: Header, typed: dict[str, Kind]) -> None:
    """Refuse channels of one name, of which MNE would number one, where they are not to be ignored."""
    names = [signal.name for signal in header.signals]
    for name in sorted({name for name in names if names.count(name) > 1} - ANNOTATIONS):
        if typed[name] != "ignore":
            raise MtkdError(f"{path}: two channels share a name, {name!r}")


def _channel(path: Path, channel: Channel, has: dict[str, Row], corrected: Mapping[str, str]) -> Channel:
    """The channel with its unit: MNE turns some to SI units, which ``corrected`` says to have been others.

    Of two channels it may have turned one alone.
    """
    kind = channel.kind
    _refuse_masked(path, channel, has)
    units = [has[row].unit for row in channel.rows]
    said = [corrected.get(row, _unit(has[row], kind)) for row in channel.rows]
    for row, unit in zip(channel.rows, said, strict=True):
        if unit not in KNOWN.get(kind, {unit}):
            told = ", ".join(known for known in KNOWN[kind] if known)
            raise MtkdError(f"{path}: {row} is in the unit {unit!r}; known of {kind} are {told} (data.units)")
        if unit != said[0]:
            raise MtkdError(f"{path}: {' and '.join(channel.rows)} are in different units")
    if corrected.keys() & set(channel.rows) or len({has[row].scale for row in channel.rows}) > 1:
        return replace(channel, unit=said[0], gains=tuple(1 / has[row].scale for row in channel.rows))
    return replace(channel, unit=said[0] if units[0] is None else has[channel.rows[0]].si_unit)


def _refuse_masked(path: Path, channel: Channel, has: dict[str, Row]) -> None:
    """Refuse what MNE gives as triggers, whatever the study calls it."""
    if masked := [row for row in channel.rows if has[row].is_masked]:
        raise MtkdError(
            f"{path}: {masked[0]} can be no {channel.kind}: in a file of this format, what is called so is read as "
            "triggers, neither whole nor in its unit; ignore it, or call it something else in the file"
        )


def _unit(row: Row, kind: Modality) -> str:
    """What a file says of a channel's unit, or what its format leaves to be said."""
    if row.unit is not None:
        return row.unit
    return "V" if row.is_volts and UNIT[kind] == "a.u." else UNIT[kind]


def _stream(
    path: Path, header: Header | None, raw: mne.io.BaseRaw | None, channels: list[Channel], has: dict[str, Row]
) -> Stream:
    rows = list(dict.fromkeys(row for channel in channels for row in channel.rows))
    found = sorted({has[row].sfreq for row in rows})
    if len(found) > 1:
        told = " and ".join(f"{rate:g}" for rate in found)
        raise MtkdError(f"{path}: its channels of {channels[0].kind} are sampled at {told} Hz, not at one rate")
    raw = open_raw(path, rows) if raw is None else raw
    ends = dict.fromkeys(rows, (-np.inf, np.inf))
    if header is not None:
        ends |= {signal.name: _ends(signal) for signal in header.signals if signal.name in rows}
    joints = [] if header else breaks(raw)
    of_file = [signal.name for signal in header.signals] if header else raw.ch_names
    bad = [each for each in bads(raw, of_file) if not each.ch_names or set(rows) & set(each.ch_names)]
    lost = [*((first, last, ()) for first, last in joints), *((each.first, each.last, each.ch_names) for each in bad)]
    reader, names = _Reader(raw, channels, ends, lost, str(path)), [channel.name for channel in channels]
    where = tuple(start for start, _ in joints)
    return Stream(names, found[0], int(raw.n_times), reader, _told_bad(bad, channels[0].kind, found[0]), joints=where)


def _told_bad(bad: list[Bad], kind: Modality, sfreq: float) -> dict[str, str]:
    """How much of a modality a file calls bad, and by which words."""
    if not bad:
        return {}
    covered = np.unique(np.concatenate([np.arange(each.first, each.last) for each in bad]))
    said = ", ".join(sorted({each.said for each in bad}))
    return {f"{len(covered) / sfreq:.4g} s of {kind}": f"its annotations call them bad ({said})"}


def _ends(signal: Signal) -> tuple[float, float]:
    """Half a step inside the converter's range, in what MNE gives."""
    scale = VOLTS.get(signal.unit, 1.0)
    low, high = sorted((signal.low, signal.high))
    half = abs(signal.step) / 2
    return (low + half) * scale, (high - half) * scale


def _unclipped(values: Float[np.ndarray, " n_times"], ends: tuple[float, float], n: int) -> np.ndarray:
    """NaN from the ``n``-th sample on that a converter stays at its end: nobody can know it earlier."""
    at_end = (values <= ends[0]) | (values >= ends[1])
    if not at_end.any():
        return values
    run = np.cumsum(at_end)
    since: np.ndarray = run - np.maximum.accumulate(np.where(at_end, 0, run))  # samples in a row up to each one
    return np.where(since >= n, np.nan, values)
