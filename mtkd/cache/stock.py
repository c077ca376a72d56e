"""``mtkd cache --list``, ``--verify`` and ``--prune``: which caches a workspace holds, and whether they are sound."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.markup import escape

from mtkd.cache.build import STAGE, TEACHERS, unit_of
from mtkd.cache.members import member_of, odd_window, read_rows
from mtkd.config import Study, TeacherName
from mtkd.console import console, counted, say, shown
from mtkd.digests import digest
from mtkd.errors import MtkdError
from mtkd.files import PARTIAL, scratch_folder
from mtkd.shards.read import ShardSet
from mtkd.training.fold import jobs_of
from mtkd.workspace import MANIFEST, Manifest, Unit, read_manifest

UNUSED, UNKNOWN = "no", "?"


@dataclass(frozen=True)
class Stocked:
    """A folder among the caches: what its manifest says, or why that cannot be read; and what the study calls it."""

    folder: Path
    manifest: Manifest | None
    trouble: str
    title: str

    @property
    def n_bytes(self) -> int:
        """Of all its files."""
        return sum(path.stat().st_size for path in self.folder.rglob("*") if path.is_file())


def show(study: Study) -> None:
    """Print a line for each cache of the workspace."""
    stock = stocked(study)
    rows = [("cache", "windows", "MB", "trained", "of this study"), *map(_cells, stock)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:  # not a table of rich's, which cuts names off where a terminal is narrow
        console.print(escape(shown("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)))))
    say(STAGE, f"{counted(len(stock), 'cache')}, {sum(each.n_bytes for each in stock) / 1e6:.1f} MB")


def verify(study: Study) -> None:
    """Read every byte of every cache again, whatever is remembered of its files, and look for what is no number.

    Raises:
        MtkdError: one is damaged or does not say what it should; each has been told by then.
    """
    bad, stock = [], stocked(study)
    for each in stock:
        trouble = each.trouble or _trouble(each)
        say(STAGE, f"{each.folder.name}: {trouble or 'as it should be'}")
        if trouble:
            bad.append(each.folder)
    if bad:
        raise MtkdError(
            f"{STAGE}: {len(bad)} of {len(stock)} are not as they should be: delete {', '.join(map(str, bad))}"
        )


def prune(study: Study) -> None:
    """Delete the caches that the study, as it is given, does not read.

    Raises:
        MtkdError: which these are is not known, as a teacher does not stand; nothing is deleted then.
    """
    used, freed = _titles(study), 0
    unused = [each for each in stocked(study) if each.folder not in used]
    for each in [each for each in unused if not (each.folder / MANIFEST).exists()]:
        say(STAGE, f"{each.folder.name}: has no {MANIFEST}, so it is none of mtkd's, and stays")
        unused.remove(each)
    for each in unused:
        freed += each.n_bytes
        with scratch_folder(each.folder) as aside:  # whoever is stopped here leaves a folder that is no cache
            each.folder.rename(aside / "pruned")
        say(STAGE, f"deleted {each.folder.name}")
    say(STAGE, f"{counted(len(unused), 'cache')} deleted, {freed / 1e6:.1f} MB; {len(used)} of this study")


def stocked(study: Study) -> list[Stocked]:
    """All folders where the workspace has its caches, by name."""
    place = Path(study.workspace) / STAGE
    try:
        titles, other = _titles(study), UNUSED
    except MtkdError:  # its teachers do not stand
        titles, other = {}, UNKNOWN
    found = []
    for folder in sorted(place.iterdir()) if place.is_dir() else []:
        if not folder.is_dir() or PARTIAL in folder.name:
            continue
        try:
            manifest, trouble = read_manifest(folder), ""
        except MtkdError as error:
            manifest, trouble = None, str(error)
        found.append(Stocked(folder, manifest, trouble, titles.get(folder, other)))
    return found


def _titles(study: Study) -> dict[Path, str]:
    """The caches that the study reads, and whose each is."""

    def unit_for(teacher: TeacherName) -> Any:
        return lambda own, fold: unit_of(own, fold, teacher)

    jobs = {teacher: jobs_of(study, teacher, unit_for(teacher)) for teacher in TEACHERS}
    return {job.unit.folder: f"{teacher}, {job.title}" for teacher, own in jobs.items() for job in own}


def _cells(each: Stocked) -> tuple[str, ...]:
    size = f"{each.n_bytes / 1e6:.1f}"
    if each.manifest is None:
        return each.folder.name, "damaged", size, "", each.title
    measured = each.manifest.measured
    trained = f"with {counted(len(measured.get('subjects', [])), 'subject')}"
    return each.folder.name, str(measured.get("n_windows")), size, trained, each.title


def _trouble(each: Stocked) -> str:
    """What is wrong with a cache whose manifest can be read; nothing if it is as it should be."""
    manifest = each.manifest
    assert manifest is not None
    for name, file in manifest.files.items():
        path = each.folder / name
        if not path.is_file():
            return f"{name} is missing, though {MANIFEST} lists it"
        if digest(path) != file.blake3:  # not what is known of the file: that may be of before a disk went bad
            return f"{name}: its checksum is not the manifest's"
    try:
        Unit(manifest.stage, each.folder, manifest.inputs).manifest()
        return _odd_rows(ShardSet(each.folder), manifest.inputs["teacher"])
    except MtkdError as error:
        return str(error)


def _odd_rows(shards: ShardSet, teacher: str) -> str:
    for key in shards.samples:
        if (found := odd_window(read_rows(shards, key, teacher))) is not None:
            part, window = found
            return f"{key}.{member_of(teacher)}: the {part} of window {window} are no numbers"
    return ""
