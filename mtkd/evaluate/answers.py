"""What every model says of the windows of its fold's test subjects."""

import numpy as np
import torch
from jaxtyping import Float

from mtkd.cache.source import CachedSource
from mtkd.config import Distill, Study, TeacherName
from mtkd.distill.train import load_model
from mtkd.evaluate.predictions import Predictions
from mtkd.layers.heads import TeacherSignal
from mtkd.shards.batch import Batch
from mtkd.shards.labels import UNLABELLED
from mtkd.signals.splits import Fold
from mtkd.study import taught
from mtkd.training.fold import FoldData, fold_data, refuse_leak
from mtkd.workspace import Unit

_BATCH = 32  # trials


def teacher_answers(study: Study, fold: Fold, teacher: TeacherName) -> Predictions:
    """A teacher's answers, read from its fold's cache."""
    data = fold_data(study, fold, [], study.windows)
    source = CachedSource(study, fold, [teacher], crossed=False)
    shares = _class_shares(study, data)
    seed = taught(study).seed
    parts = [_rows(source(batch)[teacher], batch, data, shares, seed) for batch in _batches(data)]
    return Predictions.concatenate(parts)


@torch.inference_mode()
def student_answers(study: Study, fold: Fold, settings: Distill, unit: Unit) -> Predictions:
    """A student's answers, computed now: no training ever read its fold's test subjects."""
    refuse_leak(unit, fold)
    data = fold_data(study, fold, settings.modalities, study.windows)
    model = load_model(study, data.cutter.shards, fold, settings, unit.folder)
    shares = _class_shares(study, data)
    return Predictions.concatenate([_rows(model(batch), batch, data, shares, study.seed) for batch in _batches(data)])


def _batches(data: FoldData) -> list[Batch]:
    keys = data.keys(data.fold.test)
    return [data.cutter.batch(keys[start : start + _BATCH]) for start in range(0, len(keys), _BATCH)]


def _class_shares(study: Study, data: FoldData) -> Float[np.ndarray, " class"]:
    labels = np.array(data.labels(data.fold.train))
    counts = np.bincount(labels[labels != UNLABELLED], minlength=study.n_classes)
    return counts / counts.sum()


def _rows(signal: TeacherSignal, batch: Batch, data: FoldData, class_shares: np.ndarray, seed: int) -> Predictions:
    """One row for every window, so that all models are scored on the same ones.

    Where a model had no signal to hear, it is left with the class shares of its training trials and a confidence of 0.
    """
    steps = batch.steps.cpu().numpy()
    heard = signal.mask.cpu().numpy()[steps]
    trial, window = np.nonzero(steps)
    keys = np.array(batch.keys)[trial]
    subjects = np.array([data.cutter.shards.samples[key].subject for key in batch.keys])[trial]
    probs = signal.logits.float().softmax(-1).cpu().numpy()[steps]
    confidence = signal.confidence.float().cpu().numpy()[steps]
    return Predictions(
        subject=subjects,
        trial=keys,
        window=window,
        fold=np.full(len(keys), data.fold.index),
        label=batch.labels.numpy()[trial],
        probs=np.where(heard[:, None], probs, class_shares),
        confidence=np.where(heard, confidence, 0.0),
        seed=np.full(len(keys), seed),
    )
