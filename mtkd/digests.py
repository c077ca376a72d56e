"""Digests of files: recordings and weights are known by them, so each is read for it once and not in every process."""

import contextlib
import json
import os
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from blake3 import blake3

from mtkd.errors import MtkdError
from mtkd.files import fingerprint, publish_file

TABLE = "digests.json"
LARGE = 2**24
"""Bytes from which a digest is kept on disk. What is smaller is read again by each process."""
_SETTLED_S = 2.0
"""A file that was changed this shortly ago could be changed again within one tick of its clock."""
_PIECE = 2**20  # bytes that stay in a core's cache
Stamp = tuple[int, int, int, int]
_seen: dict[str, tuple[Stamp, str]] = {}


def digest(path: Path) -> str:
    """Hex digest of a file's bytes by BLAKE3, as ``b3sum`` tells it.

    SHA-256 would take a third of the time that a conversion does, and most of it on a processor without instructions
    for it.
    """
    made, piece = blake3(), bytearray(_PIECE)
    with path.open("rb", buffering=0) as file:
        while n_bytes := file.readinto(piece):
            made.update(memoryview(piece)[:n_bytes])
    return made.hexdigest()


def digest_of_all(paths: Sequence[Path], workspace: Path | None = None) -> str:
    """One digest of several files in their order."""
    found = digests_of(paths, workspace)
    return fingerprint([found[path] for path in paths])


def digests_of(paths: Iterable[Path], workspace: Path | None = None) -> dict[Path, str]:
    """The digest of each file. One whose size, times and inode are those of its last reading is not read again.

    That holds within a process, and with a ``workspace``, which keeps a table of large files, between processes, too.
    """
    stamps = {path: stamp_of(path) for path in dict.fromkeys(paths)}
    large = workspace is not None and any(stamp[0] >= LARGE for stamp in stamps.values())
    kept = _read(workspace / TABLE) if large and workspace is not None else {}
    unknown = []
    for path, stamp in stamps.items():
        name = str(path.absolute())
        if stamp[0] >= LARGE and kept.get(name, (None,))[0] == stamp:
            _seen[name] = kept[name]
        if _seen.get(name, (None,))[0] != stamp:
            unknown.append(path)
    with ThreadPoolExecutor(os.cpu_count()) as threads:
        for path, found in zip(unknown, threads.map(digest, unknown), strict=True):
            _seen[str(path.absolute())] = stamps[path], found
    if large and workspace is not None:
        _keep(workspace / TABLE, {str(path.absolute()): stamp for path, stamp in stamps.items()})
    return {path: _seen[str(path.absolute())][1] for path in stamps}


def stamp_of(path: Path) -> Stamp:
    """What changes with a file's content, even where its size and time are kept: its size, times and inode."""
    found = path.stat()
    return found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino


def _read(table: Path) -> dict[str, tuple[Stamp, str]]:
    """What is kept; nothing where it is damaged, since all of it can be found again."""
    try:
        said = json.loads(table.read_text(encoding="utf-8"))
        return {str(name): (tuple(stamp), str(found)) for name, (stamp, found) in said.items()}
    except (OSError, ValueError, TypeError, AttributeError, RecursionError):
        return {}


def _keep(table: Path, stamps: dict[str, Stamp]) -> None:
    """Add the digests of large files to the table, and take out those of files that are gone."""
    now = time.time()
    settled = {
        name: _seen[name]
        for name, stamp in stamps.items()
        if stamp[0] >= LARGE and now - max(stamp[1:3]) / 1e9 > _SETTLED_S
    }
    kept = _read(table)  # as it is now: others write to it, too
    if not settled.items() <= kept.items():
        whole = {name: entry for name, entry in (kept | settled).items() if name in settled or Path(name).exists()}
        # a workspace that may only be read, or a full disk: the table saves time and nothing else
        with contextlib.suppress(OSError, MtkdError), publish_file(table) as aside:
            aside.write_text(json.dumps(whole), encoding="utf-8")
