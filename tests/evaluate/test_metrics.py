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
from mtkd.evaluate.statistics import compare

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
    return replace(Predictions(np.full(n, "s1"), names, zeros, zeros, label, probs, confidence, zeros), **changes)


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
        assert np.isnan([*values, *metrics.credible_interval(metrics.confusion(label, probs))]).all()
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
    assert metrics.credible_interval(metrics.confusion(label, np.eye(2)[decision])) == pytest.approx(exact, abs=0.004)


def test_interval_narrows_with_rows() -> None:
    label, probs = drawn(0, 40, 2)
    counts = metrics.confusion(label, probs)
    low, high = metrics.credible_interval(counts)
    many_low, many_high = metrics.credible_interval(10 * counts)
    assert low < many_low < metrics.balanced_accuracy(label, probs) < many_high < high


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
    assert not metrics.has_confidence(replace(answers, confidence=np.arange(len(label)) > 0))  # one is not heard


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


def subjects_of(n_subjects: int, label: np.ndarray) -> np.ndarray:
    """Subjects in turn, so that each may lack a class."""
    return np.array([f"s{number % n_subjects}" for number in range(len(label))])


@few
@given(st.integers(0, 999), st.integers(0, 60), st.integers(2, 4), st.integers(1, 6))
def test_pseudo_values_have_the_pooled_auroc_as_their_mean(seed: int, n: int, n_classes: int, n_subjects: int) -> None:
    label, probs = drawn(seed, n, n_classes)
    probs = (probs * 4).round() + 0.1  # ties
    answers = rows(label, probs / probs.sum(1, keepdims=True), subject=subjects_of(n_subjects, label))
    figures = metrics.auroc_among_all(answers)
    assert set(figures) == set(answers.subject)
    assert np.mean(list(figures.values())) == pytest.approx(metrics.auroc(label, answers.probs))


def test_pseudo_values_are_those_of_the_jackknife() -> None:
    """n A - (n - 1) A without the subject, for which they stand, up to a term of 1 / n."""
    label = np.tile([0, 1], 400)
    random = np.random.default_rng(0)
    subject = np.repeat([f"s{number:02d}" for number in range(40)], 20)
    score = 1 / (1 + np.exp(-(random.normal(label, 1) + np.repeat(random.normal(0, 1, 40), 20))))
    answers = rows(label, np.stack([1 - score, score], 1), subject=subject)
    whole, figures = metrics.auroc(label, answers.probs), metrics.auroc_among_all(answers)
    left_out = {
        name: 40 * whole - 39 * metrics.auroc(label[subject != name], answers.probs[subject != name])
        for name in figures
    }
    assert list(figures.values()) == pytest.approx(list(left_out.values()), abs=0.02)


def test_a_paired_test_of_pseudo_values_finds_nothing_where_there_is_nothing() -> None:
    """Two models as good as each other, 24 subjects: its mere share calls one better in three of ten."""
    random = np.random.default_rng(0)
    label, subject = np.tile(np.repeat([0, 1], 6), 24), np.repeat(np.arange(24), 12)
    found, by_share = [], []
    for _ in range(200):
        level, effect = random.normal(0, 1, 24), random.normal(1.2, 0.8, 24)
        pair, shares = [], []
        for _ in range(2):
            own = (level + random.normal(0, 0.7, 24))[subject] + label * (effect + random.normal(0, 0.5, 24))[subject]
            score = 1 / (1 + np.exp(-(own + random.normal(0, 0.5, len(label)))))
            answers = rows(label, np.stack([1 - score, score], 1), subject=subject.astype(str))
            pair.append(metrics.auroc_among_all(answers))
            above = (score[:, None] > score[label == 0]).mean(1), (score[:, None] < score[label == 1]).mean(1)
            placed = np.where(label == 1, *above)
            shares.append({name: placed[subject == int(name)].mean() for name in pair[0]})
        found.append(compare(*pair)["p"] < 0.05)
        by_share.append(compare(*shares)["p"] < 0.05)
    assert 0.01 <= np.mean(found) <= 0.1
    assert np.mean(by_share) > 0.2


def test_a_summary_is_the_mean_over_seeds() -> None:
    label, probs = drawn(5, 60, 2)
    subject = subjects_of(4, label)
    one = rows(label, probs, subject=subject)
    other = rows(label, probs[::-1], subject=subject, seed=np.ones(len(label)))
    both = metrics.summary(Predictions.concatenate([one, other]), 10)
    apart = [metrics.summary(part, 10) for part in (one, other)]
    assert (both["n_seeds"], both["n_rows"], both["n_subjects"]) == (2, len(label), 4)
    for metric in ("balanced_accuracy", "auroc", "auroc_among_all", "kappa", "ece"):
        means = [part["mean"][metric] for part in apart]
        assert both["mean"][metric] == pytest.approx(np.mean(means))
        assert both["sd_seeds"][metric] == pytest.approx(np.std(means, ddof=1))
        for name, values in both["subjects"].items():
            assert values[metric] == pytest.approx(np.mean([part["subjects"][name][metric] for part in apart]))
    assert both["pooled"]["auroc"] == pytest.approx(np.mean([part["pooled"]["auroc"] for part in apart]))
    assert (both["confusion"] == np.mean([part["confusion"] for part in apart], axis=0)).all()
    # seeds are no more rows: the interval does not narrow with them
    width = np.diff(both["interval"])[0]
    assert width == pytest.approx(np.mean([np.diff(part["interval"])[0] for part in apart]), rel=0.05)
    assert np.isnan(apart[0]["sd_seeds"]["auroc"])


def test_a_summary_refuses_seeds_of_other_rows() -> None:
    label, probs = drawn(5, 60, 2)
    one, other = rows(label, probs), rows(label, probs, seed=np.ones(len(label)))
    with pytest.raises(MtkdError, match=r"seeds \[0, 1\] answer \[64, 63\] rows"):
        metrics.summary(Predictions.concatenate([one, other.rows(np.arange(63))]), 10)


def test_equal_answers_tie_however_their_sums_were_rounded() -> None:
    """Trials whose windows say the same in another order: no subject is told anything, by trial either."""
    random = np.random.default_rng(0)
    said = random.random(6)
    orders = [random.permutation(6) for _ in range(40)]
    high = np.concatenate([said[order] for order in orders])
    rows = Predictions(
        subject=np.repeat([f"s{index % 4}" for index in range(40)], 6),
        trial=np.repeat([f"t{index}" for index in range(40)], 6),
        window=np.tile(np.arange(6), 40),
        fold=np.zeros(240),
        label=np.repeat(random.integers(0, 2, 40), 6),
        probs=np.stack([1 - high, high], 1),
        confidence=np.full(240, 0.3),
        seed=np.zeros(240),
    ).per_trial()
    assert len(np.unique(rows.probs[:, 1])) > 1  # the test can fail
    table = metrics.summary(rows, 10)
    assert table["pooled"]["auroc"] == 0.5
    assert all(own["auroc"] in (0.5, None) or np.isnan(own["auroc"]) for own in table["subjects"].values())
    assert all(own["auroc_among_all"] == pytest.approx(0.5) for own in table["subjects"].values())
