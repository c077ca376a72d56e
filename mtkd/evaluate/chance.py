"""What can be had without any signal: the trivial predictors, and what guessing reaches."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import binom

from mtkd.errors import MtkdError
from mtkd.evaluate.predictions import Predictions

NAN = float("nan")


def chance_level(n_trials_per_class: Sequence[int], alpha: float = 0.05) -> float:
    """Balanced accuracy that guessing exceeds with a probability of ``alpha`` or less (Combrisson & Jerbi, 2015), or a
    little more (.055 for .05 was the most found) where classes are not equally frequent.

    The upper limit of the binomial with n trials and probability 1 / classes. n is the number of trials where the
    classes are equally frequent. Where they are not, the balanced accuracy of a guess varies as if there were fewer:
    classes squared over the sum of 1 / n_c, which is taken. Count trials, not windows: a trial's windows share their
    answer.
    """
    counts = np.array([n for n in n_trials_per_class if n > 0])
    if counts.size < 2:
        return NAN
    n = max(int(np.floor(counts.size**2 / (1 / counts).sum() + 1e-9)), 1)
    return float(binom.ppf(1 - alpha, n, 1 / counts.size) / n)


def class_share(train_labels_by_fold: Mapping[int, ArrayLike], rows: Predictions) -> Predictions:
    """The best answer without any signal: every row gets the class shares of its fold's training trials.

    Args:
        train_labels_by_fold: labels of the training trials of each fold, -1 ones are left out.
        rows: whose identities and labels are taken; its probs are not looked at.

    Its decision is the most frequent class, so its hard metrics are those of ``majority``; what it adds is the
    calibration of an answer that knows nothing. What random draws reach is ``chance_level``. Its AUROC is 0.5 for each
    subject; pooled over folds it is below, because a fold with more of a class to train on has fewer of it to test.
    """
    probs = np.empty(rows.probs.shape)
    for fold in np.unique(rows.fold):
        if fold not in train_labels_by_fold:
            raise MtkdError(f"class shares: no training labels for fold {fold}")
        labels = np.asarray(train_labels_by_fold[fold]).astype(int)
        counts = np.bincount(labels[labels >= 0], minlength=rows.n_classes)
        if not counts.any() or len(counts) > rows.n_classes:
            found = f"{np.unique(labels)} of {rows.n_classes} classes"
            raise MtkdError(f"class shares: fold {fold} has training labels {found}")
        probs[rows.fold == fold] = counts / counts.sum()
    return _without_signal(rows, probs)


def majority(train_labels_by_fold: Mapping[int, ArrayLike], rows: Predictions, certainty: float = 0.999) -> Predictions:
    """Every row gets the most frequent class of its fold's training trials, with nearly all probability.

    Nearly, so that logarithms stay finite. Arguments as for ``class_share``, whose marginals decide for the majority of
    each rating; these decide for the ratings of the most frequent combination.
    """
    decision = class_share(train_labels_by_fold, rows).decision
    probs = np.full(rows.probs.shape, (1 - certainty) / (rows.n_classes - 1))
    probs[np.arange(len(rows)), decision] = certainty
    return _without_signal(rows, probs)


def _without_signal(rows: Predictions, probs: NDArray) -> Predictions:
    # A constant confidence weighs all windows the same and counts as none.
    return replace(rows, probs=probs, confidence=np.full(len(rows), 0.5))
