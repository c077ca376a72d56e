"""The stage ``spatial``: one graph teacher a fold, and one for each of its cross-fitting parts."""

import functools

import torch
from torch import nn

from mtkd.config import Modality, Study, TeacherName
from mtkd.console import say
from mtkd.parts import WHOLE, Part
from mtkd.shards.read import ShardSet, watched
from mtkd.signals.splits import Fold
from mtkd.teachers.spatial.model import SpatialTeacher
from mtkd.training.checkpoint import load_weights
from mtkd.training.fit import fit, trained_state
from mtkd.training.fold import (
    WEIGHTS,
    Job,
    common_inputs,
    fold_data,
    jobs_of,
    make_cutter,
    report_trained,
    seed_all,
    teacher_objective,
    write_trained,
)
from mtkd.training.pool import side_by_side
from mtkd.training.runtime import Runtime
from mtkd.workspace import Unit, make_unit

STAGE: TeacherName = "spatial"
MODALITIES: list[Modality] = ["eeg"]


def run(study: Study, part: Part = WHOLE) -> list[Unit]:
    """Train every teacher that does not stand yet; return their units, those of a part."""
    jobs, missing = part.pick(jobs_of(study, STAGE, unit_of)), []
    for job in jobs:
        if job.unit.stands():
            say(STAGE, f"{job.title}: reused {job.unit.folder}")
        else:
            missing.append(functools.partial(_train, job))
    side_by_side(missing)
    return [job.unit for job in jobs]


def unit_of(study: Study, fold: Fold) -> Unit:
    """The unit of one fold's teacher."""
    data = fold_data(study, fold, MODALITIES, study.windows).unit
    inputs = common_inputs(study, STAGE, fold, data) | {"settings": study.spatial.model_dump()}
    return make_unit(study, STAGE, fold.name, inputs)


def build_model(study: Study, shards: ShardSet, fold: Fold) -> SpatialTeacher:
    """The teacher before any training."""
    cutter = make_cutter(study, shards, fold, MODALITIES, study.windows)
    return SpatialTeacher(study.spatial, cutter.layouts["eeg"], study.n_classes)


def load_model(study: Study, shards: ShardSet, fold: Fold, unit: Unit) -> nn.Module:
    """A trained teacher, in evaluation mode, on the GPU if there is one."""
    unit.manifest()
    model = build_model(study, shards, fold)
    load_weights(model, unit.folder / WEIGHTS)
    return model.eval().to("cuda" if torch.cuda.is_available() else "cpu")


def _train(job: Job) -> None:
    study, fold, settings = job.study, job.fold, job.study.spatial
    data = fold_data(study, fold, MODALITIES, study.windows)
    runtime = Runtime(settings.optim)
    terms = teacher_objective(study, data, settings.confidence_weight)
    seed_all(study.seed, fold)
    model = build_model(study, data.cutter.shards, data.fold)
    train = data.loader(fold.train, settings.optim, runtime, study.seed, shuffle=True)
    val = data.loader(fold.val, settings.optim, runtime, study.seed, shuffle=False)
    signals = data.loader(fold.training, settings.optim, runtime, study.seed, shuffle=False)  # which need no label
    with watched() as heard:
        model.fit_statistics(functools.partial(iter, signals), runtime.total)
        history = fit(model, terms, train, val, settings.optim, runtime)
    heard |= signals.heard | train.heard | val.heard
    with job.unit.build() as (folder, measured):
        write_trained(folder, measured, trained_state(model), history, runtime.engine, heard)
    report_trained(STAGE, job.title, job.unit)
