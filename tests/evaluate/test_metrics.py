import warnings
from dataclasses import replace

import numpy as np
import pytest
import sklearn.metrics
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import beta

from mtkd.errors import MtkdError
from mtkd.evaluate import metrics
from mtkd.evaluate.predictions import Predictions

few = settings(max_examples=40, deadline=None)


def drawn(seed: int, n: int, n_classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Labels with every class at least twice, and unrelated probabilities."""
    random = np.random.default_rng(seed)
    label = random.permutation(np.concatenate([np.arange(2 * n_classes) // 2, random.integers(0, n_classes, n)]))
    return label, random.dirichlet(np.ones(n_classes), len(label))


def rows(label: np.ndarray, probs: np.ndarray, **changes: np.ndarray) -> Predictions:
    n = len(label)
    confidence = np.random.default_rng(0).uniform(0.1, 0.9, n)
    names, zeros = np.array([f"t{index}" for index in range(n)]), np.zeros(n)
    return replace(Predictions(np.full(n, "s1"), names, zeros, zeros, label, probs, confidence), **changes)


@few
@given(st.integers(0, 999), st.integers(0, 40), st.integers(2, 4))
def test_metrics_are_those_of_sklearn(seed: int, n: int, n_classes: int) -> None:
    label, probs = drawn(seed, n, n_classes)
    decision = probs.argmax(1)
    assert metrics.balanced_accuracy(label, probs) == pytest.approx(
        sklearn.metrics.balanced_accuracy_score(label, decision)
    )
    assert metrics.cohen_kappa(label, probs) == pytest.approx(sklearn.metrics.cohen_kappa_score(label, decision))
    given_probs = probs[:, 1] if n_classes == 2 else probs
    assert metrics.auroc(label, probs) == pytest.approx(
        sklearn.metrics.roc_auc_score(label, given_probs, multi_class="ovr", average="macro")
    )
    counts = metrics.confusion(label, probs)
    precision = counts.diagonal() / np.maximum(counts.sum(0), 1)
    recall = counts.diagonal() / counts.sum(1)
    f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-12)
    assert metrics.macro_f1(label, probs) == pytest.approx(f1.mean())
    assert metrics.balanced_accuracy(label, probs) == pytest.approx(recall.mean())


@few
@given(st.integers(0, 999), st.integers(0, 40))
def test_auroc_is_of_the_order_only(seed: int, n: int) -> None:
    label, probs = drawn(seed, n, 2)
    sharper = probs**3 / (probs**3).sum(1, keepdims=True)
    assert metrics.auroc(label, sharper) == pytest.approx(metrics.auroc(label, probs))
    assert metrics.auroc(label, probs[:, ::-1]) == pytest.approx(1 - metrics.auroc(label, probs))


def test_auroc_of_absent_classes_is_left_out() -> None:
    label, probs = drawn(0, 30, 3)
    present = label < 2
    expected = [sklearn.metrics.roc_auc_score(label[present] == index, probs[present, index]) for index in (0, 1)]
    assert metrics.auroc(label[present], probs[present]) == pytest.approx(np.mean(expected))


def test_one_class_is_undefined_without_a_warning() -> None:
    label, probs = np.zeros(5, int), np.tile([0.7, 0.3], (5, 1))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        values = [metric(label, probs) for metric in (metrics.balanced_accuracy, metrics.auroc, metrics.cohen_kappa)]
        assert np.isnan([*values, *metrics.credible_interval(label, probs)]).all()
        assert metrics.macro_f1(label, probs) == 1
        assert metrics.ece(label, probs) == pytest.approx(0.3)


def test_absent_classes_may_be_decided_without_a_warning() -> None:
    label, probs = np.array([0, 0, 1, 1]), np.eye(3)[[0, 2, 1, 2]]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert metrics.balanced_accuracy(label, probs) == 0.5
        assert metrics.macro_f1(label, probs) == pytest.approx((2 / 3 + 2 / 3 + 0) / 3)


def test_ece_by_hand() -> None:
    label = np.array([0, 0, 1, 1])
    probs = np.array([[0.9, 0.1], [0.95, 0.05], [0.35, 0.65], [0.65, 0.35]])
    # (0.6, 0.7]: 0.65 and half right; (0.8, 0.9]: 0.9 and right; (0.9, 1]: 0.95 and right.
    assert metrics.ece(label, probs, 10) == pytest.approx((2 * 0.15 + 0.1 + 0.05) / 4)
    curve = metrics.calibration_curve(label, probs, 10)
    assert curve == {
        "probability": pytest.approx([0.65, 0.9, 0.95]),
        "accuracy": pytest.approx([0.5, 1, 1]),
        "n": [2, 1, 1],
    }


@few
@given(st.integers(0, 999), st.integers(0, 60), st.integers(2, 4), st.integers(2, 20))
def test_ece_is_bounded_and_uses_every_row(seed: int, n: int, n_classes: int, n_bins: int) -> None:
    label, probs = drawn(seed, n, n_classes)
    overall = abs((probs.argmax(1) == label).mean() - probs.max(1).mean())
    assert overall - 1e-12 <= metrics.ece(label, probs, n_bins) <= 1
    assert sum(metrics.calibration_curve(label, probs, n_bins)["n"]) == len(label)


def test_ece_of_honest_probabilities_vanishes() -> None:
    random = np.random.default_rng(0)
    high = random.uniform(0, 1, 40_000)
    label = (random.uniform(0, 1, 40_000) < high).astype(int)
    assert metrics.ece(label, np.stack([1 - high, high], 1), 10) < 0.02


def test_interval_is_the_exact_posterior() -> None:
    """Against the convolution of the two recalls' posteriors on a grid."""
    label = np.repeat([0, 1], [20, 60])
    decision = np.concatenate([np.repeat([0, 1], [15, 5]), np.repeat([1, 0], [33, 27])])
    grid = np.linspace(0, 1, 4001)
    densities = [beta(16, 6).pdf(grid), beta(34, 28).pdf(grid)]
    mean = np.convolve(*densities)
    cumulative = np.cumsum(mean) / mean.sum()
    exact = np.interp([0.025, 0.975], cumulative, np.linspace(0, 1, len(mean)))
    assert metrics.credible_interval(label, np.eye(2)[decision]) == pytest.approx(exact, abs=0.004)


def test_interval_narrows_with_rows() -> None:
    label, probs = drawn(0, 40, 2)
    low, high = metrics.credible_interval(label, probs)
    many_low, many_high = metrics.credible_interval(np.tile(label, 10), np.tile(probs, (10, 1)))
    assert low < many_low < metrics.balanced_accuracy(label, probs) < many_high < high


@pytest.mark.parametrize(("n", "limit"), [(20, 0.70), (40, 0.625), (100, 0.58), (200, 0.56)])
def test_chance_level_of_combrisson_and_jerbi(n: int, limit: float) -> None:
    assert metrics.chance_level([n // 2, n // 2]) == pytest.approx(limit, abs=0.0051)


@pytest.mark.parametrize("counts", [[50, 50], [15, 85], [30, 40, 50, 60], [10, 0, 40]])
def test_guessing_exceeds_the_chance_level_in_a_twentieth(counts: list[int]) -> None:
    random = np.random.default_rng(0)
    present = [n for n in counts if n]
    recalls = [random.binomial(n, 1 / len(present), 20_000) / n for n in present]
    exceeded = (np.mean(recalls, axis=0) > metrics.chance_level(counts) + 1e-9).mean()
    assert 0.01 < exceeded < 0.065


def test_chance_of_one_class_is_undefined() -> None:
    assert np.isnan(metrics.chance_level([12, 0]))


def test_confidence_ranking() -> None:
    label, probs = drawn(0, 40, 2)
    answers = rows(label, probs)
    right = (probs.argmax(1) == label).astype(float)
    assert metrics.confidence_ranking(replace(answers, confidence=0.1 + 0.8 * right)) == 1
    assert metrics.confidence_ranking(replace(answers, confidence=0.9 - 0.8 * right)) == 0
    assert metrics.confidence_ranking(answers) == sklearn.metrics.roc_auc_score(right, answers.confidence)
    assert np.isnan(metrics.confidence_ranking(rows(label, np.eye(2)[label])))
    assert metrics.has_confidence(answers)
    assert not metrics.has_confidence(replace(answers, confidence=np.full(len(label), 0.4)))


def test_confidence_over_time() -> None:
    label, window = np.array([0, 0, 0, 1, 1]), np.array([0, 1, 2, 0, 1])
    probs = np.eye(2)[[0, 1, 0, 1, 1]]
    answers = rows(
        label, probs, window=window, trial=np.array(list("aaabb")), confidence=np.array([0.2, 0.4, 0.6, 0.4, 0.8])
    )
    course = metrics.confidence_over_time(answers)
    assert course == {
        "window": [0, 1, 2],
        "confidence": pytest.approx([0.3, 0.6, 0.6]),
        "accuracy": [1, 0.5, 1],
        "n": [2, 2, 1],
    }


def test_summary_over_subjects() -> None:
    label, probs = drawn(3, 60, 2)
    subject = np.array(["a", "b", "c"])[np.arange(len(label)) % 3]
    label[subject == "c"] = 1
    summary = metrics.summary(rows(label, probs, subject=subject), n_bins=10)
    assert summary["n_rows"] == len(label)
    assert summary["n_subjects"] == 3
    each = [metrics.auroc(label[subject == name], probs[subject == name]) for name in "ab"]
    assert summary["subjects"]["b"]["auroc"] == each[1]
    assert np.isnan(summary["subjects"]["c"]["auroc"])
    assert summary["mean"]["auroc"] == pytest.approx(np.mean(each))
    assert summary["sd"]["auroc"] == pytest.approx(np.std(each, ddof=1))
    assert summary["pooled"]["auroc"] == metrics.auroc(label, probs)
    assert summary["interval"][0] < summary["pooled"]["balanced_accuracy"] < summary["interval"][1]
    eces = [metrics.ece(label[subject == name], probs[subject == name], 10) for name in "abc"]
    assert summary["mean"]["ece"] == pytest.approx(np.mean(eces))


def test_summary_refuses_rows_without_a_label() -> None:
    label, probs = drawn(0, 5, 2)
    with pytest.raises(MtkdError, match="1 without a label"):
        metrics.summary(rows(np.append(-1, label[1:]), probs), 10)
    with pytest.raises(MtkdError, match="0 rows"):
        metrics.summary(rows(label, probs).rows([False] * len(label)), 10)


def test_trivial_predictors_know_their_training_trials_only() -> None:
    label, probs = drawn(0, 20, 3)
    answers = rows(
        label, probs, fold=np.arange(len(label)) % 2, subject=np.array(["a", "b"])[np.arange(len(label)) % 2]
    )
    train = {0: [0, 1, 1, -1, -1, -1, 2], 1: [2, 2, 0, -1]}
    share = metrics.class_share(train, answers)
    np.testing.assert_allclose(share.probs[answers.fold == 0], [[0.25, 0.5, 0.25]] * (answers.fold == 0).sum())
    np.testing.assert_allclose(share.probs[answers.fold == 1], [[1 / 3, 0, 2 / 3]] * (answers.fold == 1).sum())
    majority = metrics.majority(train, answers)
    assert set(majority.decision[answers.fold == 0]) == {1}
    assert set(majority.decision[answers.fold == 1]) == {2}
    assert majority.probs.max() == pytest.approx(0.999)
    for trivial in (share, majority):
        assert not metrics.has_confidence(trivial)
        np.testing.assert_array_equal(trivial.label, answers.label)
        summary = metrics.summary(trivial, 10)
        assert summary["mean"]["auroc"] == 0.5
        assert summary["mean"]["balanced_accuracy"] == pytest.approx(1 / 3)
        assert np.isnan(summary["mean"]["confidence_auroc"])


@pytest.mark.parametrize(
    ("train", "message"), [({1: [0, 1]}, "no training labels for fold 0"), ({0: [-1]}, "fold 0"), ({0: [5]}, "fold 0")]
)
def test_trivial_predictors_need_training_trials(train: dict[int, list[int]], message: str) -> None:
    with pytest.raises(MtkdError, match=message):
        metrics.majority(train, rows(*drawn(0, 5, 2)))
