"""Outer folds and validation, always by subject."""

from dataclasses import dataclass

import numpy as np

from mtkd.config import Splits
from mtkd.errors import MtkdError
from mtkd.files import fingerprint


@dataclass(frozen=True)
class Fold:
    """One outer fold: three disjoint lists of subjects."""

    index: int
    train: list[str]
    val: list[str]
    test: list[str]

    @property
    def fingerprint(self) -> str:
        """Hash of who stands where: what a teacher or a cache of this fold belongs to."""
        return fingerprint({"train": self.train, "val": self.val, "test": self.test})


def make_folds(subjects: list[str], splits: Splits) -> list[Fold]:
    """Deal the shuffled subjects out to ``n_folds`` test sets; the next ones in the circle are for validation.

    Raises:
        MtkdError: too few subjects to leave one for training in every fold.
    """
    order = np.random.default_rng(splits.seed).permutation(sorted(subjects)).tolist()
    tests = [order[index :: splits.n_folds] for index in range(splits.n_folds)]
    folds = []
    for index, test in enumerate(tests):
        rest = [subject for later in tests[index + 1 :] + tests[:index] for subject in later]
        n_val = max(1, round(splits.val_share * len(rest)))
        if not test or len(rest) - n_val < 1:
            raise MtkdError(f"splits.n_folds = {splits.n_folds}: {len(subjects)} subjects are too few")
        folds.append(Fold(index, sorted(rest[n_val:]), sorted(rest[:n_val]), sorted(test)))
    return folds
