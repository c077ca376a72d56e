"""Units of work: folders named by a fingerprint of all they depend on, whole once their manifest stands.

A unit's inputs hold the digests of what it read, so a teacher that was trained again to other weights makes its cache
and all that follows a different unit. That, and not a flag, decides what is run again.
"""

import contextlib
import functools
import importlib.metadata
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from mtkd.config import Study
from mtkd.digests import digest, digests_of
from mtkd.errors import MtkdError
from mtkd.files import fingerprint, publish_folder, read_json, write_json

MANIFEST = "manifest.json"
_PACKAGES = [
    "mtkd",
    "numpy",
    "scipy",
    "mne",
    "neurokit2",
    "torch",
    "torch-geometric",
    "transformers",
    "peft",
    "accelerate",
    "deepspeed",
    "ray[tune]",
    "safetensors",
]


class File(BaseModel):
    """Size and checksum of one file."""

    model_config = ConfigDict(frozen=True)
    n_bytes: int
    blake3: str


class Manifest(BaseModel):
    """What stands in a unit's folder, what it was made of and what was measured while making it.

    ``seal`` is a fingerprint of all the rest: a manifest that was changed by hand or by a bad disk is not believed.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    format: Literal["mtkd-unit-3"] = "mtkd-unit-3"
    stage: str
    fingerprint: str
    inputs: dict[str, Any]
    versions: dict[str, str]
    measured: dict[str, Any]
    files: dict[str, File] = Field(min_length=1)
    seal: str = ""

    def sealed(self) -> Self:
        """A copy with its seal."""
        return self.model_copy(update={"seal": fingerprint(self.model_dump(mode="json", exclude={"seal"}))})

    @property
    def digest(self) -> str:
        """Fingerprint of the files' bytes: what a later stage depends on."""
        return fingerprint({name: file.blake3 for name, file in self.files.items()})


@dataclass(frozen=True)
class Unit:
    """One folder of a stage, there or still to be made."""

    stage: str
    folder: Path
    inputs: dict[str, Any]

    @property
    def fingerprint(self) -> str:
        """Of the inputs; the end of the folder's name."""
        return fingerprint(self.inputs)

    def stands(self) -> bool:
        """Whether the unit is there and whole.

        Raises:
            MtkdError: the folder holds a unit made of something else, or its files are not those of its manifest.
        """
        there = self.folder.exists() or self.folder.is_symlink()  # also one that leads nowhere
        if not (self.folder / MANIFEST).is_file():  # asked last: another process may be renaming it to its place
            if there:
                raise MtkdError(f"{self.folder}: has no {MANIFEST}, so it is none of mtkd's; move it away")
            return False
        _check(self.folder, self.stage, self.fingerprint)
        return True

    def manifest(self) -> Manifest:
        """The manifest of a unit that must stand, its files checked once a process.

        Raises:
            MtkdError: it does not stand, or not as it should.
        """
        if not self.stands():
            raise MtkdError(f"{self.folder}: not there yet; run `mtkd {self.stage}` first")
        return read_manifest(self.folder)

    @contextlib.contextmanager
    def build(self, known: Mapping[str, File] | None = None) -> Iterator[tuple[Path, dict[str, Any]]]:
        """Yield a folder to write to and a dictionary for measurements; the manifest comes last, then the rename.

        ``known`` may be filled meanwhile with what is known of files that were linked into the folder.
        """
        measured: dict[str, Any] = {}
        with publish_folder(self.folder) as aside:
            yield aside, measured
            found = {str(path.relative_to(aside)): path for path in sorted(aside.rglob("*")) if path.is_file()}
            manifest = Manifest(
                stage=self.stage,
                fingerprint=self.fingerprint,
                inputs=self.inputs,
                versions=versions(),
                measured=measured,
                files={name: (known or {}).get(name) or _described(path) for name, path in found.items()},
            )
            write_json(aside / MANIFEST, manifest.sealed().model_dump(mode="json"))


def _described(path: Path) -> File:
    return File(n_bytes=path.stat().st_size, blake3=digest(path))


def make_unit(study: Study, stage: str, label: str, inputs: dict[str, Any]) -> Unit:
    """The unit of a stage with these inputs, in the study's workspace."""
    folder = Path(study.workspace) / stage / f"{label}-{fingerprint(inputs)}"
    return Unit(stage, folder, inputs)


def read_manifest(folder: Path) -> Manifest:
    """A unit's manifest.

    Raises:
        MtkdError: it is missing or damaged.
    """
    path, hint = folder / MANIFEST, f"; delete {folder} to make it again"
    return parse_manifest(read_json(path, hint), str(path), hint)


def parse_manifest(content: Any, source: str, hint: str = "") -> Manifest:
    """A manifest from the content of its file.

    Raises:
        MtkdError: it is none, or was changed; names ``source`` and adds ``hint``.
    """
    try:
        manifest = Manifest.model_validate(content)
        sealed = manifest.sealed()
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        raise MtkdError(f"{source}: damaged manifest, {key}: {first['msg']}{hint}") from None
    except ValueError:  # NaN, which JSON does not have
        sealed = None
    if sealed != manifest:
        raise MtkdError(f"{source}: damaged manifest, its seal is not that of its content{hint}")
    return manifest


@functools.lru_cache(maxsize=1024)
def _check(folder: Path, stage: str, expected: str) -> None:
    manifest = read_manifest(folder)
    if (manifest.stage, manifest.fingerprint) != (stage, expected):
        raise MtkdError(
            f"{folder}: made by {manifest.stage} {manifest.fingerprint}, not by {stage} {expected}; delete it"
        )
    if fingerprint(manifest.inputs) != manifest.fingerprint:
        raise MtkdError(f"{folder / MANIFEST}: its inputs are not those of its fingerprint; delete {folder}")
    paths = {folder / name: file for name, file in manifest.files.items()}
    for path in paths:
        if not path.is_file():
            raise MtkdError(f"{path}: missing, though {folder / MANIFEST} lists it; delete {folder} to make it again")
    found = digests_of(paths, folder.parent.parent)
    for path, file in paths.items():
        if found[path] != file.blake3:
            raise MtkdError(f"{path}: its checksum is not the manifest's; delete {folder} to make it again")


@functools.cache
def versions() -> dict[str, str]:
    """Versions of the packages whose numbers end up in what a stage writes."""
    return {name: importlib.metadata.version(name.partition("[")[0]) for name in _PACKAGES}
