"""The stage ``shards``: recordings become shards, one WebDataset tar a subject, in parallel."""

import functools
import os
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import joblib
import numpy as np

from mtkd.config import Modality, Study
from mtkd.console import counted, say
from mtkd.errors import MtkdError
from mtkd.files import sha256, sha256_once
from mtkd.processes import become_worker
from mtkd.shards.index import Sample, write_index
from mtkd.shards.read import ShardSet
from mtkd.shards.schema import SampleInfo, encode
from mtkd.shards.write import write_shard
from mtkd.signals.download import fetch
from mtkd.signals.preprocess import Signal, modalities_of, preprocess
from mtkd.signals.readers import deap, edf
from mtkd.signals.recording import Span
from mtkd.signals.simulated import write_study
from mtkd.workspace import Unit, make_unit

VERSION = 3  # of the arrays this code makes of a recording
RAW_VERSION = 1  # of the simulated recordings
_READERS: dict[str, ModuleType] = {"deap": deap, "edf": edf}


def run(study: Study) -> Unit:
    """Build the study's shards unless they stand; return their unit."""
    make_raw(study)
    unit, files = _plan(study)
    if unit.stands():
        say("shards", f"reused {unit.folder}")
        return unit
    started = time.perf_counter()
    with unit.build() as (folder, measured):
        jobs = joblib.Parallel(n_jobs=-1, return_as="generator")
        per_subject = _by_subject(files)
        write = functools.partial(_work, starter=os.getpid(), study=study, folder=folder)
        built = jobs(joblib.delayed(write)(subject, paths) for subject, paths in per_subject.items())
        shards: dict[str, list[Sample]] = {}
        for subject, samples in zip(per_subject, built, strict=True):
            shards[f"{subject}.tar"] = samples
            say("shards", f"subject {subject}: {counted(len(samples), 'trial')} ({len(shards)} of {len(per_subject)})")
        _refuse_changed(files, unit.inputs["files"])
        _check_modalities(study, shards)
        write_index(folder, shards)
        measured.update(_summary(study, shards), seconds=round(time.perf_counter() - started, 2))
    say("shards", f"built {unit.folder}")
    return unit


def unit_of(study: Study) -> Unit:
    """The unit of the study's shards."""
    return _plan(study)[0]


def open_shards(study: Study) -> tuple[Unit, ShardSet]:
    """The study's shards, which must stand and be whole."""
    unit = unit_of(study)
    unit.manifest()
    return unit, _opened(unit.folder)


def recordings(study: Study) -> dict[Path, str]:
    """The study's files with the subject of each.

    Raises:
        MtkdError: there are none, or a subject that the study names has none.
    """
    folder = raw_folder(study)
    files = _READERS[study.data.reader].sources(folder, study.data)
    wanted = study.data.subjects
    if wanted is not None:
        for subject in wanted:
            if subject not in files.values():
                raise MtkdError(f"{folder}: no file of the subject {subject} that data.subjects names")
        files = {path: subject for path, subject in files.items() if subject in wanted}
    for path in files:
        if not path.is_file():
            raise MtkdError(f"{path}: is no file")
    if not files:
        raise MtkdError(f"{folder}: no file that the reader {study.data.reader!r} takes")
    return files


def _plan(study: Study) -> tuple[Unit, dict[Path, str]]:
    files = recordings(study)
    inputs = {
        "stage": "shards",
        "version": VERSION,
        "data": study.data.model_dump(exclude={"folder", "download", "simulate", "subjects"}),
        "signals": study.signals.model_dump(),
        "files": {path.name: sha256_once(path) for path in files},
    }
    return make_unit(study, "shards", "all", inputs), files


def make_raw(study: Study) -> None:
    """Simulate the recordings or fetch public ones where the study says so and they are not there yet."""
    simulated = study.data.simulated
    if simulated is not None:
        unit = _simulated_unit(study)
        if not unit.stands():
            say("shards", f"simulating {simulated.n_subjects} subjects in DEAP's file format")
            with unit.build() as (aside, _):
                write_study(simulated, aside, lambda name: say("shards", f"wrote {name}"))
    elif study.data.folder is None:
        fetch(_fetched(study))


def raw_folder(study: Study) -> Path:
    """Where the recordings lie.

    Raises:
        MtkdError: the folder of the study file does not exist, or the stage ``shards`` has not yet made its own.
    """
    data = study.data
    if data.folder is not None:
        folder = Path(data.folder)
        if not folder.is_dir():
            raise MtkdError(f"data.folder = {folder}: no such folder")
        return folder
    folder = _simulated_unit(study).folder if data.simulated is not None else _fetched(study)
    if not folder.is_dir():
        raise MtkdError(f"{folder}: not there yet; run `mtkd shards` first, or name the data.folder it was run with")
    return folder


def _simulated_unit(study: Study) -> Unit:
    assert study.data.simulated is not None
    inputs = {"stage": "raw", "version": RAW_VERSION, "simulate": study.data.simulated.model_dump()}
    return make_unit(study, "raw", "simulated", inputs)


def _fetched(study: Study) -> Path:
    return Path(study.workspace) / "raw" / "eegmat"


@functools.lru_cache(maxsize=8)
def _opened(folder: Path) -> ShardSet:
    return ShardSet(folder)


def _by_subject(files: dict[Path, str]) -> dict[str, list[Path]]:
    grouped: dict[str, list[Path]] = {}
    for path, subject in files.items():
        grouped.setdefault(subject, []).append(path)
    return dict(sorted(grouped.items()))


def _work(subject: str, paths: list[Path], starter: int, study: Study, folder: Path) -> list[Sample]:
    become_worker(starter)
    return _write_subject(subject, paths, study, folder)


def _write_subject(subject: str, paths: list[Path], study: Study, folder: Path) -> list[Sample]:
    samples = (encode(subject, span, signals) for path in paths for span, signals in _trials(path, study))
    return write_shard(folder / f"{subject}.tar", samples)


def _trials(path: Path, study: Study) -> Iterator[tuple[Span, dict[Modality, Signal]]]:
    for recording in _READERS[study.data.reader].read(path, study.data):
        absent = [name for name in study.signals.modalities if name not in modalities_of(recording)]
        if absent and study.data.absent == "refuse":
            raise MtkdError(
                f"{path}: has no {absent[0]}, which signals.modalities asks for (data.absent: mask takes it so)"
            )
        if len(absent) == len(study.signals.modalities):
            raise MtkdError(f"{path}: has none of the modalities of signals.modalities")
        yield from preprocess(recording, study.signals)


def _refuse_changed(files: dict[Path, str], digests: dict[str, str]) -> None:
    """Make sure that what was read is what the unit is named by."""
    for path in files:
        if sha256(path) != digests[path.name]:
            raise MtkdError(f"{path}: was changed while it was read; run it again")


def _check_modalities(study: Study, shards: dict[str, list[Sample]]) -> None:
    """Refuse a modality that no recording has: nothing could be learned of it."""
    found = {modality for samples in shards.values() for sample in samples for modality in sample.modalities}
    for modality in study.signals.modalities:
        if modality not in found:
            raise MtkdError(f"{raw_folder(study)}: no recording has {modality}, which signals.modalities asks for")


def _summary(study: Study, shards: dict[str, list[Sample]]) -> dict[str, Any]:
    samples: list[SampleInfo] = [sample for group in shards.values() for sample in group]
    rated = {
        rating: [sample.ratings[rating] for sample in samples if rating in sample.ratings] for rating in study.labels
    }
    return {
        "n_subjects": len(shards),
        "n_trials": len(samples),
        "hours": round(sum(sample.duration_s for sample in samples) / 3600, 3),
        "trials_with": {
            name: sum(name in sample.modalities for sample in samples) for name in study.signals.modalities
        },
        "share_high": {
            rating: float(np.mean(np.array(values) > study.labels[rating]))
            for rating, values in rated.items()
            if values
        },
    }
