"""Readers: each finds the files of a folder with their subjects and reads one into recordings in SI units."""

import importlib
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from mtkd.config import Data, Kind, Modality
from mtkd.errors import MtkdError
from mtkd.files import file_name
from mtkd.signals.recording import File, Found, Recording, Stream

_READERS = {name: f"mtkd.signals.readers.{name}" for name in ("deap", "mahnob", "edf", "bids", "table")}


def find(folder: Path, data: Data) -> Found:
    """The recordings of a folder as the study's reader finds them, only those of the subjects it names.

    Raises:
        MtkdError: there are none, two share a name, or a subject that the study names has none.
    """
    found = importlib.import_module(_READERS[data.reader]).find(folder, data)
    subjects = {file.subject for file in found.files}
    for subject in data.subjects or []:
        if subject not in subjects:
            raise MtkdError(f"{folder}: no file of the subject {subject} that data.subjects names")
    absent = {f"data.exclude: {subject}": "is no file's subject" for subject in data.exclude if subject not in subjects}
    wanted = (subjects if data.subjects is None else set(data.subjects)) - set(data.exclude)
    files = [replace(file, name=file_name(file.name)) for file in found.files if file.subject in wanted]
    names: dict[str, File] = {}
    for file in files:
        other = names.setdefault(file.name, file)
        if other is not file:
            raise MtkdError(f"{file.path}: is the same recording of the subject {file.subject} as {other.path}")
        for path in file.paths:
            if not path.is_file():
                raise MtkdError(f"{path}: is no file")
    if not files:
        raise MtkdError(f"{folder}: no file that the reader {data.reader!r} takes")
    return Found(files, found.left_out | absent)


def streams(path: Path, data: Data, own: Mapping[str, Kind], names: Mapping[str, str]) -> dict[Modality, Stream]:
    """The channels of a recording that need not be one of the study's, in the way its reader knows such files.

    ``own`` and ``names`` are those of ``read_streams``; what the study asks of channels it has not is passed over.

    Raises:
        MtkdError: the file is damaged, or has none of those channels.
    """
    from mtkd.signals.readers import bids, biosemi, deap_bdf, mahnob, raw

    if path.suffix.lower() == ".bdf" and data.reader in ("deap", "mahnob"):
        pairs = deap_bdf.BIPOLAR if data.reader == "deap" else mahnob.BIPOLAR
        return biosemi.read_session(path, data, pairs, own, names, lenient=True)
    left_out: dict[str, str] = {}
    if data.reader == "bids":
        units, bads = bids.beside(path)
        data = data.model_copy(update={"units": {**units, **data.units}})
        left_out = {{**data.rename, **names}.get(name, name): "channels.tsv calls it bad" for name in bads}
    return raw.read_streams(path, data, own, names, lenient=True, left_out=left_out)


def beside(path: Path, data: Data) -> Any:
    """What other files say of such a recording, which ``streams`` heeds."""
    from mtkd.signals.readers import bids

    return bids.beside(path) if data.reader == "bids" else None


def read(file: File, data: Data) -> Iterator[Recording]:
    """One file as recordings; a data set that was cut into trials gives one for each.

    Raises:
        MtkdError: the file is damaged, foreign, or not what the study says.
    """
    yield from importlib.import_module(_READERS[data.reader]).read(file, data)
