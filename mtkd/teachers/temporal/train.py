"""The stage ``temporal``: one teacher a fold, and one for each of its cross-fitting parts.

Each is trained by ``accelerate launch`` with DeepSpeed on all its ranks.
"""

import functools
import gc
import shutil
from pathlib import Path

import torch

from mtkd.config import Study, TeacherName, Temporal, Windows
from mtkd.console import say
from mtkd.errors import MtkdError
from mtkd.parts import WHOLE, Part
from mtkd.processes import end_with_parent
from mtkd.seeds import of_teachers
from mtkd.shards.index import Sample
from mtkd.shards.loader import Loader
from mtkd.shards.read import ShardSet, watched
from mtkd.signals.splits import Fold
from mtkd.study import variants
from mtkd.teachers.temporal.model import TemporalTeacher
from mtkd.teachers.temporal.unpack import backbone_inputs, unpack, unpack_aside
from mtkd.teachers.temporal.weights import Parting, in_one_piece
from mtkd.training.alone import alone
from mtkd.training.fit import fit, trained_state
from mtkd.training.fold import (
    FoldData,
    Job,
    common_inputs,
    fold_data,
    jobs_of,
    make_cutter,
    quiet_libraries,
    report_epoch,
    report_trained,
    seed_all,
    teacher_objective,
    write_trained,
)
from mtkd.training.launch import launch
from mtkd.training.resume import Checkpoints
from mtkd.training.runtime import Runtime, launched
from mtkd.training.zero import refuse_compile
from mtkd.workspace import Unit, make_unit

STAGE: TeacherName = "temporal"
_OF_THE_MACHINE = {"accelerate", "deepspeed", "max_tokens", "activation_checkpointing", "compile", "checkpoint_steps"}
"""Keys that decide where and how fast a teacher is trained, not what it learns."""


def run(study: Study, part: Part = WHOLE) -> list[Unit]:
    """Train every teacher that does not stand yet; return their units, those of a part.

    Under ``accelerate launch`` this process is one of its ranks; otherwise it launches them and waits.
    """
    if launched():
        return _as_a_rank(study, part)
    jobs = part.pick(jobs_of(study, STAGE, unit_of))
    missing = [job for job in jobs if not job.unit.stands()]
    for job in jobs:
        if job not in missing:
            say(STAGE, f"{job.title}: reused {job.unit.folder}")
            _forget_checkpoints(job.unit)
    if missing:
        _unpack_all(study)
        if emulates_bfloat16(study.temporal):
            say(STAGE, "temporal.dtype = bfloat16, for which this CPU has no instructions: float32 is far faster here")
        launch(study, STAGE, part)
    return [job.unit for job in jobs]


def _as_a_rank(study: Study, part: Part) -> list[Unit]:
    end_with_parent()
    runtime = Runtime(study.temporal.optim, study.temporal.deepspeed)
    refuse_compile(study.temporal, runtime.stage)
    if runtime.rank == 0:  # what it finds out about large files the others then read
        _unpack_all(study)
    runtime.wait()
    jobs = part.pick(jobs_of(study, STAGE, unit_of))
    runtime.agree([job.unit.fingerprint for job in jobs], "the folds, the data or the backbone")
    # Each rank has looked by itself, and another run may have finished a fold in between.
    missing = runtime.from_first([index for index, job in enumerate(jobs) if not job.unit.stands()])
    if runtime.rank == 0:
        for index in set(range(len(jobs))) - set(missing):
            _forget_checkpoints(jobs[index].unit)
    for index in missing:
        with alone(jobs[index].unit, runtime, functools.partial(say, STAGE)) as needed:
            if needed:
                _train(jobs[index], runtime)
        gc.collect()  # an engine and its hooks hold each other, with the backbone
    return [job.unit for job in jobs]


def _unpack_all(study: Study) -> None:
    """The backbones of all variants; one with random weights has other ones with each seed."""
    for each in of_teachers(study):
        for own in variants(each, STAGE).values():
            unpack_aside(own)


def emulates_bfloat16(settings: Temporal) -> bool:
    """Whether the backbone would compute in emulated bfloat16: eighteen times slower than float32 on AVX2 alone."""
    if settings.dtype != "bfloat16" or torch.cuda.is_available():
        return False
    return not torch.ops.mkldnn._is_mkldnn_bf16_supported()


def unit_of(study: Study, fold: Fold) -> Unit:
    """The unit of one fold's teacher.

    Ranks and engine are not among its inputs, so that a teacher that a cluster trained stands on a laptop too. Between
    them a training differs as between two seeds of dropout; without dropout they agree. The manifest tells the engine.
    """
    settings = study.temporal
    data = fold_data(study, fold, settings.modalities, patches(study)).unit
    inputs = common_inputs(study, STAGE, fold, data) | {
        "settings": settings.model_dump(exclude=_OF_THE_MACHINE | {"backbone"}),
        "backbone": backbone_inputs(study),
    }
    return make_unit(study, STAGE, fold.name, inputs)


def patches(study: Study) -> Windows:
    """The cut of a trial into the teacher's steps."""
    return Windows(window_s=study.temporal.patch_s, hop_s=study.temporal.patch_s)


def build_model(study: Study, shards: ShardSet, fold: Fold, parting: Parting = in_one_piece) -> TemporalTeacher:
    """The teacher before any training, the backbone's own weights aside, which it may keep in parts over the ranks."""
    quiet_libraries()
    settings = study.temporal
    cutter = make_cutter(study, shards, fold, settings.modalities, patches(study))
    return TemporalTeacher(settings, study.windows, cutter.layouts, study.n_classes, unpack(study), parting)


def _train(job: Job, runtime: Runtime) -> None:
    """Train one teacher as one of the ranks."""
    study, fold, unit, settings = job.study, job.fold, job.unit, job.study.temporal
    data = fold_data(study, fold, settings.modalities, patches(study))
    tell = functools.partial(say, STAGE)
    checkpoints = Checkpoints(_checkpoints(unit), runtime, settings.checkpoint_steps, tell, unit.fingerprint)
    terms = teacher_objective(study, data, settings.confidence_weight)
    watch = functools.partial(report_epoch, STAGE, job.title)
    signals = data.loader(fold.training, settings.optim, runtime, study.seed, shuffle=False)
    with watched() as heard:
        model = _prepared(study, data, signals, runtime)
        tell(f"{job.title}: {runtime.engine}, {len(data.keys(fold.train))} training trials")
        train, val = loaders(study, data, model, runtime)
        history = fit(model, terms, train, val, settings.optim, runtime, watch, checkpoints)
    heard |= signals.heard | train.heard | val.heard
    weights = trained_state(model)
    if runtime.rank == 0:
        with unit.build() as (folder, measured):
            write_trained(folder, measured, weights, history, runtime.engine, heard)
        report_trained(STAGE, job.title, unit)
    checkpoints.clear()


def _checkpoints(unit: Unit) -> Path:
    """Where those of a training lie, beside the folder that it will be."""
    return unit.folder.with_name(f"{unit.folder.name}.checkpoints")


def _forget_checkpoints(unit: Unit) -> None:
    """Those of a training that was killed at its very end, when its teacher stood already."""
    shutil.rmtree(_checkpoints(unit), ignore_errors=True)


def loaders(study: Study, data: FoldData, model: TemporalTeacher, runtime: Runtime) -> tuple[Loader, Loader]:
    """Those of training and validation trials, shared by tokens and computed ``max_tokens`` at a time.

    Raises:
        MtkdError: a trial has more tokens than that, or than the backbone reads.
    """
    settings = study.temporal

    def size(sample: Sample) -> int:
        return model.n_tokens(sample, data.cutter.n_steps(sample))

    samples = data.cutter.shards.index.samples
    longest = max(samples, key=data.cutter.n_steps)
    n_positions, most = model.n_positions(data.cutter.n_steps(longest)), model.backbone.longest
    if most is not None and n_positions > most:
        raise MtkdError(
            f"temporal.patch_s = {settings.patch_s:g}: the trial {longest.key} has {n_positions} positions, and "
            f"{settings.backbone} knows {most}"
        )
    largest = max(samples, key=size)
    if size(largest) > settings.max_tokens:
        raise MtkdError(
            f"temporal.patch_s = {settings.patch_s:g}: the trial {largest.key} has {size(largest)} tokens, and "
            f"temporal.max_tokens is {settings.max_tokens}"
        )
    make = functools.partial(data.loader, optim=settings.optim, runtime=runtime, seed=study.seed)
    make = functools.partial(make, size=size, most=settings.max_tokens, padded=not model.backbone.packed)
    return make(data.fold.train, shuffle=True), make(data.fold.val, shuffle=False)


def _prepared(study: Study, data: FoldData, signals: Loader, runtime: Runtime) -> TemporalTeacher:
    """With its scales fitted on ``signals``, which need no label."""
    seed_all(study.seed, data.fold)
    model = build_model(study, data.cutter.shards, data.fold, runtime.parting)
    model.fit_statistics(lambda: signals, runtime.total)
    if study.temporal.compile:
        model.backbone.compile_layers()
    torch.manual_seed(study.seed * 1000 + data.fold.index + 1_000_003 * runtime.rank)  # own dropout masks on each rank
    return model
