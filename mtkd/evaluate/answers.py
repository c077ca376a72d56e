"""What every model says of the windows of its fold's test subjects."""

import numpy as np
import torch

from mtkd.cache.source import CachedSource
from mtkd.config import Distill, Study, TeacherName
from mtkd.distill.train import load_model
from mtkd.evaluate.predictions import Predictions
from mtkd.layers.heads import TeacherSignal
from mtkd.shards.batch import Batch
from mtkd.signals.splits import Fold
from mtkd.training.fold import FoldData, fold_data
from mtkd.workspace import Unit

_BATCH = 32  # trials


def teacher_answers(study: Study, fold: Fold, teacher: TeacherName) -> Predictions:
    """A teacher's answers, read from its fold's cache."""
    data = fold_data(study, fold, [], study.windows)
    source = CachedSource(study, fold, [teacher])
    return Predictions.concatenate([_rows(source(batch)[teacher], batch, data) for batch in _batches(data)])


@torch.inference_mode()
def student_answers(study: Study, fold: Fold, settings: Distill, unit: Unit) -> Predictions:
    """A student's answers, computed now: no training ever read its fold's test subjects."""
    unit.manifest()
    data = fold_data(study, fold, settings.modalities, study.windows)
    model = load_model(study, data.cutter.shards, settings, unit.folder)
    return Predictions.concatenate([_rows(model(batch), batch, data) for batch in _batches(data)])


def _batches(data: FoldData) -> list[Batch]:
    keys = data.keys(data.fold.test)
    return [data.cutter.batch(keys[start : start + _BATCH]) for start in range(0, len(keys), _BATCH)]


def _rows(signal: TeacherSignal, batch: Batch, data: FoldData) -> Predictions:
    """One row for every window the model answered."""
    mask = signal.mask.cpu().numpy()
    trial, window = np.nonzero(mask)
    keys = np.array(batch.keys)[trial]
    subjects = np.array([data.cutter.shards.samples[key].subject for key in batch.keys])[trial]
    return Predictions(
        subject=subjects,
        trial=keys,
        window=window,
        fold=np.full(len(keys), data.fold.index),
        label=batch.labels.numpy()[trial],
        probs=signal.logits.float().softmax(-1).cpu().numpy()[mask],
        confidence=signal.confidence.float().cpu().numpy()[mask],
    )
