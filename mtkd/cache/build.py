"""The stage ``cache``: what each teacher says of every window of every trial, one set a teacher and fold.

A teacher from cross-fitting has a set of its own, with the trials of the subjects that it left out.

A trial has one member, see ``mtkd.cache.members``. Tars, keys and their order are those of the data's shards, so that a
data set and the caches of its teachers are read as a zip of streams.
"""

import functools
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch

from mtkd.cache.components import fit_components, heard_features, reduced
from mtkd.cache.members import encode_rows, rows_of
from mtkd.config import Modality, Study, TeacherName
from mtkd.console import say
from mtkd.errors import MtkdError
from mtkd.files import scratch_folder
from mtkd.layers.heads import TeacherSignal
from mtkd.parts import WHOLE, Part
from mtkd.seeds import taught
from mtkd.shards.batch import Cutter
from mtkd.shards.build import open_shards
from mtkd.shards.index import Sample, write_index
from mtkd.shards.read import Heard, ShardSet, watched
from mtkd.shards.schema import SampleInfo
from mtkd.shards.shares import held
from mtkd.shards.write import write_shard
from mtkd.signals.splits import Fold, crossfit
from mtkd.teachers.spatial import train as spatial
from mtkd.teachers.temporal import train as temporal
from mtkd.teachers.temporal.model import TemporalTeacher
from mtkd.teachers.temporal.trained import load_model as load_temporal
from mtkd.teachers.temporal.unpack import hidden_size
from mtkd.training.fold import Job, jobs_of, make_cutter
from mtkd.training.pool import side_by_side
from mtkd.workspace import Unit, make_unit

STAGE = "cache"
VERSION = 4
TEACHERS: tuple[TeacherName, ...] = get_args(TeacherName)
_OF_THE_MACHINE = {"max_memory"}  # keys that decide where a teacher answers, not what it says
BATCH = 8  # trials that the spatial teacher answers at once


def run(study: Study, part: Part = WHOLE) -> list[Unit]:
    """Write the cache of every teacher and fold that does not stand yet; return their units, those of a part."""
    wanted = {teacher: jobs_of(study, teacher, functools.partial(unit_of, teacher=teacher)) for teacher in TEACHERS}
    jobs = part.pick([(teacher, job) for teacher, own in wanted.items() for job in own])
    small = []
    for teacher, job in jobs:
        if job.unit.stands():
            say(STAGE, f"{teacher}, {job.title}: reused {job.unit.folder}")
        elif teacher == temporal.STAGE:
            _write(job, teacher)  # in turn: each may take all cores, and whatever memory there is
        else:
            small.append(functools.partial(_write, job, teacher))
    side_by_side(small)
    return [job.unit for _, job in jobs]


def teacher_unit(study: Study, fold: Fold, teacher: TeacherName) -> Unit:
    """The unit of one teacher of one fold, or of one of its parts, whom students of the study's seed hear."""
    return {"temporal": temporal.unit_of, "spatial": spatial.unit_of}[teacher](taught(study), fold)


def unit_of(study: Study, fold: Fold, teacher: TeacherName) -> Unit:
    """The unit of one teacher's cache of one fold; its inputs hold the digest of the teacher's weights.

    Raises:
        MtkdError: the teacher of the fold does not stand.
    """
    inputs = {
        "stage": STAGE,
        "version": VERSION,
        "teacher": teacher,
        "settings": study.cache.model_dump(exclude=_OF_THE_MACHINE),
        "windows": study.windows.model_dump(),
        "fold": fold.index,
        "split": fold.fingerprint,
        "subjects": {"train": fold.train, "val": fold.val} | ({"left_out": fold.left_out} if fold.part else {}),
        "data": open_shards(study)[0].manifest().digest,
        "weights": teacher_unit(study, fold, teacher).manifest().digest,
    }
    return make_unit(study, STAGE, f"{teacher}-{fold.name}", inputs)


def listened_to(study: Study, fold: Fold, crossed: bool) -> list[Fold]:
    """Whose teachers a student hears: the fold's own, and, where it is ``crossed``, those of each part of the fold.

    The latter of the subjects that the part left out; ``distill.crossfit`` is whether a student is crossed.
    """
    return [fold, *(crossfit(fold, study.splits) if crossed else [])]


class Teacher:
    """A trained teacher with the cut of the trials that it reads.

    Args:
        model: in evaluation mode, where it is to answer.
        cutter: cuts trials into its steps.
        most: tokens that the temporal teacher, or trials that the spatial one answers at once.
    """

    def __init__(self, model: Any, cutter: Cutter, most: int) -> None:
        self.model, self.cutter, self._most = model, cutter, most
        self.device = next(model.heads.parameters()).device
        self._padded = isinstance(model, TemporalTeacher) and not model.backbone.packed

    def batches(self, samples: list[Sample]) -> Iterator[list[Sample]]:
        """The same trials, in order, as many together as it answers at once."""
        some: list[Sample] = []
        sizes: list[int] = []
        for sample in samples:
            size = self._size(sample)
            if some and held([*sizes, size], self._padded) > self._most:
                yield some
                some, sizes = [], []
            some.append(sample)
            sizes.append(size)
        if some:
            yield some

    def _size(self, sample: Sample) -> int:
        """Of a trial: its tokens, or one."""
        if isinstance(self.model, TemporalTeacher):
            return self.model.n_tokens(sample, self.cutter.n_steps(sample))
        return 1

    @torch.no_grad()
    def say(self, keys: list[str]) -> TeacherSignal:
        """Its answers for all windows of some trials."""
        return self.model(self.cutter.batch(keys).to(self.device))

    def heard(self, keys: list[str]) -> torch.Tensor:
        """The windows for which it has one, (trial, window)."""
        return self.model.heard(self.cutter.batch(keys).to(self.device))


def load_teacher(study: Study, shards: ShardSet, fold: Fold, name: TeacherName) -> Teacher:
    """The teacher of a fold, which must stand."""
    study = taught(study)
    load = load_temporal if name == "temporal" else spatial.load_model
    modalities: list[Modality] = study.temporal.modalities if name == "temporal" else spatial.MODALITIES
    windows = temporal.patches(study) if name == "temporal" else study.windows
    model = load(study, shards, fold, teacher_unit(study, fold, name))
    most = study.temporal.max_tokens if name == "temporal" else BATCH
    return Teacher(model, make_cutter(study, shards, fold, modalities, windows), most)


def _write(job: Job, name: TeacherName) -> None:
    study, fold, started = job.study, job.fold, time.perf_counter()
    _, shards = open_shards(study)
    windows = make_cutter(study, shards, fold, [], study.windows)
    teacher, asked = load_teacher(study, shards, fold, name), asked_about(shards, windows, fold)
    if not asked:
        told = f"no trial of {', '.join(fold.left_out)} holds a window; data.exclude leaves subjects out"
        raise MtkdError(f"{STAGE}: {fold.title}: {told}")
    fitted = Heard()
    with job.unit.build() as (folder, measured):
        if is_reduced(study, name):
            with scratch_folder(folder) as whole:
                _write_answers(whole, asked, name, teacher, windows, np.dtype(np.float32))
                index, measured["explained"], fitted = _reduce(job, name, ShardSet(whole), folder)
        else:
            index = _write_answers(folder, asked, name, teacher, windows, np.dtype(study.cache.dtype))
        n_windows = sum(windows.n_steps(sample) for group in index.values() for sample in group)
        seconds = time.perf_counter() - started
        measured.update(n_windows=n_windows, seconds=round(seconds, 2), n_bytes=_size(folder))
        learned = teacher_unit(study, fold, name).manifest().measured
        heard = fitted | Heard(set(learned["subjects"]), set(learned["stimuli"]))
        measured.update(subjects=sorted(heard.subjects), stimuli=sorted(heard.stimuli))
    size = f"{measured['n_bytes'] / 1e6:.1f} MB"
    say(STAGE, f"{name}, {job.title}: {n_windows} windows in {seconds:.0f} s, {size}")


def _n_features(study: Study, teacher: TeacherName) -> int:
    return hidden_size(study) if teacher == temporal.STAGE else 2 * study.spatial.width


def n_cached(study: Study, teacher: TeacherName) -> int:
    """How many numbers the cache holds of a teacher's features."""
    n_features = _n_features(study, teacher)
    return min(n_features, study.cache.n_components or n_features)


def is_reduced(study: Study, teacher: TeacherName) -> bool:
    """Whether these are principal components."""
    return study.cache.n_components is not None and n_cached(study, teacher) < _n_features(study, teacher)


def _write_answers(
    folder: Path,
    asked: dict[str, list[Sample]],
    name: TeacherName,
    teacher: Teacher,
    windows: Cutter,
    dtype: np.dtype,
) -> dict[str, list[Sample]]:
    """A set of what a teacher says; its index."""
    index = {
        tar: write_shard(folder / tar, answers(some, name, teacher, windows, dtype)) for tar, some in asked.items()
    }
    write_index(folder, index)
    return index


def _reduce(job: Job, name: TeacherName, whole: ShardSet, folder: Path) -> tuple[dict[str, list[Sample]], float, Heard]:
    """The same set with principal components in place of features, the share of the variance that they hold, and
    whose answers they were fitted on.
    """
    study, fold = job.study, job.fold
    own = [
        each
        for each in whole.index.samples
        if each.subject in fold.training and fold.takes(each.subject, each.stimulus)
    ]
    with watched() as heard:
        found = fit_components(heard_features(whole, [each.key for each in own], name), n_cached(study, name))
    found.save(folder)
    dtype = np.dtype(study.cache.dtype)
    index = {
        tar: write_shard(folder / tar, (encode_rows(*one, name) for one in reduced(whole, samples, name, found, dtype)))
        for tar, samples in whole.index.shards.items()
    }
    write_index(folder, index)
    return index, round(found.explained, 4), heard


def asked_about(shards: ShardSet, windows: Cutter, fold: Fold) -> dict[str, list[Sample]]:
    """The trials of each tar that hold a window; of a cross-fitting part those of the subjects that it left out."""
    found = {}
    for tar, group in shards.index.shards.items():
        own = [each for each in group if not fold.left_out or each.subject in fold.left_out]
        if whole := [sample for sample in own if windows.n_steps(sample)]:
            found[tar] = whole
    return found


def answers(
    samples: list[Sample], name: TeacherName, teacher: Teacher, windows: Cutter, dtype: np.dtype
) -> Iterator[tuple[SampleInfo, dict[str, bytes]]]:
    """Of trials that hold a window, some trials at a time.

    Raises:
        MtkdError: as ``encode_rows``.
    """
    for some in teacher.batches(samples):
        signal = teacher.say([sample.key for sample in some])
        for row, sample in enumerate(some):
            yield encode_rows(sample, rows_of(signal, row, windows.n_steps(sample), dtype), name)


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.iterdir())
