"""The header of an EDF or BDF file as it stands there, and a BDF's Status channel.

MNE forgets units it does not know, takes a file that is shorter than it says, and joins what is not continuous; so each
file is looked at here before MNE opens it.
"""

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int, UInt8

from mtkd.errors import MtkdError

_FIELDS = {"name": 16, "transducer": 80, "unit": 8, "low": 8, "high": 8, "digital_low": 8, "digital_high": 8}
_SHIFT_JIS_MICRO = "\x83\xca"  # as Japanese recorders write it, and MNE reads it
ANNOTATIONS = {"EDF Annotations", "BDF Annotations"}
_ONSET = re.compile(rb"([+-]\d{1,9}(?:\.\d{0,9})?)\x14\x14")
_ONSET_BYTES = 24
_LATE_S, _DRIFT = 1.0, 0.01
"""Times may be rounded to whole seconds, or be those of another clock."""
_STEP_S, _NEAR = 0.15, 8
"""Where they are not rounded so coarsely, so many records that are all so much later than as many before them tell of a
gap. It is more than a tenth of a second, to which some recorders round.
"""
_WHOLE = 0.95
"""Among the last records, too few for that, the first that is late by so much of a record tells that one is missing."""
_EXACT_S = 1e-3
"""Recordings with gaps tell times by which to find them; so little is rounding."""


@dataclass(frozen=True)
class Signal:
    """One channel: its range in its own unit and in the converter's steps, and its samples in each record."""

    name: str
    unit: str
    low: float
    high: float
    digital_low: float
    digital_high: float
    n_samples: int

    @property
    def step(self) -> float:
        """What the converter's smallest step is, in the channel's unit."""
        return (self.high - self.low) / (self.digital_high - self.digital_low)


@dataclass(frozen=True)
class Header:
    """What the file says of itself; ``record_s`` is the length of a record in seconds."""

    path: Path
    sample_bytes: int
    n_bytes: int
    n_records: int
    record_s: float
    signals: list[Signal]

    def sfreq(self, signal: Signal) -> float:
        """Sampling rate in hertz. Divided as it is written: 175 samples in 0.7 s would be 250.00000000000003 Hz."""
        return float(signal.n_samples / Fraction(repr(self.record_s)))

    def low_bytes(self, index: int) -> UInt8[np.ndarray, " n_times"]:
        """The lowest byte of every sample of one channel: what a BDF's Status says once it is masked with 0xFF."""
        size = self.signals[index].n_samples * self.sample_bytes
        content = b"".join(self.pieces(index, size))
        if len(content) < size * self.n_records:
            raise MtkdError(f"{self.path}: truncated while it was read")
        return np.frombuffer(content, np.uint8)[:: self.sample_bytes]

    def pieces(self, index: int, most: int) -> Iterator[bytes]:
        """The first bytes of one channel in each record."""
        record = sum(signal.n_samples for signal in self.signals) * self.sample_bytes
        before = sum(signal.n_samples for signal in self.signals[:index]) * self.sample_bytes
        size = min(most, self.signals[index].n_samples * self.sample_bytes)
        with self.path.open("rb", buffering=0) as file:  # not mapped: a file cut meanwhile would end the process
            for start in range(self.n_bytes + before, self.n_bytes + self.n_records * record, record):
                yield os.pread(file.fileno(), size, start)


def read_header(path: Path) -> Header:
    """The header of an EDF or BDF file.

    Raises:
        MtkdError: it makes no sense, is of the other kind, tells of gaps, or promises more or less than the file holds.
    """
    with path.open("rb") as file:
        fixed = file.read(256)
        kind = "BDF" if fixed[:1] == b"\xff" else "EDF"
        if path.suffix.lower() != f".{kind.lower()}":  # MNE goes by the name
            raise MtkdError(f"{path}: {kind} by its content, so its name must end with .{kind.lower()}")
        try:
            header = _parse(path, fixed, file.read(256 * 4096), 3 if kind == "BDF" else 2)
        except ValueError:
            raise MtkdError(f"{path}: not an EDF or BDF file, its header makes no sense") from None
    record = sum(signal.n_samples for signal in header.signals) * header.sample_bytes
    expected, size = header.n_bytes + header.n_records * record, path.stat().st_size
    if size < expected:
        raise MtkdError(f"{path}: truncated, {size} bytes of the {expected} its header promises")
    if size >= expected + record:  # MNE would take them for signal, and times from the end would be others
        n_more = (size - expected) // record
        raise MtkdError(f"{path}: holds {n_more} records more than the {header.n_records} its header promises")
    if fixed[192:197] in (b"EDF+C", b"BDF+C"):
        _refuse_gaps(header)
    elif fixed[192:197] in (b"EDF+D", b"BDF+D"):
        _refuse_any_gap(header, f"{kind}+D")
    return header


def _refuse_gaps(header: Header) -> None:
    """Hold the time that each record tells of itself against its place, which is all that MNE goes by.

    Only a record that comes too late tells of a gap: some recorders round, or tell no time at all.

    Raises:
        MtkdError: one does.
    """
    records, onsets = _onsets(header)
    if not len(records):
        return
    places_s = records * header.record_s
    late_s = onsets - onsets[0] - (places_s - places_s[0])
    steps = np.diff(late_s, prepend=0.0)
    wrong = (steps > _LATE_S) | (late_s > _LATE_S + _DRIFT * places_s)
    if float(header.record_s).is_integer() or not (onsets % 1 == 0).all():
        # another clock is late by little with each record, and never by a step, however much that adds up to
        wrong |= _stays(late_s, header.record_s) > _STEP_S + _DRIFT * np.diff(places_s, prepend=places_s[0])
    if wrong.any():
        index = int(wrong.argmax())
        raise MtkdError(
            f"{header.path}: record {records[index] + 1} begins {late_s[index]:.1f} s later than its place in the "
            "file: a recording with gaps, which would be closed"
        )


def _refuse_any_gap(header: Header, kind: str) -> None:
    """Of a recording that may have gaps, take one in which each record tells that it begins where the last one ends.

    Raises:
        MtkdError: one does not.
    """
    records, onsets = _onsets(header)
    places_s = records * header.record_s
    wrong = np.abs(onsets - onsets[:1] - places_s) > _EXACT_S
    if len(records) < header.n_records or wrong.any():
        told = f"record {records[wrong][0] + 1} begins elsewhere" if wrong.any() else "not every record tells its time"
        raise MtkdError(f"{header.path}: a discontinuous recording ({kind}), whose gaps would be closed: {told}")


def _onsets(header: Header) -> tuple[Int[np.ndarray, " record"], Float[np.ndarray, " record"]]:
    """The records that tell when they begin, and what they tell, seconds."""
    rows = [index for index, signal in enumerate(header.signals) if signal.name in ANNOTATIONS]
    texts = header.pieces(rows[0], _ONSET_BYTES) if rows else ()
    told = [(number, float(onset[1])) for number, text in enumerate(texts) if (onset := _ONSET.match(text))]
    return np.array([number for number, _ in told], int), np.array([onset for _, onset in told], float)


def _stays(late_s: Float[np.ndarray, " record"], record_s: float) -> Float[np.ndarray, " record"]:
    """By how much a record and those after it come later than those before: what one alone does is no gap.

    Where too few come after it to tell, it is one if a whole record is missing.
    """
    padded = np.pad(late_s, _NEAR, constant_values=(-np.inf, np.inf))
    windows = np.lib.stride_tricks.sliding_window_view(padded, _NEAR)
    before, after = windows[: len(late_s)].max(1), windows[_NEAR : _NEAR + len(late_s)].min(1)
    steps = after - before
    steps[0] = 0.0
    last = steps[max(1, len(steps) - 2) :]
    last[last < _WHOLE * record_s] = 0.0
    return steps


def _parse(path: Path, fixed: bytes, rest: bytes, sample_bytes: int) -> Header:
    n_bytes, n_records, n_signals = int(fixed[184:192]), int(fixed[236:244]), int(fixed[252:256])
    record_s = float(fixed[244:252])
    if not 0 < n_signals <= 4096 or n_bytes != 256 * (1 + n_signals):
        raise ValueError("its sizes do not agree")
    if n_records < 1 or not 0 < record_s < 1e6:
        raise ValueError("it promises no data")
    columns, at = {}, 0
    for field, size in _FIELDS.items():
        columns[field] = [rest[at + size * i : at + size * (i + 1)] for i in range(n_signals)]
        at += size * n_signals
    at += 80 * n_signals  # the filters it has passed
    numbers = [[float(value) for value in columns[field]] for field in list(_FIELDS)[3:]]
    n_samples = [int(rest[at + 8 * i : at + 8 * (i + 1)]) for i in range(n_signals)]
    # MNE, which is asked by name, strips what is blank in ASCII, and no more
    names, said = ([value.strip().decode("latin1") for value in columns[field]] for field in ("name", "unit"))
    units = [unit.replace(_SHIFT_JIS_MICRO, "µ") for unit in said]
    signals = [Signal(*row) for row in zip(names, units, *numbers, n_samples, strict=True)]
    for signal in signals:
        _check(signal, record_s)
    return Header(path, sample_bytes, n_bytes, n_records, record_s, signals)


def _check(signal: Signal, record_s: float) -> None:
    """Refuse what no physical value follows from, whatever the samples are.

    Raises:
        ValueError: a range is empty, turned around, not finite or beyond what single precision holds, or there are no
            samples, or at a rate that no sensor has.
    """
    if signal.n_samples < 1 or not 1e-3 <= signal.n_samples / record_s <= 1e6:
        raise ValueError("its rate makes no sense")
    if not (abs(signal.low) < 1e30 and abs(signal.high) < 1e30) or signal.low == signal.high:
        raise ValueError("its range makes no sense")
    if not signal.digital_low < signal.digital_high:
        raise ValueError("its converter's range makes no sense")
