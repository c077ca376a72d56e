"""What a set of answers is worth: metrics on ``(label, probs)``, their summary over subjects, and what chance gives.

Labels are (n,) int class indices without gaps (no -1), probs (n, n_classes) whose rows sum to 1. Metrics are shares in
[0, 1], kappa in [-1, 1], and nan where they are not defined.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import binom
from sklearn.metrics import cohen_kappa_score, confusion_matrix, f1_score, recall_score, roc_auc_score

from mtkd.errors import MtkdError
from mtkd.evaluate.predictions import Predictions

NAN = float("nan")
Metric = Callable[[NDArray, NDArray], float]


def balanced_accuracy(label: NDArray, probs: NDArray) -> float:
    """Mean recall over the classes present; nan for fewer than two, where a constant answer would be perfect."""
    present = np.unique(label)
    if present.size < 2:
        return NAN
    return float(recall_score(label, probs.argmax(1), labels=present, average="macro", zero_division=0))


def macro_f1(label: NDArray, probs: NDArray) -> float:
    """Mean F1 over the classes present or decided for, as scikit-learn has it."""
    if not len(label):
        return NAN
    return float(f1_score(label, probs.argmax(1), average="macro", zero_division=0))


def auroc(label: NDArray, probs: NDArray) -> float:
    """Area under the ROC curve of class 1; for more classes the mean of one-vs-rest areas over the classes present."""
    present = np.unique(label)
    if present.size < 2:
        return NAN
    if probs.shape[1] == 2:
        return float(roc_auc_score(label, probs[:, 1]))
    return float(roc_auc_score(label[:, None] == present, probs[:, present], average="macro"))


def cohen_kappa(label: NDArray, probs: NDArray) -> float:
    """Cohen's kappa, agreement beyond chance; nan where fewer than two classes are present."""
    if np.unique(label).size < 2:
        return NAN
    return float(cohen_kappa_score(label, probs.argmax(1)))


def calibration_curve(label: NDArray, probs: NDArray, n_bins: int) -> dict[str, list[float]]:
    """Reliability diagram (Guo et al., 2017) over equal-width bins ``(low, high]`` of the largest probability.

    Returns, for each bin that is not empty: ``probability`` and ``accuracy``, the means in it, and ``n``, its rows.
    """
    probability, accuracy, n = _binned(probs.max(1), probs.argmax(1) == label, n_bins)
    return {"probability": probability, "accuracy": accuracy, "n": n}


def confidence_curve(predictions: Predictions, n_bins: int) -> dict[str, list[float]]:
    """The same of the confidence: ``confidence``, what it says, and ``probability``, what was given to the true class.

    That is what the confidence head estimates (ConfidNet; Corbiere et al., 2019).
    """
    given = predictions.probs[np.arange(len(predictions)), predictions.label]
    confidence, probability, n = _binned(predictions.confidence, given, n_bins)
    return {"confidence": confidence, "probability": probability, "n": n}


def _binned(said: NDArray, found: NDArray, n_bins: int) -> tuple[list[float], list[float], list[float]]:
    """Means of both in each bin of what was said that is not empty, and its number of rows."""
    bins = np.clip(np.ceil(said * n_bins).astype(int) - 1, 0, n_bins - 1)
    n = np.bincount(bins, minlength=n_bins)
    filled = n > 0
    means = [(np.bincount(bins, values, n_bins)[filled] / n[filled]).tolist() for values in (said, found)]
    return means[0], means[1], n[filled].tolist()


def ece(label: NDArray, probs: NDArray, n_bins: int = 10) -> float:
    """Expected calibration error (Guo et al., 2017): mean over rows of their bin's |accuracy - probability|.

    Biased upwards for few rows, so that a subject's value exceeds the pooled one.
    """
    if not len(label):
        return NAN
    curve = calibration_curve(label, probs, n_bins)
    gaps = np.abs(np.subtract(curve["accuracy"], curve["probability"]))
    return float(np.average(gaps, weights=curve["n"]))


def confusion(label: NDArray, probs: NDArray) -> NDArray[np.int64]:
    """(n_classes, n_classes) counts, true classes in rows and decisions in columns."""
    return np.asarray(confusion_matrix(label, probs.argmax(1), labels=range(probs.shape[1])), np.int64)


def confidence_ranking(predictions: Predictions) -> float:
    """AUROC of the confidence for right against wrong decisions: 0.5 ranks nothing, 1 all errors below all else."""
    right = predictions.right
    if right.all() or not right.any():
        return NAN
    return float(roc_auc_score(right, predictions.confidence))


def has_confidence(predictions: Predictions) -> bool:
    """Whether the model says anything about its reliability, that is, its confidence varies."""
    return len(predictions) > 1 and float(np.ptp(predictions.confidence)) > 0


def confidence_over_time(predictions: Predictions) -> dict[str, list[float]]:
    """Means over all trials at each window position: ``window`` (from 0), ``confidence``, ``accuracy``, ``n`` rows."""
    windows, group, n = np.unique(predictions.window, return_inverse=True, return_counts=True)
    means = {
        "confidence": np.bincount(group, predictions.confidence) / n,
        "accuracy": np.bincount(group, predictions.right) / n,
    }
    return {"window": windows.tolist(), **{name: mean.tolist() for name, mean in means.items()}, "n": n.tolist()}


def credible_interval(
    label: NDArray, probs: NDArray, mass: float = 0.95, draws: int = 20_000, seed: int = 0
) -> tuple[float, float]:
    """Central posterior interval of the balanced accuracy (Brodersen et al., 2010, "The balanced accuracy and its
    posterior distribution").

    A class's recall has the posterior Beta(right + 1, wrong + 1) under a flat prior; the interval is that of the mean
    over the classes present, from independent draws. Rows count as independent: true of trials at best, and far from
    true of windows, for which it is too narrow.
    """
    counts = confusion(label, probs)
    present = counts.sum(1) > 0
    if present.sum() < 2:
        return NAN, NAN
    right = counts.diagonal()[present]
    wrong = counts.sum(1)[present] - right
    recalls = np.random.default_rng(seed).beta(right + 1, wrong + 1, (draws, len(right)))
    low, high = np.quantile(recalls.mean(1), [(1 - mass) / 2, (1 + mass) / 2])
    return float(low), float(high)


def summary(predictions: Predictions, n_bins: int) -> dict[str, Any]:
    """All metrics of one model, pooled and over subjects.

    Args:
        predictions: labelled rows only, windows or trials.
        n_bins: bins of the calibration error.

    Returns:
        ``n_rows``, ``n_subjects``; ``pooled`` {metric: value over all rows}; ``interval`` (low, high), the pooled
        balanced accuracy's 95 % credible interval; ``subjects`` {subject: {metric: value}}; ``mean`` and ``sd`` (n - 1)
        {metric: value} over the subjects where the metric is defined. Metrics are balanced_accuracy, macro_f1, auroc,
        kappa, ece and confidence_auroc (see ``confidence_ranking``).

    Raises:
        MtkdError: no rows, or a row has no label.
    """
    if not len(predictions) or (predictions.label < 0).any():
        raise MtkdError(f"summary: {len(predictions)} rows, {(predictions.label < 0).sum()} without a label")
    names, group = np.unique(predictions.subject, return_inverse=True)
    subjects = {str(name): _values(predictions.rows(group == index), n_bins) for index, name in enumerate(names)}
    pooled = _values(predictions, n_bins)
    columns = {metric: np.array([values[metric] for values in subjects.values()]) for metric in pooled}
    return {
        "n_rows": len(predictions),
        "n_subjects": len(subjects),
        "pooled": pooled,
        "interval": credible_interval(predictions.label, predictions.probs),
        "subjects": subjects,
        "mean": {metric: _mean(column) for metric, column in columns.items()},
        "sd": {metric: _sd(column) for metric, column in columns.items()},
    }


def _values(predictions: Predictions, n_bins: int) -> dict[str, float]:
    label, probs = predictions.label, predictions.probs
    return {
        "balanced_accuracy": balanced_accuracy(label, probs),
        "macro_f1": macro_f1(label, probs),
        "auroc": auroc(label, probs),
        "kappa": cohen_kappa(label, probs),
        "ece": ece(label, probs, n_bins),
        "confidence_auroc": confidence_ranking(predictions) if has_confidence(predictions) else NAN,
    }


def _mean(column: NDArray) -> float:
    known = column[~np.isnan(column)]
    return float(known.mean()) if known.size else NAN


def _sd(column: NDArray) -> float:
    known = column[~np.isnan(column)]
    return float(known.std(ddof=1)) if known.size > 1 else NAN


def chance_level(n_trials_per_class: Sequence[int], alpha: float = 0.05) -> float:
    """Balanced accuracy that guessing exceeds with probability below ``alpha`` (Combrisson & Jerbi, 2015).

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
    return Predictions(
        rows.subject, rows.trial, rows.window, rows.fold, rows.label, probs, confidence=np.full(len(rows), 0.5)
    )
