"""Whether one model is better than another over subjects, how much, and how much of what was possible."""

import math
from collections.abc import Hashable, Mapping
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy.stats import permutation_test, rankdata, wilcoxon
from scipy.stats import t as student

from mtkd.errors import MtkdError

NAN = float("nan")
RESAMPLES = 9999
"""Sign flips that are tried; all of them for up to 13 subjects, 2 ** 13 = 8192."""
Key = TypeVar("Key", bound=Hashable)


def paired_differences(model: Mapping[str, float | None], baseline: Mapping[str, float | None]) -> NDArray[np.float64]:
    """(n,) model minus baseline for each subject that has both values, in the order of the names.

    A subject whose metric is undefined (nan or None) for one of them is left out; one that only one has is an error.
    Rounded to 1e-12, so that differences that are equal on paper share a rank.

    Raises:
        MtkdError: the two were not measured on the same subjects.
    """
    if set(model) != set(baseline):
        raise MtkdError(f"paired test: only one of two models has subjects {sorted(set(model) ^ set(baseline))}")
    pairs = [(model[subject], baseline[subject]) for subject in sorted(model)]
    differences = np.array([NAN if a is None or b is None else a - b for a, b in pairs], np.float64)
    return differences[~np.isnan(differences)].round(12)


def compare(model: Mapping[str, float | None], baseline: Mapping[str, float | None]) -> dict[str, Any]:
    """Paired test over subjects of one metric, ``{subject: value}`` for each of two models.

    The verdict is on the mean difference, which is what tables tell, by the permutation test that flips signs.
    Wilcoxon's stands beside it, which asks whether differences lie about 0 symmetrically: of two models with one
    mean, one of them far off for some subjects, it calls one better in 28 of 100 studies of 24 subjects (a test).

    Returns:
        ``n`` subjects, ``n_differing`` of them not the same; ``mean_difference`` (model - baseline) and
        ``interval``, in which it lies with 95 % confidence by Student's t over subjects; ``p`` and ``p_greater`` of
        the permutation test, two-sided and for "the model is greater", exact up to 13 subjects; ``p_wilcoxon`` of
        the signed-rank test (Wilcoxon, 1945), two-sided; ``effect``, the matched-pairs rank-biserial correlation
        (Kerby, 2014) in [-1, 1]; ``p_smallest``, the least two-sided p that so many differing subjects can give.
        Where no subject differs, p is 1 and the effect 0; without subjects all but the two numbers is nan.
    """
    difference = paired_differences(model, baseline)
    n_differing = int(np.count_nonzero(difference))
    counted: dict[str, Any] = {"n": int(difference.size), "n_differing": n_differing}
    if not difference.size:
        keys = ("mean_difference", "p", "p_greater", "p_wilcoxon", "effect", "p_smallest")
        return counted | dict.fromkeys(keys, NAN) | {"interval": [NAN, NAN]}
    return counted | {
        "mean_difference": float(difference.mean()),
        "interval": interval(difference),
        "p": sign_flip(difference),
        "p_greater": sign_flip(difference, "greater"),
        "p_wilcoxon": signed_rank(difference),
        "effect": rank_biserial(difference),
        "p_smallest": min(max(2.0 ** (1 - n_differing), 2 / (RESAMPLES + 1)), 1.0),
    }


def interval(difference: NDArray, mass: float = 0.95) -> list[float]:
    """Of the mean, by Student's t; nan for fewer than two subjects."""
    if difference.size < 2:
        return [NAN, NAN]
    reach = student.ppf((1 + mass) / 2, difference.size - 1) * difference.std(ddof=1) / math.sqrt(difference.size)
    return [float(difference.mean() - reach), float(difference.mean() + reach)]


def signed_rank(difference: NDArray) -> float:
    """Two-sided p of Wilcoxon's signed-rank test, zeros left out; 1 where nothing else is left.

    Where subjects tie, by flipping the signs of the ranks, as scipy does for up to 13: its approximation for more is
    off by as much as .06.
    """
    nonzero = difference[difference != 0]
    if not nonzero.size:
        return 1.0
    ranks = rankdata(np.abs(nonzero))
    if len(np.unique(ranks)) < ranks.size:
        return sign_flip(ranks * np.sign(nonzero))
    return float(wilcoxon(nonzero).pvalue)


def rank_biserial(difference: NDArray) -> float:
    """Matched-pairs rank-biserial correlation (Kerby, 2014): favourable minus unfavourable share of the rank sum.

    1 when all differences are positive, -1 when all are negative, 0 when the ranks balance. Zeros are left out, as
    Wilcoxon's test does, so that a few subjects can make a large effect: read it beside their number.
    """
    nonzero = difference[difference != 0]
    if not nonzero.size:
        return 0.0
    ranks = rankdata(np.abs(nonzero))
    return float((ranks * np.sign(nonzero)).sum() / ranks.sum())


def sign_flip(difference: NDArray, alternative: str = "two-sided", resamples: int = RESAMPLES, seed: int = 0) -> float:
    """p of the mean difference under random signs: exact where ``2 ** n <= resamples``, else drawn."""
    if not difference.any():
        return 1.0
    if difference.size == 1:  # which scipy refuses: two outcomes, so that one side has at least a half
        return 0.5 if alternative == "greater" and difference[0] > 0 else 1.0
    test = permutation_test(
        (difference,),
        lambda sample, axis: np.mean(sample, axis=axis),
        permutation_type="samples",
        alternative=alternative,
        vectorized=True,
        n_resamples=resamples,
        batch=1000,
        rng=np.random.default_rng(seed),
    )
    return float(test.pvalue)


def holm(p_values: Mapping[Key, float]) -> dict[Key, float]:
    """Holm's step-down correction (Holm, 1979): the family-wise error of all rejections stays below the level.

    A nan stays nan and does not count as a comparison.
    """
    known = sorted((key for key in p_values if not math.isnan(p_values[key])), key=lambda key: p_values[key])
    corrected, floor = {}, 0.0
    for rank, key in enumerate(known):
        floor = max(floor, min((len(known) - rank) * p_values[key], 1.0))
        corrected[key] = floor
    return {key: corrected.get(key, NAN) for key in p_values}


def is_clear(model: Mapping[str, float | None], baseline: Mapping[str, float | None]) -> bool:
    """Whether the mean difference over subjects is positive and more than twice its standard error."""
    difference = paired_differences(model, baseline)
    if difference.size < 2:
        return False
    return float(difference.mean()) > 2 * float(difference.std(ddof=1)) / math.sqrt(difference.size)


def gap_closed(student: float, baseline: float, teacher: float) -> float | None:
    """Share of the gap between the student without teachers and the teacher that distillation closes.

    ``(student - baseline) / (teacher - baseline)``: 0 as the baseline, 1 as the teacher, and both sides of it possible.
    None where the teacher is not above the baseline (or a value is nan): then there is no gap.
    """
    if not teacher > baseline or math.isnan(student):
        return None
    return (student - baseline) / (teacher - baseline)


def share_of_possible(value: float, chance: float, possible: float) -> float | None:
    """``(value - chance) / (possible - chance)``: 0 at chance, 1 at the best that any model could do.

    None where no more than chance is possible, or a value is nan.
    """
    if not possible > chance or math.isnan(value):
        return None
    return (value - chance) / (possible - chance)
