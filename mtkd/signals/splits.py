"""Outer folds and validation, always by subject."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from mtkd.config import Splits
from mtkd.console import counted
from mtkd.errors import MtkdError
from mtkd.files import fingerprint


@dataclass(frozen=True)
class Fold:
    """One outer fold: three disjoint lists of subjects, and a fourth of training subjects whose labels are ``hidden``.

    Where ``stimuli`` are named, test trials are of these alone and all others of none of them.
    Of its cross-fitting, a ``part`` is counted from 1, and ``left_out`` are the training subjects that it does without.
    """

    index: int
    train: list[str]
    val: list[str]
    test: list[str]
    part: int = 0
    left_out: list[str] = field(default_factory=list)
    hidden: list[str] = field(default_factory=list)
    stimuli: list[str] = field(default_factory=list)

    @property
    def name(self) -> str:
        """What its units are called."""
        return f"fold-{self.index}" + (f"-without-{self.part}" if self.part else "")

    @property
    def title(self) -> str:
        """What progress is told under."""
        return f"fold {self.index}" + (f" without part {self.part}" if self.part else "")

    @property
    def fingerprint(self) -> str:
        """Hash of who stands where: what a teacher or a cache of this fold belongs to."""
        more = {"hidden": self.hidden, "stimuli": self.stimuli}
        return fingerprint(
            {"train": self.train, "val": self.val, "test": self.test} | {key: own for key, own in more.items() if own}
        )

    @property
    def training(self) -> list[str]:
        """All subjects whose signals training may read: also those whose labels are hidden."""
        return self.train + self.hidden

    def takes(self, subject: str, stimulus: str) -> bool:
        """Whether a trial is one of the fold's: with a stimulus for the side that its subject is on."""
        return not self.stimuli or (subject in self.test) == (stimulus in self.stimuli)


def make_folds(subjects: list[str], splits: Splits, stimuli: Sequence[str] = ()) -> list[Fold]:
    """Deal the shuffled subjects out to ``n_folds`` test sets; the next ones in the circle are for validation. With
    ``disjoint_stimuli`` deal the stimuli out, too.

    Of the others as many as ``n_labelled`` says keep their labels, those of a smaller number among those of a larger.

    Raises:
        MtkdError: too few subjects to leave one for training in every fold, or fewer than are to be labelled; or fewer
            stimuli than folds.
    """
    if splits.disjoint_stimuli and len(stimuli) < splits.n_folds:
        there = counted(len(stimuli), "stimulus", "stimuli")
        raise MtkdError(f"splits.disjoint_stimuli: {there} cannot be dealt out to {splits.n_folds} folds")
    shown = np.random.default_rng([splits.seed, 2]).permutation(sorted(stimuli)).tolist()
    order = np.random.default_rng(splits.seed).permutation(sorted(subjects)).tolist()
    tests = [order[index :: splits.n_folds] for index in range(splits.n_folds)]
    folds = []
    for index, test in enumerate(tests):
        rest = [subject for later in tests[index + 1 :] + tests[:index] for subject in later]
        n_val = max(1, round(splits.val_share * len(rest)))
        if not test or len(rest) - n_val < 1:
            there = counted(len(subjects), "subject is", "subjects are")
            told = f"too few to train on, validate (splits.val_share = {splits.val_share:g}) and test"
            raise MtkdError(f"splits.n_folds = {splits.n_folds}: {there} {told}")
        train, hidden = _labelled(index, sorted(rest[n_val:]), splits)
        own = sorted(shown[index :: splits.n_folds]) if splits.disjoint_stimuli else []
        folds.append(Fold(index, train, sorted(rest[:n_val]), sorted(test), hidden=hidden, stimuli=own))
    return folds


def _labelled(index: int, subjects: list[str], splits: Splits) -> tuple[list[str], list[str]]:
    """Training subjects with and without labels."""
    n_labelled = len(subjects) if splits.n_labelled is None else splits.n_labelled
    if n_labelled > len(subjects):
        there = counted(len(subjects), "training subject")
        raise MtkdError(f"splits.n_labelled = {n_labelled}: fold {index} has {there}")
    order = np.random.default_rng([splits.seed, index, 1]).permutation(subjects).tolist()
    return sorted(order[:n_labelled]), sorted(order[n_labelled:])


def crossfit(fold: Fold, splits: Splits) -> list[Fold]:
    """The fold without each part of its training subjects in turn; none where ``crossfit`` is 1.

    A teacher of each says what it would of subjects that it never saw, as it will in use. Validation and test subjects
    stay as they are.

    Raises:
        MtkdError: too few training subjects to leave one out in every part.
    """
    if splits.crossfit == 1:
        return []
    if len(fold.train) < splits.crossfit:
        raise MtkdError(
            f"splits.crossfit = {splits.crossfit}: fold {fold.index} has {counted(len(fold.train), 'training subject')}"
        )
    order = np.random.default_rng([splits.seed, fold.index]).permutation(fold.train).tolist()
    parts = [sorted(order[part :: splits.crossfit]) for part in range(splits.crossfit)]
    return [
        replace(fold, train=sorted(set(fold.train) - set(left_out)), part=part + 1, left_out=left_out)
        for part, left_out in enumerate(parts)
    ]
