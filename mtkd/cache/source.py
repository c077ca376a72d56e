"""Where the student hears its teachers: from the cache, or live. It cannot tell which."""

from typing import Protocol

import torch
from torch import Tensor

from mtkd.cache.build import Teacher, unit_of
from mtkd.config import Study, TeacherName
from mtkd.errors import MtkdError
from mtkd.layers.heads import TeacherSignal
from mtkd.shards.batch import Batch
from mtkd.shards.read import ShardSet
from mtkd.signals.splits import Fold

_PARTS = ("logits", "features", "confidence", "mask")


class Source(Protocol):
    """Answers of teachers for the windows of a batch, by name."""

    def __call__(self, batch: Batch) -> dict[TeacherName, TeacherSignal]:
        """All teachers' answers, on the batch's device, padded as the batch is."""
        ...


class CachedSource:
    """Answers read from a fold's cache.

    Raises:
        MtkdError: the cache does not stand, or was made for another fold, other weights or other windows.
    """

    def __init__(self, study: Study, fold: Fold, teachers: list[TeacherName]) -> None:
        unit = unit_of(study, fold)
        manifest = unit.manifest()
        for subject in fold.test:
            if subject in manifest.inputs["subjects"]["train"] + manifest.inputs["subjects"]["val"]:
                raise MtkdError(
                    f"{unit.folder}: its teachers were trained with {subject}, a test subject of fold {fold.index}"
                )
        self.shards, self.teachers, self.fingerprint = ShardSet(unit.folder), teachers, unit.fingerprint

    def __call__(self, batch: Batch) -> dict[TeacherName, TeacherSignal]:
        """See ``Source``."""
        n_steps = batch.steps.shape[1]
        return {name: self._signal(name, batch.keys, n_steps, batch.steps) for name in self.teachers}

    def _signal(self, name: TeacherName, keys: list[str], n_steps: int, steps: Tensor) -> TeacherSignal:
        parts = {part: self._padded(f"{name}.{part}.npy", keys, n_steps).to(steps.device) for part in _PARTS}
        return TeacherSignal(
            parts["logits"].float(),
            parts["features"].float(),
            parts["confidence"],
            parts["mask"] & steps,
            self.fingerprint,
        )

    def _padded(self, member: str, keys: list[str], n_steps: int) -> Tensor:
        arrays = [self.shards.read(key, member) for key in keys]
        padded = torch.zeros(len(keys), n_steps, *arrays[0].shape[1:], dtype=torch.from_numpy(arrays[0].copy()).dtype)
        for row, array in enumerate(arrays):
            padded[row, : len(array)] = torch.from_numpy(array.copy())
        return padded


class LiveSource:
    """Answers computed anew from the trials, by the same weights; for checks and for data that no cache can hold."""

    def __init__(self, study: Study, shards: ShardSet, fold: Fold, teachers: list[TeacherName]) -> None:
        self.teachers = {name: Teacher(study, shards, fold, name) for name in teachers}

    def __call__(self, batch: Batch) -> dict[TeacherName, TeacherSignal]:
        """See ``Source``."""
        said = {}
        for name, teacher in self.teachers.items():
            signal = teacher.say(batch.keys)
            said[name] = TeacherSignal(
                signal.logits.to(batch.steps.device),
                signal.features.to(batch.steps.device),
                signal.confidence.to(batch.steps.device),
                signal.mask.to(batch.steps.device) & batch.steps,
                teacher.unit.fingerprint,
            )
        return said
