"""BIDS' ``_physio.tsv.gz``: what was recorded beside the EEG by another device, a column a channel.

The ``.json`` beside it, or one further up that holds for it, tells ``SamplingFrequency``, ``StartTime`` (seconds from
the start of the EEG), ``Columns`` and their ``Units``.
"""

import gzip
import io
import zlib
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from jaxtyping import Float
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from mtkd.config import Kind, Modality, Source
from mtkd.errors import MtkdError, one_line
from mtkd.signals.channels import KNOWN, to_si, type_channels
from mtkd.signals.readers.names import names_of
from mtkd.signals.readers.sidecars import description, is_there
from mtkd.signals.recording import Stream

MAX_BYTES, MAX_COLUMNS = 2**28, 1000
"""Of a table once unpacked; pandas takes several times as much."""
_KINDS: dict[str, Kind] = {
    "cardiac": "ppg",
    "respiratory": "resp",
    "trigger": "ignore",
    **{name: name for name in ("eog", "emg", "ecg", "eda", "resp", "ppg", "temp")},
    "gsr": "eda",
    "scr": "eda",
    "temperature": "temp",
}


class Described(BaseModel):
    """What the sidecar says of a table. Units by column, where it tells any."""

    model_config = ConfigDict(extra="ignore")
    SamplingFrequency: Annotated[float, Field(gt=0, le=1e6)]
    StartTime: Annotated[float, Field(ge=-1e6, le=1e6)]
    Columns: Annotated[list[str], Field(min_length=1, max_length=MAX_COLUMNS)]
    units: dict[str, str] = {}


def tables_of(recording: Path, root: Path) -> dict[str, dict[str, Any]]:
    """The tables that belong to a recording, by name, each with its description.

    Raises:
        MtkdError: one has none, or a damaged one.
    """
    prefix = recording.stem.rpartition("_")[0]
    near = (
        recording.with_name(f"{prefix}_physio.tsv.gz"),
        *recording.parent.glob(f"{prefix}_recording-*_physio.tsv.gz"),
    )
    found = sorted(path for path in near if is_there(path))
    return {path.name: _described(path, root).model_dump() for path in found}


def _described(path: Path, root: Path) -> Described:
    said = description(path, root, "physio.json")
    units = {
        name: about["Units"]
        for name, about in said.items()
        if isinstance(about, dict) and isinstance(about.get("Units"), str)
    }
    try:
        return Described.model_validate({**said, "units": units})
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        raise MtkdError(f"{path}: the .json that describes it: {key}: {first['msg']}") from None


def read_physio(path: Path, described: dict[str, Any], data: Source, duration_s: float) -> dict[Modality, Stream]:
    """The columns of a table as streams over the time of the EEG, NaN where it has nothing.

    Raises:
        MtkdError: the table is damaged, no pattern names a column, or its unit is none of its modality's.
    """
    about = Described.model_validate(described)
    if len(set(about.Columns)) < len(about.Columns):
        raise MtkdError(f"{path}: two of its columns share a name")
    asked = names_of(path, about.Columns, data.model_copy(update={"bipolar": {}}), {}, {})
    known = {ours: _KINDS.get(ours.lower(), _KINDS.get(name.lower())) for name, ours in asked.ours.items()}
    own = {ours: kind for ours, kind in known.items() if kind is not None}
    patterns = {**asked.kinds, **own, **asked.kinds}
    kinds = type_channels(list(asked.ours.values()), patterns, str(path))
    typed = {name: kinds[ours] for name, ours in asked.ours.items()}
    kept = [name for name, kind in typed.items() if kind != "ignore" and data.asks_for(kind)]
    units = {name: _unit(path, name, typed[name], {**about.units, **asked.units}) for name in kept}
    if not kept:
        return {}
    values = _values(path, about.Columns)
    n_times = round(duration_s * about.SamplingFrequency)
    shift = round(about.StartTime * about.SamplingFrequency)
    streams: dict[Modality, Stream] = {}
    for kind in dict.fromkeys(typed[name] for name in kept):
        names = [name for name in kept if typed[name] == kind]
        rows = np.stack([to_si(values[name], kind, units[name], str(path)) for name in names])  # type: ignore[arg-type]
        ours, read = [asked.ours[name] for name in names], partial(_cut, rows, shift)
        streams[kind] = Stream(ours, about.SamplingFrequency, n_times, read)  # type: ignore[index]
    return streams


def _unit(path: Path, name: str, kind: Kind, said: dict[str, str]) -> str:
    unit = said.get(name, "").replace("μ", "u").replace("µ", "u")
    if unit not in KNOWN.get(kind, {unit}):  # type: ignore[arg-type]
        told = ", ".join(known for known in KNOWN[kind] if known)  # type: ignore[index]
        raise MtkdError(f"{path}: {name} is in the unit {unit!r}; known of {kind} are {told} (data.units)")
    return unit


def _values(path: Path, columns: list[str]) -> dict[str, Float[np.ndarray, " n_times"]]:
    import pandas

    try:
        with gzip.open(path) as file:
            content = file.read(MAX_BYTES + 1)
        if len(content) > MAX_BYTES:
            raise MtkdError(f"{path}: unpacks to more than {MAX_BYTES} bytes")
        if content[: content.find(b"\n")].count(b"\t") >= MAX_COLUMNS:
            raise MtkdError(f"{path}: has more than {MAX_COLUMNS} columns")
        # a line without a number is one sample all the same
        options = {"header": None, "na_values": ["n/a"], "dtype": np.float64, "skip_blank_lines": False}
        table = pandas.read_csv(io.BytesIO(content), sep="\t", **options)
    except (OSError, EOFError, zlib.error, ValueError) as error:
        raise MtkdError(f"{path}: damaged ({type(error).__name__}: {one_line(error)})") from None
    if table.shape[1] != len(columns):
        raise MtkdError(f"{path}: has {table.shape[1]} columns, its .json tells of {len(columns)}")
    return {name: table[index].to_numpy() for index, name in enumerate(columns)}


def _cut(rows: np.ndarray, shift: int, start: int, stop: int) -> Float[np.ndarray, "n_chans n_times"]:
    """Samples ``start`` to ``stop`` of the EEG's time; the table's first one is its ``shift``-th."""
    cut = np.full((len(rows), stop - start), np.nan)
    first, last = max(start, shift), min(stop, shift + rows.shape[1])
    if first < last:
        cut[:, first - start : last - start] = rows[:, first - shift : last - shift]
    return cut
