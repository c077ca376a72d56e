"""Readers: each finds the files of a folder with their subjects and reads one into recordings in SI units."""

import importlib
import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from mtkd.config import Data, Kind, Modality
from mtkd.errors import MtkdError
from mtkd.files import file_name
from mtkd.signals.recording import File, Found, Recording, Stream

_READERS = {name: f"mtkd.signals.readers.{name}" for name in ("deap", "mahnob", "edf", "bids", "table")}

_MOST_TOLD = 20


def find(folder: Path, data: Data) -> Found:
    """The recordings of a folder as the study's reader finds them, only those of the subjects it names.

    Raises:
        MtkdError: there are none, two share a name, or a subject that the study names has none.
    """
    found = importlib.import_module(_READERS[data.reader]).find(folder, data)
    found = Found([_composed(file) for file in found.files], {_text(k): _text(v) for k, v in found.left_out.items()})
    subjects = {file.subject for file in found.files}
    for subject in data.subjects or []:
        if subject not in subjects:
            told = ", ".join(sorted(subjects)[:_MOST_TOLD]) + ", ..." * (len(subjects) > _MOST_TOLD)
            raise MtkdError(f"{folder}: no file of the subject {subject} that data.subjects names; there are {told}")
    unknown = sorted(set(data.exclude) - subjects)
    absent = {f"data.exclude: {subject}": "is no file's subject" for subject in unknown}
    files = [replace(file, name=file_name(file.name)) for file in found.files if data.takes(file.subject)]
    names: dict[str, File] = {}
    for file in files:
        other = names.setdefault(file.name, file)
        if other is not file:
            raise MtkdError(f"{file.path}: is the same recording of the subject {file.subject} as {other.path}")
        for path in file.paths:
            if not path.is_file():
                raise MtkdError(f"{path}: is no file" + "; / stands between folders" * ("\\" in str(path)))
    if not files:
        raise MtkdError(f"{folder}: no file that the reader {data.reader!r} takes")
    return Found(files, found.left_out | absent)


_nfc = partial(unicodedata.normalize, "NFC")


def _composed(file: File) -> File:
    """Its names in one spelling: an é may be one character or two, and one subject must not become two by that.

    Raises:
        MtkdError: the name of one of its files is no text.
    """
    for path in file.paths:
        if _text(path.name) != path.name:
            raise MtkdError(f"{_text(str(path))}: the file's name is not in UTF-8")
    return replace(file, name=_nfc(file.name), subject=_nfc(file.subject))


def _text(name: str) -> str:
    """A file's name, where bytes that are no UTF-8 could not be written anywhere."""
    return name.encode("utf-8", "backslashreplace").decode("utf-8")


def streams(path: Path, data: Data, own: Mapping[str, Kind], names: Mapping[str, str]) -> dict[Modality, Stream]:
    """The channels of a recording that need not be one of the study's, in the way its reader knows such files.

    ``own`` and ``names`` are those of ``read_streams``; what the study asks of channels it has not is passed over.

    Raises:
        MtkdError: the file is damaged, or has none of those channels.
    """
    from mtkd.signals.readers import bids, biosemi, deap_bdf, mahnob, raw

    if path.suffix.lower() == ".bdf" and data.reader in ("deap", "mahnob"):
        pairs = deap_bdf.BIPOLAR if data.reader == "deap" else mahnob.BIPOLAR
        return biosemi.read_session(path, data, pairs, own, names, hint=f"; {raw.RENAME}")
    left_out: dict[str, str] = {}
    if data.reader == "bids":
        units, bads = bids.beside(path)
        data = data.model_copy(update={"units": {**units, **data.units}})
        left_out = {{**data.rename, **names}.get(name, name): why for name, why in bads.items()}
    return raw.read_streams(path, data, own, names, left_out, f"; {raw.RENAME}")


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
