"""The stage ``shards``: recordings become shards, one WebDataset tar each, in parallel."""

import functools
import itertools
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import joblib
import numpy as np
from joblib.externals.loky.process_executor import TerminatedWorkerError

from mtkd import workspace
from mtkd.config import Study
from mtkd.console import counted, say
from mtkd.digests import digest_of_all
from mtkd.errors import MtkdError
from mtkd.files import PARTIAL, fingerprint
from mtkd.shards.index import Sample, read_index, write_index
from mtkd.shards.raw import make_raw, raw_folder, recordings
from mtkd.shards.read import ShardSet
from mtkd.shards.recordings import TAR, Job, build, jobs_of, read_trials
from mtkd.shards.remote import fetched_unit
from mtkd.shards.summary import doubts, summary
from mtkd.signals.readers.companions import all_of
from mtkd.signals.recording import File, Found
from mtkd.workspace import Unit, make_unit, read_manifest

STAGE = "shards"
VERSION = 5  # of how recordings become a set
_MOST_TOLD = 5


def run(study: Study) -> Unit:
    """Build the study's shards unless they stand, here or at ``shards.root``; return their unit."""
    if study.shards.root is not None:
        say(STAGE, f"reading those of {study.shards.root}")
        return unit_of(study)
    make_raw(study)
    unit, found, jobs = _plan(study)
    if unit.stands():
        say(STAGE, f"reused {unit.folder}")
        _tell_left_out(found.left_out)  # which may be others than when it was built
        for sentence in doubts(study, read_index(unit.folder).samples):
            say(STAGE, sentence)
        return unit
    started = time.perf_counter()
    missing = [job for job in jobs if not job.unit.stands()]
    if len(missing) < len(jobs):
        say(STAGE, f"reused {counted(len(jobs) - len(missing), 'recording')} of {len(jobs)}")
    _build_all(study, missing)
    linked: dict[str, workspace.File] = {}
    with unit.build(linked) as (folder, measured):
        shards, outcomes = _assemble(folder, jobs, linked)
        _check_modalities(study, shards)
        write_index(folder, shards)
        measured.update(summary(study, shards), seconds=round(time.perf_counter() - started, 2))
        measured.update(outcomes, left_out=found.left_out | outcomes["left_out"])
        measured.update(sources=_sources(jobs), data=study.data.model_dump(exclude={"folder"}))
        _refuse_same_signals(ShardSet(folder))
    _tell(study, [sample for group in shards.values() for sample in group], measured)
    say(STAGE, f"built {unit.folder}")
    return unit


def _tell(study: Study, samples: list[Sample], measured: dict[str, Any]) -> None:
    """Say what is in the set, what is not, and what of it may be a mistake."""
    n_rejected, n_left_out = sum(map(len, measured["rejected"].values())), len(measured["left_out"])
    said = f", {n_rejected} rejected" * bool(n_rejected) + f", {n_left_out} left out" * bool(n_left_out)
    say(STAGE, f"{counted(len(samples), 'trial')} of {counted(measured['n_subjects'], 'subject')}{said}")
    _tell_left_out(measured["left_out"])
    for name, pairs in measured["overlapping"].items():
        more = f" (and {len(pairs) - 1} more)" * (len(pairs) > 1)
        say(STAGE, f"{name}: the trials {pairs[0]}{more}")
    for sentence in doubts(study, samples):
        say(STAGE, sentence)


def _tell_left_out(left_out: dict[str, str]) -> None:
    for name, reason in itertools.islice(left_out.items(), _MOST_TOLD):
        say(STAGE, f"left out: {name}: {reason}")
    if len(left_out) > _MOST_TOLD:
        say(STAGE, f"and {len(left_out) - _MOST_TOLD} more, of which `mtkd inspect` tells")


def unit_of(study: Study) -> Unit:
    """The unit of the study's shards."""
    if study.shards.root is not None:
        unit = fetched_unit(study.shards.root, Path(study.workspace))
        if fingerprint(unit.inputs.get("signals")) != fingerprint(study.signals.model_dump()):
            raise MtkdError(
                f"{study.shards.root}: its signals are not those of the study, by which a student would listen"
            )
        return unit
    return _plan(study)[0]


def open_shards(study: Study) -> tuple[Unit, ShardSet]:
    """The study's shards, which must stand and be whole."""
    unit = unit_of(study)
    unit.manifest()
    return unit, _opened(unit.folder, study.shards.root)


def _plan(study: Study) -> tuple[Unit, Found, list[Job]]:
    found = recordings(study)
    jobs = jobs_of(study, found.files)
    inputs = {
        "stage": STAGE,
        "version": VERSION,
        "signals": study.signals.model_dump(),
        "recordings": {job.file.name: job.unit.fingerprint for job in jobs},
    }
    return make_unit(study, STAGE, "all", inputs), found, jobs


@functools.lru_cache(maxsize=8)
def _opened(folder: Path, root: str | None) -> ShardSet:
    return ShardSet(folder, root)


class _Jobs(joblib.Parallel):
    """joblib's, which tells how many are done; its own words are about batches."""

    def __init__(self, told: Callable[[int], None], **options: Any) -> None:
        super().__init__(**options)
        self.told, self.n_told = told, 0

    def print_progress(self) -> None:
        """Called by joblib whenever a job has ended, and for the last of them once more."""
        if self.n_completed_tasks > self.n_told:
            self.n_told = self.n_completed_tasks
            self.told(self.n_told)


def _sources(jobs: list[Job]) -> dict[str, str]:
    """Whose each recording is, by the digest of its file and those that are read with it, as ``predict`` asks for it.

    Raises:
        MtkdError: the same recording is there twice.
    """
    found: dict[str, Job] = {}
    for job in jobs:
        other = found.setdefault(digest_of_all(all_of(job.file.path)), job)
        if other is not job:
            another = ", which is of another subject" * (other.file.subject != job.file.subject)
            raise MtkdError(f"{job.file.path}: holds the same as {other.file.path}{another}")
    return {digest: job.file.subject for digest, job in found.items()}


def _refuse_same_signals(shards: ShardSet) -> None:
    """
    Raises:
        MtkdError: two subjects have the very same signal, so that one person would stand on two sides of a split.
    """
    found: dict[tuple[int, int], tuple[Sample, str]] = {}
    for sample in shards.index.samples:
        for member in (f"{modality}.npy" for modality, share in sample.valid.items() if share > 0):
            place = sample.members[member]
            other, its = found.setdefault((place.size, place.crc32), (sample, member))
            if other.subject != sample.subject and np.array_equal(
                shards.read(sample.key, member), shards.read(other.key, its)
            ):
                told = f"{member.partition('.')[0]} of {sample.key} is that of {other.key}, of another subject"
                raise MtkdError(f"{STAGE}: {told}; data.exclude leaves one of them out")


def _build_all(study: Study, missing: list[Job]) -> None:
    """Make the units of all recordings that have none, one job each."""

    def told(n_done: int) -> None:
        say(STAGE, f"{n_done} of {counted(len(missing), 'recording')}")

    with _engine(study):
        starter = os.getpid() if study.shards.engine == "joblib" else None
        jobs = _Jobs(told, n_jobs=study.shards.n_jobs, batch_size=1)
        try:
            jobs(joblib.delayed(build)(study, job, starter) for job in missing)
        except TerminatedWorkerError as error:
            raise MtkdError(_died(missing, error)) from None


def _died(missing: list[Job], error: Exception) -> str:
    """What to tell of a worker's death. Those that were at work have left their folders behind."""
    left = {path.name for path in missing[0].unit.folder.parent.glob(f".*{PARTIAL}*")}
    begun = [job for job in missing if any(name.startswith(f".{job.unit.folder.name}{PARTIAL}") for name in left)]
    how = ", ".join(sorted(set(re.findall(r"SIG[A-Z]+\(-\d+\)|EXIT\(\d+\)", str(error))))) or "it cannot be told how"
    paths = " or ".join(str(job.file.path) for job in begun) or str(missing[0].file.path.parent)
    return f"{paths}: the process that read it came to its end ({how}); for want of memory, take fewer shards.n_jobs"


@contextmanager
def _engine(study: Study) -> Iterator[None]:
    """Where the jobs run: processes of this machine, or a Ray cluster."""
    if study.shards.engine == "joblib":
        yield
        return
    from mtkd.cluster import connected, joblib_on_ray

    with connected(study.shards.ray_address, STAGE, "shards.ray_address"), joblib_on_ray():
        yield


def _assemble(
    folder: Path, jobs: list[Job], linked: dict[str, workspace.File]
) -> tuple[dict[str, list[Sample]], dict[str, dict[str, Any]]]:
    """Link the tars of all recordings into the folder; return their trials, and what of them was left out.

    ``linked`` gets the checksums of the tars, which were taken when they were written.

    Raises:
        MtkdError: two recordings of a subject have a trial of one name.
    """
    shards: dict[str, list[Sample]] = {}
    outcomes: dict[str, dict[str, Any]] = {"rejected": {}, "overlapping": {}, "left_out": {}}
    unheard: list[set[str]] = []
    where: dict[str, File] = {}
    for job in sorted(jobs, key=lambda job: (job.file.subject, job.file.name)):
        file = job.file
        found = read_trials(job.unit)
        for name in ("rejected", "overlapping"):
            if getattr(found, name):
                outcomes[name][file.name] = getattr(found, name)
        outcomes["left_out"] |= {f"{file.path.name}, {channel}": why for channel, why in found.left_out.items()}
        unheard.append(set(found.unheard))
        for sample in found.trials:
            if sample.key in where:
                raise MtkdError(f"{file.path}: the trial {sample.key} comes twice, in {where[sample.key].path} too")
            where[sample.key] = file
        if found.trials:
            if _link(job.unit.folder / TAR, folder / f"{file.name}.tar"):
                linked[f"{file.name}.tar"] = read_manifest(job.unit.folder).files[TAR]
            shards[f"{file.name}.tar"] = found.trials
    if not shards:
        first = next((f"{name}: {why}" for told in outcomes["rejected"].values() for name, why in told.items()), "")
        raise MtkdError(f"{jobs[0].file.path.parent}: no trial is left, all were rejected ({first})")
    outcomes["left_out"] |= dict.fromkeys(sorted(set.intersection(*unheard)), "is no recording's channel")
    return shards, outcomes


def _link(there: Path, here: Path) -> bool:
    """The same bytes under another name; False for a copy, where the file system knows no links."""
    try:
        os.link(there, here)
    except OSError:
        shutil.copyfile(there, here)
        return False
    return True


def _check_modalities(study: Study, shards: dict[str, list[Sample]]) -> None:
    """Refuse a modality that no recording has: nothing could be learned of it."""
    found = {modality for samples in shards.values() for sample in samples for modality in sample.modalities}
    for modality in study.signals.modalities:
        if modality not in found:
            raise MtkdError(f"{raw_folder(study)}: no recording has {modality}, which signals.modalities asks for")
