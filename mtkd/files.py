"""Writing so that nothing half-written ever stands under its final name."""

import contextlib
import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mtkd.errors import MtkdError

PARTIAL = ".partial-"


@contextlib.contextmanager
def publish_file(path: Path) -> Iterator[Path]:
    """Yield a path beside ``path`` to write to; on success it is synced and renamed to ``path``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}{PARTIAL}{os.getpid()}")
    try:
        yield aside
        _sync(aside)
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)


@contextlib.contextmanager
def publish_folder(path: Path) -> Iterator[Path]:
    """Yield an empty folder beside ``path``; on success it becomes ``path``, otherwise it is removed.

    Where another process published ``path`` meanwhile, its folder stays and ours is dropped: the name holds a
    fingerprint, so both hold the same.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    _sweep_up(path)
    aside = path.with_name(f".{path.name}{PARTIAL}{os.getpid()}")
    aside.mkdir()
    try:
        yield aside
        for file in aside.rglob("*"):
            if file.is_file():
                _sync(file)
        if not path.exists():
            aside.rename(path)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _sync(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _sweep_up(path: Path) -> None:
    """Remove what killed processes left beside ``path``."""
    for left in path.parent.glob(f".{path.name}{PARTIAL}*"):
        pid = left.name.rpartition("-")[2]
        # our own number was an earlier process's: in a container the numbers come again
        if not pid.isdigit() or int(pid) == os.getpid() or not Path(f"/proc/{pid}").exists():
            shutil.rmtree(left, ignore_errors=True)


def write_json(path: Path, content: Any) -> None:
    """Write ``content`` as indented JSON, whole or not at all."""
    with publish_file(path) as aside:
        aside.write_text(json.dumps(content, indent=1, sort_keys=False) + "\n", encoding="utf-8")


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises:
        MtkdError: the file is missing or no JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise MtkdError(f"{path}: no such file") from None
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise MtkdError(f"{path}: not a JSON file ({error})") from None


def sha256(path: Path) -> str:
    """Hex digest of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def fingerprint(content: Any) -> str:
    """Twelve hex digits of the SHA-256 of ``content`` as compact JSON.

    The order of keys counts: that of ``labels`` decides what a class index means, that of ``channels`` which wins.
    """
    canonical = json.dumps(content, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(canonical.encode()).hexdigest()[:12]
