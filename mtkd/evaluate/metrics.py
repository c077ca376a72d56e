"""What a set of answers is worth: metrics on ``(label, probs)``, and their summary over subjects and seeds.

Labels are (n,) int class indices without gaps (no -1), probs (n, n_classes) whose rows sum to 1. Metrics are shares in
[0, 1], kappa in [-1, 1], and nan where they are not defined.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata
from sklearn.metrics import cohen_kappa_score, confusion_matrix, f1_score, recall_score, roc_auc_score

from mtkd.errors import MtkdError
from mtkd.evaluate.predictions import Predictions

NAN = float("nan")
_DIGITS = 12  # of a probability, before it is ranked: what sums in another order differ by would break ties
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
    probs = probs.round(_DIGITS)
    if probs.shape[1] == 2:
        return float(roc_auc_score(label, probs[:, 1]))
    return float(roc_auc_score(label[:, None] == present, probs[:, present], average="macro"))


def auroc_among_all(predictions: Predictions) -> dict[str, float]:
    """Each subject's part in the pooled AUROC, which asks whether one threshold serves all of them.

    What ``auroc`` within a subject does not ask. A row's placement is the share of all subjects' rows of the other side
    that it lies on the right side of, ties counting half (Obuchowski, 1997, "Nonparametric analysis of clustered ROC
    curve data"). With A the pooled AUROC, a subject's figure is A plus what the placements of its rows of the class,
    and those of its others, lie above A, each times its rows over a subject's mean number of such. These are the pooled
    AUROC's pseudo-values: their mean over subjects is A, and their spread that which A has over draws of subjects, so
    that a figure may exceed 1. A mean of placements would not do for a test, as a subject's answers move those of all
    others too: it has half the spread. For more than two classes the mean over those present.
    """
    label, subjects = predictions.label, np.unique(predictions.subject)
    classes = [1] if predictions.n_classes == 2 else [int(own) for own in np.unique(label)]
    if np.unique(label).size < 2:
        return dict.fromkeys(map(str, subjects), NAN)
    rows_of = predictions.subject == subjects[:, None]
    probs = predictions.probs.round(_DIGITS)
    figures = np.mean([_pseudo_values(label == own, probs[:, own], rows_of) for own in classes], axis=0)
    return dict(zip(map(str, subjects), figures.tolist(), strict=True))


def _pseudo_values(inside: NDArray, score: NDArray, rows_of: NDArray) -> NDArray[np.float64]:
    placed = _placements(inside, score)
    pooled = placed[inside].mean()
    parts = [(rows_of[:, side] @ (placed[side] - pooled)) / side.sum() for side in (inside, ~inside)]
    return np.asarray(pooled + len(rows_of) * (parts[0] + parts[1]))


def _placements(inside: NDArray, score: NDArray) -> NDArray[np.float64]:
    """(n,) share of the other side's rows that each row lies on the right side of: above them if ``inside``."""
    placed, among_all = np.empty(len(score)), rankdata(score)
    for side in (True, False):
        mine = inside == side
        below = (among_all[mine] - rankdata(score[mine])) / (~mine).sum()
        placed[mine] = below if side else 1 - below
    return placed


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
    """Whether the model says anything about its reliability, that is, its confidence varies over what it heard."""
    said = predictions.confidence[predictions.confidence > 0]  # 0 where there was no signal
    return said.size > 1 and float(np.ptp(said)) > 0


def confidence_over_time(predictions: Predictions) -> dict[str, list[float]]:
    """Means over all trials at each window position: ``window`` (from 0), ``confidence``, ``accuracy``, ``n`` rows."""
    windows, group, n = np.unique(predictions.window, return_inverse=True, return_counts=True)
    means = {
        "confidence": np.bincount(group, predictions.confidence) / n,
        "accuracy": np.bincount(group, predictions.right) / n,
    }
    return {"window": windows.tolist(), **{name: mean.tolist() for name, mean in means.items()}, "n": n.tolist()}


def credible_interval(counts: NDArray, mass: float = 0.95, draws: int = 20_000, seed: int = 0) -> tuple[float, float]:
    """Central posterior interval of the balanced accuracy (Brodersen et al., 2010, "The balanced accuracy and its
    posterior distribution").

    ``counts`` are those of ``confusion``. A class's recall has the posterior Beta(right + 1, wrong + 1) under a flat
    prior; the interval is that of the mean over the classes present, from independent draws. Rows count as independent:
    true of trials at best, and far from true of windows, for which it is too narrow.
    """
    present = counts.sum(1) > 0
    if present.sum() < 2:
        return NAN, NAN
    right = counts.diagonal()[present]
    wrong = counts.sum(1)[present] - right
    recalls = np.random.default_rng(seed).beta(right + 1, wrong + 1, (draws, len(right)))
    low, high = np.quantile(recalls.mean(1), [(1 - mass) / 2, (1 + mass) / 2])
    return float(low), float(high)


def summary(predictions: Predictions, n_bins: int) -> dict[str, Any]:
    """All metrics of one model, pooled and over subjects, each the mean over its seeds.

    Args:
        predictions: labelled rows only, windows or trials, the same with every seed.
        n_bins: bins of the calibration error.

    Returns:
        ``n_rows`` (of one seed), ``n_subjects``, ``n_seeds``; ``pooled`` {metric: value over all rows}; ``confusion``,
        counts with true classes in rows, and ``interval`` (low, high), the 95 % credible interval that these give the
        pooled balanced accuracy; ``subjects`` {subject: {metric: value}}; ``mean`` and ``sd`` (n - 1) {metric: value}
        over the subjects where the metric is defined; ``sd_seeds`` {metric: value} of that mean between seeds. Metrics
        are balanced_accuracy, macro_f1, auroc, kappa, ece, confidence_auroc (see ``confidence_ranking``) and, of
        subjects, auroc_among_all.

    Raises:
        MtkdError: no rows, a row has no label, or seeds have other numbers of rows.
    """
    if not len(predictions) or (predictions.label < 0).any():
        raise MtkdError(f"summary: {len(predictions)} rows, {(predictions.label < 0).sum()} without a label")
    parts = [predictions.of_seed(seed) for seed in predictions.seeds]
    if len({len(part) for part in parts}) > 1:
        raise MtkdError(f"summary: seeds {predictions.seeds} answer {[len(part) for part in parts]} rows, not the same")
    tables = [_of_subjects(part, n_bins) for part in parts]
    subjects = {name: _mean_of([table[name] for table in tables]) for name in tables[0]}
    counts = np.mean([confusion(part.label, part.probs) for part in parts], axis=0)
    means = [_over(table, _mean) for table in tables]
    return {
        "n_rows": len(parts[0]),
        "n_subjects": len(subjects),
        "n_seeds": len(parts),
        "pooled": _mean_of([_values(part, n_bins) for part in parts]),
        "confusion": counts,
        "interval": credible_interval(counts),
        "subjects": subjects,
        "mean": _over(subjects, _mean),
        "sd": _over(subjects, _sd),
        "sd_seeds": _over(dict(enumerate(means)), _sd),
    }


def _of_subjects(predictions: Predictions, n_bins: int) -> dict[str, dict[str, float]]:
    names, group = np.unique(predictions.subject, return_inverse=True)
    among_all = auroc_among_all(predictions)
    return {
        str(name): _values(predictions.rows(group == index), n_bins) | {"auroc_among_all": among_all[str(name)]}
        for index, name in enumerate(names)
    }


def _mean_of(tables: list[dict[str, float]]) -> dict[str, float]:
    """Of each metric; nan where one of them has none."""
    return {metric: float(np.mean([table[metric] for table in tables])) for metric in tables[0]}


def _over(table: Mapping[Any, dict[str, float]], statistic: Callable[[NDArray], float]) -> dict[str, float]:
    """Of each metric over the rows of a table."""
    metrics = next(iter(table.values()))
    return {metric: statistic(np.array([values[metric] for values in table.values()])) for metric in metrics}


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
