"""A shard set at a root that fsspec knows (``https://``, ``s3://``): tars are fetched when they are first read.

What is fetched lies in the workspace, checked against the set's manifest, and is shared by the processes of a machine.
"""

import functools
import json
import queue
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fsspec
from filelock import FileLock

from mtkd.digests import digest
from mtkd.errors import MtkdError, one_line
from mtkd.files import file_name, fingerprint, publish_file
from mtkd.shards.index import NAME
from mtkd.workspace import MANIFEST, File, Manifest, Unit, parse_manifest, read_manifest

_MANIFEST_BYTES = 2**26
_SILENCE_S = 20.0
_PATIENCE_S, _SLOWEST = 60.0, 1000.0
"""From so many seconds on, a server must have given so many bytes a second."""


@dataclass(frozen=True)
class Fetched(Unit):
    """A set that stands elsewhere. Its files are checked one by one when they are fetched."""

    def stands(self) -> bool:
        """It does: its manifest was read."""
        return True

    def manifest(self) -> Manifest:
        """The manifest of the set."""
        return read_manifest(self.folder)


@functools.lru_cache(maxsize=8)
def fetched_unit(root: str, workspace: Path) -> Fetched:
    """The set at ``root`` as a unit of the workspace: manifest and index are there, tars come as they are asked for.

    Raises:
        MtkdError: there is no such set, or it is damaged.
    """
    source = f"{root.rstrip('/')}/{MANIFEST}"
    content = _read(source, _MANIFEST_BYTES)
    try:
        manifest = parse_manifest(json.loads(content), source)
    except (ValueError, RecursionError):
        raise MtkdError(f"{source}: no manifest") from None
    if manifest.stage != "shards" or NAME not in manifest.files or manifest.fingerprint != fingerprint(manifest.inputs):
        raise MtkdError(f"{source}: the manifest of {manifest.stage!r}, not of a shard set")
    for name in manifest.files:
        if file_name(name) != name:
            raise MtkdError(f"{source}: names the file {name!r}, which is none of a shard set")
    unit = Fetched("shards", workspace / "remote" / f"{manifest.fingerprint}-{manifest.digest}", manifest.inputs)
    if not (unit.folder / MANIFEST).is_file():
        with publish_file(unit.folder / MANIFEST) as aside:
            aside.write_bytes(content)
    fetch(root, unit.folder, NAME)
    return unit


def fetch(root: str, folder: Path, name: str) -> None:
    """Fetch one file of a set, unless it is there.

    Raises:
        MtkdError: it cannot be read, or is not what the manifest says.
    """
    wanted = read_manifest(folder).files.get(name)
    source, path = f"{root.rstrip('/')}/{name}", folder / name
    if wanted is None:
        raise MtkdError(f"{source}: is not in the manifest of its set")
    if path.is_file():
        return
    with FileLock(folder / f".{name}.lock"):  # of the processes of a machine one fetches, and the others wait
        if not path.is_file():
            _fetch(source, path, wanted)


def _fetch(source: str, path: Path, wanted: File) -> None:
    with publish_file(path) as aside:
        try:
            with _within(_PATIENCE_S, source) as there, aside.open("wb") as here:
                for some in _pieces(there, wanted.n_bytes + 1):  # a server may go on for ever
                    here.write(some)
        except Exception as error:  # every file system raises its own
            raise MtkdError(f"{source}: cannot be read ({type(error).__name__}: {one_line(error)})") from None
        if aside.stat().st_size != wanted.n_bytes or digest(aside) != wanted.blake3:
            raise MtkdError(f"{source}: its checksum is not the manifest's")


def _open(source: str) -> Any:
    """A file to read from its beginning to its end.

    A server that says nothing is not waited for; fsspec's own limit is five minutes in all. Of ranges that it asks for
    fsspec takes whatever a server sends, and packed ones may be of any size once they are unpacked.
    """
    if not source.startswith(("http://", "https://")):
        return fsspec.open(source, "rb")
    import aiohttp

    limits = aiohttp.ClientTimeout(total=None, sock_connect=_SILENCE_S, sock_read=_SILENCE_S)
    as_it_is = {"Accept-Encoding": "identity"}
    return fsspec.open(source, "rb", block_size=0, headers=as_it_is, client_kwargs={"timeout": limits})


def _within(seconds: float, source: str) -> Any:
    """The opened file. A server may send the beginning of its answer for ever, and libraries wait for ever, too.

    Raises:
        TimeoutError: it takes longer.
    """
    found: queue.Queue[Any] = queue.Queue()

    def opened() -> None:
        try:
            found.put((_open(source).open(), None))
        except BaseException as error:  # it is the caller's
            found.put((None, error))

    threading.Thread(target=opened, daemon=True).start()
    try:
        file, error = found.get(timeout=seconds)
    except queue.Empty:
        raise TimeoutError(f"no answer in {seconds:.0f} s") from None
    if error is not None:
        raise error
    return file


def _pieces(file: Any, most: int) -> Iterator[bytes]:
    """Its content up to ``most`` bytes.

    Raises:
        TimeoutError: it comes a few bytes at a time.
    """
    started, left = time.monotonic(), most
    while left > 0 and (some := file.read(min(left, 2**20))):
        yield some
        left -= len(some)
        passed_s = time.monotonic() - started
        if passed_s > _PATIENCE_S and most - left < passed_s * _SLOWEST:
            raise TimeoutError(f"{most - left} bytes in {passed_s:.0f} s")


def _read(source: str, most: int) -> bytes:
    try:
        with _within(_PATIENCE_S, source) as file:
            content = b"".join(_pieces(file, most + 1))
    except ImportError as error:
        raise MtkdError(f"{source}: {one_line(error)}") from None
    except Exception as error:  # as above
        raise MtkdError(f"{source}: cannot be read ({type(error).__name__}: {one_line(error)})") from None
    if len(content) > most:
        raise MtkdError(f"{source}: larger than any manifest")
    return content
