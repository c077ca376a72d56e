"""Where the student hears its teachers: from the cache, or live. It cannot tell which."""

from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Bool
from torch import Tensor

from mtkd.cache.build import load_teacher, teacher_unit, unit_of
from mtkd.config import Study, TeacherName
from mtkd.layers.heads import TeacherSignal
from mtkd.shards.batch import Batch
from mtkd.shards.read import ShardSet
from mtkd.signals.splits import Fold
from mtkd.training.fold import refuse_leak

_PARTS = ("logits", "features", "confidence", "mask")


@runtime_checkable
class Source(Protocol):
    """Answers of teachers for the windows of a batch, by name."""

    def masks(self, batch: Batch) -> dict[TeacherName, Bool[Tensor, "batch step"]]:
        """The windows that each teacher has an answer for."""
        ...

    def __call__(self, batch: Batch) -> dict[TeacherName, TeacherSignal]:
        """All teachers' answers, on the batch's device, padded as the batch is."""
        ...


class CachedSource:
    """Answers read from a fold's cache.

    Raises:
        MtkdError: the cache does not stand, was made for another fold, other weights or other windows, or its teacher
            was trained with a test subject of the fold.
    """

    def __init__(self, study: Study, fold: Fold, teachers: list[TeacherName]) -> None:
        self.units = {name: unit_of(study, fold, name) for name in teachers}
        for unit in self.units.values():
            refuse_leak(unit, fold)
        self.shards = {name: ShardSet(unit.folder) for name, unit in self.units.items()}

    def masks(self, batch: Batch) -> dict[TeacherName, Bool[Tensor, "batch step"]]:
        """See ``Source``."""
        return {name: self._part(name, "mask", batch) & batch.steps for name in self.units}

    def __call__(self, batch: Batch) -> dict[TeacherName, TeacherSignal]:
        """See ``Source``."""
        return {name: self._signal(name, batch) for name in self.units}

    def _part(self, name: TeacherName, part: str, batch: Batch) -> Tensor:
        arrays = [self.shards[name].read(key, f"{name}.{part}.npy") for key in batch.keys]
        return _padded(arrays, batch.steps.shape[1]).to(batch.steps.device)

    def _signal(self, name: TeacherName, batch: Batch) -> TeacherSignal:
        parts = {part: self._part(name, part, batch) for part in _PARTS}
        return TeacherSignal(
            parts["logits"].float(),
            parts["features"].float(),
            parts["confidence"],
            parts["mask"] & batch.steps,
            self.units[name].fingerprint,
        )


def _padded(arrays: list[np.ndarray], n_steps: int) -> Tensor:
    """Rows of trials, (n_windows, ...) each, filled up with zeros to ``n_steps``."""
    padded = np.zeros((len(arrays), n_steps, *arrays[0].shape[1:]), arrays[0].dtype)
    for row, array in enumerate(arrays):
        padded[row, : len(array)] = array
    return torch.from_numpy(padded)


class LiveSource:
    """Answers computed anew from the trials, by the same weights; for checks and for data that no cache can hold.

    Raises:
        MtkdError: a teacher does not stand, or was trained with a test subject of the fold.
    """

    def __init__(self, study: Study, shards: ShardSet, fold: Fold, teachers: list[TeacherName]) -> None:
        units = {name: teacher_unit(study, fold, name) for name in teachers}
        for unit in units.values():
            refuse_leak(unit, fold)
        self.teachers = {name: load_teacher(study, shards, fold, name) for name in teachers}
        self._fingerprints = {name: unit.fingerprint for name, unit in units.items()}

    def masks(self, batch: Batch) -> dict[TeacherName, Bool[Tensor, "batch step"]]:
        """See ``Source``."""
        heard = {name: teacher.heard(batch.keys) for name, teacher in self.teachers.items()}
        return {name: mask.to(batch.steps.device) & batch.steps for name, mask in heard.items()}

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
                self._fingerprints[name],
            )
        return said
