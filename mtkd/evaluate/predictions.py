"""One model's answers on test subjects, the one type that metrics, tables and figures read."""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mtkd.errors import MtkdError

TOLERANCE = 1e-3
"""How far the probabilities of a row may be from a sum of one: half floats are that coarse."""


@dataclass(frozen=True, eq=False)
class Predictions:
    """One model's answers, all outer folds and seeds together, one row a window (or a trial, whose ``window`` is -1).

    Attributes:
        subject: (n,) str, the subject's name.
        trial: (n,) str, the trial's key, unique within a subject.
        window: (n,) int, position of the window in its trial from 0, or -1 for a whole trial.
        fold: (n,) int, the outer fold in which the subject was tested.
        label: (n,) int, index of the true class, -1 where there is none.
        probs: (n, n_classes) float, rows sum to 1 (divided by their sum on entry, to take off rounding).
        confidence: (n,) float in [0, 1], the confidence head's output: how probable the model holds its own success.
            The head is a sigmoid, in (0, 1) but for rounding. A constant means that the model has no such head.
        seed: (n,) int, the seed of the training that answers.

    Raises:
        MtkdError: lengths disagree, a label is no class, a row is no distribution, or a row stands twice.
    """

    subject: NDArray[np.str_]
    trial: NDArray[np.str_]
    window: NDArray[np.int64]
    fold: NDArray[np.int64]
    label: NDArray[np.int64]
    probs: NDArray[np.float64]
    confidence: NDArray[np.float64]
    seed: NDArray[np.int64]

    def __post_init__(self) -> None:
        kinds = {"subject": np.str_, "trial": np.str_, "probs": np.float64, "confidence": np.float64}
        for field in fields(self):
            value: NDArray = np.asarray(getattr(self, field.name)).astype(kinds.get(field.name, np.int64))
            object.__setattr__(self, field.name, value)
        self._check_lengths()
        self._check_values()
        object.__setattr__(self, "probs", self.probs / self.probs.sum(1, keepdims=True))

    def _check_lengths(self) -> None:
        if self.probs.ndim != 2 or self.probs.shape[1] < 2:
            raise MtkdError(f"predictions: probs has shape {self.probs.shape}, expected (rows, at least 2 classes)")
        for field in fields(self):
            shape = getattr(self, field.name).shape
            if field.name != "probs" and shape != (len(self),):
                raise MtkdError(f"predictions: {field.name} has shape {shape}, but probs has {len(self)} rows")

    def _check_values(self) -> None:
        off = np.flatnonzero(~(np.abs(self.probs.sum(1) - 1) <= TOLERANCE) | (self.probs < 0).any(1))
        if off.size:
            raise MtkdError(f"predictions: {self._name(off[0])} has probs {self.probs[off[0]]}, no distribution")
        off = np.flatnonzero(~((self.confidence >= 0) & (self.confidence <= 1)))
        if off.size:
            name = self._name(off[0])
            raise MtkdError(f"predictions: {name} has confidence {self.confidence[off[0]]}, not in [0, 1]")
        off = np.flatnonzero((self.label < -1) | (self.label >= self.n_classes))
        if off.size:
            name = self._name(off[0])
            raise MtkdError(f"predictions: {name} has label {self.label[off[0]]} of {self.n_classes} classes")
        rows = _joined(self.seed, self.fold, self.subject, self.trial, self.window)
        _, first = np.unique(rows, return_index=True)
        if first.size < len(self):
            twice = int(np.setdiff1d(np.arange(len(self)), first)[0])
            raise MtkdError(
                f"predictions: {self._name(twice)} stands twice in fold {self.fold[twice]}, seed {self.seed[twice]}"
            )

    def _name(self, row: int) -> str:
        return f"subject {self.subject[row]}, trial {self.trial[row]}, window {self.window[row]}"

    def __len__(self) -> int:
        return int(self.probs.shape[0])

    @property
    def n_classes(self) -> int:
        """Number of classes."""
        return int(self.probs.shape[1])

    @property
    def decision(self) -> NDArray[np.int64]:
        """(n,) int, the most probable class; the first of equals."""
        return self.probs.argmax(1)

    @property
    def right(self) -> NDArray[np.bool_]:
        """(n,) bool, whether the decision is the label."""
        return self.decision == self.label

    def rows(self, chosen: ArrayLike) -> Self:
        """The rows that a mask or an array of indices chooses."""
        index = np.asarray(chosen)
        return type(self)(**{field.name: getattr(self, field.name)[index] for field in fields(self)})

    @property
    def seeds(self) -> list[int]:
        """Those of the trainings that answer, in order."""
        return [int(seed) for seed in np.unique(self.seed)]

    def of_seed(self, seed: int) -> Self:
        """The answers of one training a fold."""
        return self.rows(self.seed == seed)

    def labelled(self) -> Self:
        """The rows that have a label."""
        return self.rows(self.label >= 0)

    def per_trial(self) -> Self:
        """One row a trial: the confidence-weighted mean of its windows' probs, and the mean of their confidences.

        Windows without any confidence (all exactly 0) weigh the same.

        Raises:
            MtkdError: the windows of a trial have different labels.
        """
        keys = _joined(self.seed, self.fold, self.subject, self.trial)
        _, first, group = np.unique(keys, return_index=True, return_inverse=True)
        mixed = np.flatnonzero(self.label != self.label[first][group])
        if mixed.size:
            raise MtkdError(f"predictions: {self._name(mixed[0])} has another label than its trial's first window")
        weight = np.maximum(self.confidence, np.finfo(np.float64).tiny ** 0.5)
        probs = np.zeros((first.size, self.n_classes))
        np.add.at(probs, group, weight[:, None] * self.probs)
        probs /= probs.sum(1, keepdims=True)
        confidence = np.bincount(group, self.confidence) / np.bincount(group)
        trials = self.rows(first)
        return replace(trials, window=np.full(first.size, -1), probs=probs, confidence=np.clip(confidence, 0, 1))

    def marginal(self, bit: int) -> Self:
        """Two classes, rating ``bit`` low or high: bit ``bit`` of the label, and the probs summed over the others.

        Class index bit i says whether the i-th rating is high, as ``Study.class_names`` does.
        """
        if not 0 <= bit < np.log2(self.n_classes):
            raise MtkdError(f"predictions: no rating {bit} in {self.n_classes} classes")
        high = (np.arange(self.n_classes) >> bit & 1).astype(bool)
        probs = np.stack([self.probs[:, ~high].sum(1), self.probs[:, high].sum(1)], axis=1)
        return replace(self, label=np.where(self.label < 0, -1, self.label >> bit & 1), probs=probs)

    @classmethod
    def concatenate(cls, parts: Sequence[Self]) -> Self:
        """All rows of the parts, in their order; the folds' test sets and the seeds become one set of answers.

        Raises:
            MtkdError: no parts, or parts with different numbers of classes.
        """
        classes = {part.n_classes for part in parts}
        if len(classes) != 1:
            raise MtkdError(f"predictions: cannot concatenate parts with {sorted(classes)} classes")
        names = [field.name for field in fields(cls)]
        return cls(**{name: np.concatenate([getattr(part, name) for part in parts]) for name in names})


def _joined(*columns: NDArray) -> NDArray[np.int64]:
    """One integer a row, equal where all columns are and ordered as they are."""
    joined = np.zeros(len(columns[0]), np.int64)
    for column in columns:
        values, index = np.unique(column, return_inverse=True)
        _, joined = np.unique(joined * max(len(values), 1) + index, return_inverse=True)
    return joined
