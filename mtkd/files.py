"""Writing so that nothing half-written ever stands under its final name."""

import contextlib
import glob
import hashlib
import json
import os
import platform
import re
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from mtkd.errors import MtkdError, one_line

PARTIAL = ".partial-"
MAX_DEPTH = 100  # of YAML that somebody wrote


@contextlib.contextmanager
def publish_file(path: Path) -> Iterator[Path]:
    """Yield a path beside ``path`` to write to; on success it is synced and renamed to ``path``."""
    aside = _beside(path)
    try:
        with _naming(path):
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
    with scratch_folder(path) as aside:
        yield aside
        for file in aside.rglob("*"):
            if file.is_file():
                _sync(file)
        try:
            aside.rename(path)
        except OSError:
            if not path.exists():
                raise


@contextlib.contextmanager
def scratch_folder(path: Path) -> Iterator[Path]:
    """Yield an empty folder beside ``path`` that is gone afterwards; what killed runs left of theirs goes too."""
    aside = _beside(path)
    try:
        with _naming(path):
            aside.mkdir()
            yield aside
    finally:
        shutil.rmtree(aside, ignore_errors=True)


@contextlib.contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Put ``path`` into errors of the system that name no file, as that of a full disk."""
    try:
        yield
    except ConnectionError:  # of a pipe or a socket, and of no file
        raise
    except OSError as error:
        if error.filename is not None and PARTIAL not in str(error.filename):
            raise
        raise MtkdError(f"{path}: {error.strerror or one_line(error)}") from None


def _sync(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _beside(path: Path) -> Path:
    """A name of our own beside ``path``, its folder made, and what killed processes of this machine left swept up.

    Folders may be shared between machines, so only the leftovers of our own host can be known to be dead.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    host = f"{platform.node().replace('-', '_')}.{_pid_namespace()}"
    for left in path.parent.glob(f".{glob.escape(path.name)}{PARTIAL}{host}-*"):
        pid = left.name.split("-")[-2]
        if pid.isdigit() and int(pid) != os.getpid() and not _is_alive(int(pid)):
            if left.is_dir():
                shutil.rmtree(left, ignore_errors=True)
            else:
                left.unlink(missing_ok=True)
    return path.with_name(f".{path.name}{PARTIAL}{host}-{os.getpid()}-{secrets.token_hex(4)}")


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)  # no signal, only the question
    except ProcessLookupError:
        return False
    except PermissionError:  # somebody else's
        return True
    return True


def file_name(name: str) -> str:
    """A name that is one of a file, and of no folder: letters, digits, and what joins them."""
    return re.sub(r"[^\w.-]", "-", name).lstrip(".") or "-"


def slug(name: str) -> str:
    """A name as part of a file's name: small letters, digits and hyphens."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def _pid_namespace() -> str:
    """What tells containers apart that share a host's name, and so see other processes under a number; Linux only."""
    try:
        return "".join(char for char in str(Path("/proc/self/ns/pid").readlink()) if char.isdigit())
    except OSError:
        return "0"


def write_json(path: Path, content: Any, indent: int | None = 1) -> None:
    """Write ``content`` as JSON, whole or not at all; long tables without ``indent`` are written far faster."""
    with publish_file(path) as aside:
        aside.write_text(json.dumps(content, indent=indent, ensure_ascii=False) + "\n", encoding="utf-8")


def read_json(path: Path, hint: str = "") -> Any:
    """Read a JSON file.

    Raises:
        MtkdError: the file is missing or no JSON; ``hint`` follows what is said of the latter.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise MtkdError(f"{path}: no such file") from None
    except (ValueError, RecursionError) as error:
        raise MtkdError(f"{path}: not a JSON file ({error}){hint}") from None


def refuse_deep(text: str) -> None:
    """Refuse YAML that is nested deeper than its loaders bear: libyaml's overflows the stack, which ends the process.

    Raises:
        ValueError: it is; or it is no YAML, of which ``yaml`` has an error of its own.
    """
    depth = 0
    for event in yaml.parse(text, Loader=yaml.CSafeLoader):  # which is told piece by piece, without recursion
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > MAX_DEPTH:
            raise ValueError(f"nested deeper than {MAX_DEPTH} levels")


def fingerprint(content: Any) -> str:
    """Twelve hex digits of the SHA-256 of ``content`` as compact JSON.

    The order of keys counts: that of ``labels`` decides what a class index means, that of ``channels`` which wins.
    """
    canonical = json.dumps(content, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(canonical.encode()).hexdigest()[:12]
