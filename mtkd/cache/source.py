"""Where the student hears its teachers: from the cache here, or live. It cannot tell which."""

from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Bool
from torch import Tensor

from mtkd.cache.build import asked_about, listened_to, n_cached, unit_of
from mtkd.cache.members import PARTS, check_rows, member_of, read_rows
from mtkd.config import Study, TeacherName
from mtkd.errors import MtkdError
from mtkd.files import fingerprint
from mtkd.layers.heads import TeacherSignal
from mtkd.shards.batch import Batch, Cutter
from mtkd.shards.build import open_shards
from mtkd.shards.index import Sample
from mtkd.shards.read import ShardSet
from mtkd.signals.splits import Fold
from mtkd.training.fold import refuse_leak
from mtkd.workspace import Unit


@runtime_checkable
class Source(Protocol):
    """Answers of teachers for the windows of a batch, by name."""

    def masks(self, batch: Batch) -> dict[TeacherName, Bool[Tensor, "batch step"]]:
        """The windows that each teacher has an answer for."""
        ...

    def asked(self, batch: Batch) -> list[int]:
        """Whose answers each trial's are: 0 for the fold's own teachers, or the part that left the subject out.

        Each is a training of its own, whose features are no other's.
        """
        ...

    def __call__(self, batch: Batch) -> dict[TeacherName, TeacherSignal]:
        """All teachers' answers, on the batch's device, padded as the batch is."""
        ...


class CachedSource:
    """Answers read from a fold's cache; where it is ``crossed``, a training subject's are of the teacher without it.

    Raises:
        MtkdError: the cache does not stand, was made for another fold, other weights or other windows, or its teacher
            was trained with a test subject of the fold or with one that it left out.
    """

    def __init__(self, study: Study, fold: Fold, teachers: list[TeacherName], crossed: bool = True) -> None:
        folds = listened_to(study, fold, crossed)
        units = {name: [unit_of(study, each, name) for each in folds] for name in teachers}
        refuse_leaks(units, folds)
        self.fingerprints = {name: made_by(own) for name, own in units.items()}
        self._sets = {name: [ShardSet(unit.folder) for unit in own] for name, own in units.items()}
        for own in self._sets.values():
            for each, whose in zip(own, folds, strict=True):
                _refuse_other_trials(study, each, whose)
        self._sizes = {name: {"logits": study.n_classes, "features": n_cached(study, name)} for name in teachers}
        self._sound: set[tuple[str, str]] = set()
        self._asked = asked_of(open_shards(study)[1].index.samples, folds)

    def masks(self, batch: Batch) -> dict[TeacherName, Bool[Tensor, "batch step"]]:
        """See ``Source``."""
        return {name: _part(self._rows(name, batch), "mask", batch) & batch.steps for name in self._sets}

    def asked(self, batch: Batch) -> list[int]:
        """See ``Source``."""
        return [self._asked[key] for key in batch.keys]

    def __call__(self, batch: Batch) -> dict[TeacherName, TeacherSignal]:
        """See ``Source``."""
        return {name: self._signal(name, batch) for name in self._sets}

    def _rows(self, name: TeacherName, batch: Batch) -> list[np.ndarray]:
        """A teacher's answers about each trial."""
        sets, found = self._sets[name], []
        for key, n_windows, number in zip(batch.keys, batch.steps.sum(1).tolist(), self.asked(batch), strict=True):
            own = sets[number]
            rows = read_rows(own, key, name)
            if len(rows) != n_windows:
                told = f"is of {len(rows)} windows, but the trial has {n_windows}"
                raise MtkdError(f"{own.path(key)}: {key}.{member_of(name)} {told}")
            if (name, key) not in self._sound:
                check_rows(own, key, name, rows, self._sizes[name])
                self._sound.add((name, key))
            found.append(rows)
        return found

    def _signal(self, name: TeacherName, batch: Batch) -> TeacherSignal:
        rows = self._rows(name, batch)
        parts = {part: _part(rows, part, batch) for part in PARTS}
        return TeacherSignal(
            parts["logits"].float(),
            parts["features"].float(),
            parts["confidence"],
            parts["mask"] & batch.steps,
            self.fingerprints[name],
        )


def refuse_leaks(units: dict[TeacherName, list[Unit]], folds: list[Fold]) -> None:
    """
    Raises:
        MtkdError: a teacher was trained with a test subject of its fold or with one that it left out.
    """
    for own in units.values():
        for unit, fold in zip(own, folds, strict=True):
            refuse_leak(unit, fold)


def _refuse_other_trials(study: Study, found: ShardSet, fold: Fold) -> None:
    """
    Raises:
        MtkdError: a cache lacks a trial that the data have, or has one that they lack.
    """
    data = open_shards(study)[1]
    windows = Cutter(data, {}, study.windows, study.labels)
    expected = {sample.key for group in asked_about(data, windows, fold).values() for sample in group}
    for key in sorted(expected ^ set(found.samples)):
        told = "has no answer for the trial {}" if key in expected else "has the trial {}, which the data do not have"
        raise MtkdError(f"{found.folder}: {told.format(key)}; delete it, and `mtkd cache` makes it again")


def made_by(units: list[Unit]) -> str:
    """One fingerprint of all."""
    return units[0].fingerprint if len(units) == 1 else fingerprint([unit.fingerprint for unit in units])


def asked_of(samples: list[Sample], folds: list[Fold]) -> dict[str, int]:
    """Which of the folds each trial is asked of, by its key: the part that left its subject out, or the whole, 0.

    Whether the part has an answer or not: what is missing is not to be heard from a teacher that saw the subject.
    """
    of_subject = {subject: number for number, fold in enumerate(folds) for subject in fold.left_out}
    return {sample.key: of_subject.get(sample.subject, 0) for sample in samples}


def _part(trials: list[np.ndarray], part: str, batch: Batch) -> Tensor:
    """One of the fields of all trials, (trial, window, ...), filled up with zeros as the batch is."""
    first = trials[0][part]
    padded = np.zeros((*batch.steps.shape, *first.shape[1:]), first.dtype)
    for number, rows in enumerate(trials):
        padded[number, : len(rows)] = rows[part]
    return torch.from_numpy(padded).to(batch.steps.device)
