"""What teachers say, computed while a student is trained, in place of what a cache holds of it."""

from collections.abc import Iterator
from pathlib import Path

import torch
from jaxtyping import Bool
from torch import Tensor

from mtkd.cache.build import Teacher, asked_about, is_reduced, listened_to, load_teacher, teacher_unit, unit_of
from mtkd.cache.components import Components, load_components
from mtkd.cache.members import PARTS
from mtkd.cache.source import asked_of, made_by, refuse_leaks
from mtkd.config import Study, TeacherName
from mtkd.layers.heads import TeacherSignal
from mtkd.shards.batch import Batch, Cutter
from mtkd.shards.read import ShardSet
from mtkd.signals.splits import Fold
from mtkd.training.fold import make_cutter


class LiveSource:
    """Answers computed anew from the trials, by the same weights; for checks and for data that no cache can hold.

    All teachers that it asks are in memory at once, with cross-fitting one more of each kind for every part.

    What a teacher says of a trial depends, in its last digits, on the trials beside it. With ``exact`` it is asked in
    the batches in which the cache asked it, and its answers are rounded as there: they are the cache's to the last
    digit, for up to a batch's work a trial. Without, a batch's own trials are asked about together.

    Raises:
        MtkdError: a teacher does not stand, or was trained with a test subject of the fold or with one it left out; or
            its components are asked for, which are made with the cache, and that does not stand.
    """

    def __init__(
        self,
        study: Study,
        shards: ShardSet,
        fold: Fold,
        teachers: list[TeacherName],
        crossed: bool = True,
        exact: bool = False,
    ) -> None:
        folds = listened_to(study, fold, crossed)
        units = {name: [teacher_unit(study, each, name) for each in folds] for name in teachers}
        refuse_leaks(units, folds)
        self.fingerprints = {name: made_by(own) for name, own in units.items()}
        self.teachers = {name: [load_teacher(study, shards, each, name) for each in folds] for name in teachers}
        self._components = {
            name: load_components(_cache_of(study, fold, name)) for name in teachers if is_reduced(study, name)
        }
        self._asked = asked_of(shards.index.samples, folds)
        self._dtype = getattr(torch, study.cache.dtype) if exact else torch.float32
        self._beside: dict[tuple[TeacherName, int], dict[str, list[str]]] = {}
        for name, own in self.teachers.items() if exact else ():
            for number, (teacher, each) in enumerate(zip(own, folds, strict=True)):
                windows = make_cutter(study, shards, each, [], study.windows)
                self._beside[name, number] = _together_in_the_cache(teacher, shards, windows, each)

    def masks(self, batch: Batch) -> dict[TeacherName, Bool[Tensor, "batch step"]]:
        """See ``Source``."""
        found = {}
        for name, own in self.teachers.items():
            said = [(rows, own[number].heard(keys)) for number, rows, keys in self._groups(batch)]
            found[name] = _together(said, batch.steps) & batch.steps
        return found

    def asked(self, batch: Batch) -> list[int]:
        """See ``Source``."""
        return [self._asked[key] for key in batch.keys]

    def __call__(self, batch: Batch) -> dict[TeacherName, TeacherSignal]:
        """See ``Source``."""
        return {name: self._signal(name, batch) for name in self.teachers}

    def _signal(self, name: TeacherName, batch: Batch) -> TeacherSignal:
        said = [one for number, rows, keys in self._groups(batch) for one in self._say(name, number, rows, keys)]
        parts = {part: _together([(rows, getattr(one, part)) for rows, one in said], batch.steps) for part in PARTS}
        if (components := self._components.get(name)) is not None:
            parts["features"] = _reduced(parts["features"], components, batch.steps)
        parts |= {part: parts[part].to(self._dtype).float() for part in ("logits", "features")}
        parts["mask"] &= batch.steps
        return TeacherSignal(**parts, fingerprint=self.fingerprints[name])

    def _say(
        self, name: TeacherName, number: int, rows: list[int], keys: list[str]
    ) -> Iterator[tuple[list[int], TeacherSignal]]:
        """A teacher's answers about some trials, which are those rows of the batch."""
        teacher, beside = self.teachers[name][number], self._beside.get((name, number))
        if beside is None:
            yield rows, teacher.say(keys)
            return
        for asked in dict.fromkeys(tuple(beside[key]) for key in keys):
            own = [(row, asked.index(key)) for row, key in zip(rows, keys, strict=True) if key in asked]
            said = teacher.say(list(asked))
            chosen = [place for _, place in own]
            yield [row for row, _ in own], TeacherSignal(*(getattr(said, part)[chosen] for part in PARTS))

    def _groups(self, batch: Batch) -> list[tuple[int, list[int], list[str]]]:
        """Which of a name's teachers are asked, and the rows and keys of the trials that each answers."""
        asked = self.asked(batch)
        groups = {number: [row for row, own in enumerate(asked) if own == number] for number in sorted(set(asked))}
        return [(number, rows, [batch.keys[row] for row in rows]) for number, rows in groups.items()]


def _together(said: list[tuple[list[int], Tensor]], steps: Tensor) -> Tensor:
    """What several teachers said of some rows each, (row, step, ...), as the rows of one batch, padded as it is."""
    first = said[0][1]
    whole = torch.zeros((*steps.shape, *first.shape[2:]), dtype=first.dtype, device=steps.device)
    for rows, values in said:
        n_steps = min(values.shape[1], steps.shape[1])  # a trial of another batch may have been longer
        whole[rows, :n_steps] = values[:, :n_steps].to(steps.device)
    return whole


def _cache_of(study: Study, fold: Fold, name: TeacherName) -> Path:
    """Where the components stand that were fitted when the cache was made.

    Raises:
        MtkdError: it does not stand.
    """
    unit = unit_of(study, fold, name)
    unit.manifest()
    return unit.folder


def _reduced(features: Tensor, components: Components, steps: Tensor) -> Tensor:
    """Trial by trial, as the cache does it."""
    found = torch.zeros((*steps.shape, len(components.directions)))
    for row, n_windows in enumerate(steps.sum(1).tolist()):
        found[row, :n_windows] = torch.from_numpy(components.reduce(features[row, :n_windows].cpu().numpy()))
    return found.to(features.device)


def _together_in_the_cache(teacher: Teacher, shards: ShardSet, windows: Cutter, fold: Fold) -> dict[str, list[str]]:
    """The keys of the trials that the cache asked about at once, by the key of each."""
    found: dict[str, list[str]] = {}
    for asked in asked_about(shards, windows, fold).values():
        for some in teacher.batches(asked):
            keys = [sample.key for sample in some]
            found |= dict.fromkeys(keys, keys)
    return found
