"""What every model says of the windows of its fold's test subjects."""

from collections.abc import Iterator

import numpy as np
import torch

from mtkd.cache.source import CachedSource
from mtkd.config import Distill, Modality, Study, TeacherName
from mtkd.distill.train import load_model
from mtkd.evaluate.predictions import Predictions
from mtkd.layers.heads import TeacherSignal
from mtkd.seeds import taught
from mtkd.shards.batch import Batch
from mtkd.shards.labels import UNLABELLED
from mtkd.signals.splits import Fold
from mtkd.training.fold import fold_data, refuse_leak
from mtkd.workspace import Unit

_BATCH = 32  # trials


class Answering:
    """The test subjects of a fold, and how what a model says of them becomes rows.

    Args:
        study: with the seed of the training that answers.
        fold: whose test subjects are asked about.
        modalities: that the model reads; none where its answers are read from a cache.
    """

    def __init__(self, study: Study, fold: Fold, modalities: list[Modality]) -> None:
        self.seed = study.seed
        self.data = fold_data(study, fold, modalities, study.windows)
        labels = np.array(self.data.labels(fold.train))
        counts = np.bincount(labels[labels != UNLABELLED], minlength=study.n_classes)
        self.class_shares = counts / counts.sum()

    def batches(self) -> Iterator[Batch]:
        """All of their trials, some at a time."""
        keys = self.data.keys(self.data.fold.test)
        for start in range(0, len(keys), _BATCH):
            yield self.data.cutter.batch(keys[start : start + _BATCH])

    def rows(self, signal: TeacherSignal, batch: Batch) -> Predictions:
        """One row for every window, so that all models are scored on the same ones.

        Where a model had no signal to hear, it is left with the class shares of its training trials and a confidence of
        0.
        """
        steps = batch.steps.cpu().numpy()
        heard = signal.mask.cpu().numpy()[steps]
        trial, window = np.nonzero(steps)
        keys = np.array(batch.keys)[trial]
        subjects = np.array([self.data.cutter.shards.samples[key].subject for key in batch.keys])[trial]
        probs = signal.logits.float().softmax(-1).cpu().numpy()[steps]
        confidence = signal.confidence.float().cpu().numpy()[steps]
        return Predictions(
            subject=subjects,
            trial=keys,
            window=window,
            fold=np.full(len(keys), self.data.fold.index),
            label=batch.labels.numpy()[trial],
            probs=np.where(heard[:, None], probs, self.class_shares),
            confidence=np.where(heard, confidence, 0.0),
            seed=np.full(len(keys), self.seed),
        )


def teacher_answers(study: Study, fold: Fold, teacher: TeacherName) -> Predictions:
    """A teacher's answers, read from its fold's cache."""
    asked, source = Answering(taught(study), fold, []), CachedSource(study, fold, [teacher], crossed=False)
    return Predictions.concatenate([asked.rows(source(batch)[teacher], batch) for batch in asked.batches()])


@torch.inference_mode()
def student_answers(study: Study, fold: Fold, settings: Distill, unit: Unit) -> Predictions:
    """A student's answers, computed now: no training ever read its fold's test subjects."""
    refuse_leak(unit, fold)
    asked = Answering(study, fold, settings.modalities)
    model = load_model(study, asked.data.cutter.shards, fold, settings, unit.folder)
    return Predictions.concatenate([asked.rows(model(batch), batch) for batch in asked.batches()])
