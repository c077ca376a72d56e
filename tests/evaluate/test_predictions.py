from dataclasses import fields, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mtkd.errors import MtkdError
from mtkd.evaluate.predictions import Predictions

relaxed = settings(deadline=None)


def drawn(seed: int, n_trials: int = 5, n_windows: int = 4, n_classes: int = 4) -> Predictions:
    """Random answers of 3 subjects in 2 folds; the trial's keys are the same in every subject."""
    random = np.random.default_rng(seed)
    subject, trial, window = (index.ravel() for index in np.indices((3, n_trials, n_windows)))
    labels = random.integers(-1, n_classes, (3, n_trials))
    return Predictions(
        subject=np.array([f"s{index}" for index in subject]),
        trial=np.array([f"t{index}" for index in trial]),
        window=window,
        fold=subject % 2,
        label=labels[subject, trial],
        probs=random.dirichlet(np.ones(n_classes), len(subject)),
        confidence=random.uniform(0.01, 0.99, len(subject)),
        seed=np.zeros(len(subject)),
    )


def same(one: Predictions, other: Predictions) -> bool:
    close = np.allclose(one.probs, other.probs) and np.allclose(one.confidence, other.confidence)
    names = [field.name for field in fields(one) if field.name not in ("probs", "confidence")]
    return close and all(np.array_equal(getattr(one, name), getattr(other, name)) for name in names)


@relaxed
@given(st.integers(0, 999))
def test_trial_is_the_confidence_weighted_mean_of_its_windows(seed: int) -> None:
    rows = drawn(seed)
    trials = rows.per_trial()
    assert len(trials) == 15
    assert (trials.window == -1).all()
    for index in range(len(trials)):
        mine = (rows.subject == trials.subject[index]) & (rows.trial == trials.trial[index])
        expected = np.average(rows.probs[mine], axis=0, weights=rows.confidence[mine])
        np.testing.assert_allclose(trials.probs[index], expected)
        np.testing.assert_allclose(trials.confidence[index], rows.confidence[mine].mean())
        assert set(rows.label[mine]) == {trials.label[index]}
        assert set(rows.fold[mine]) == {trials.fold[index]}


@relaxed
@given(st.integers(0, 999))
def test_trials_do_not_depend_on_the_order_of_rows(seed: int) -> None:
    rows = drawn(seed)
    shuffled = rows.rows(np.random.default_rng(seed).permutation(len(rows)))
    assert same(rows.per_trial(), shuffled.per_trial())


def test_windows_without_confidence_weigh_the_same() -> None:
    rows = drawn(1)
    silent = replace(rows, confidence=np.zeros(len(rows)))
    even = replace(rows, confidence=np.full(len(rows), 0.7))
    np.testing.assert_allclose(silent.per_trial().probs, even.per_trial().probs)


@relaxed
@given(st.integers(0, 999), st.integers(0, 2))
def test_marginal_sums_the_classes_of_a_rating(seed: int, bit: int) -> None:
    rows = drawn(seed, n_classes=8)
    high = [index for index in range(8) if index >> bit & 1]
    marginal = rows.marginal(bit)
    np.testing.assert_allclose(marginal.probs[:, 1], rows.probs[:, high].sum(1))
    np.testing.assert_allclose(marginal.probs.sum(1), 1)
    expected = np.where(rows.label < 0, -1, np.isin(rows.label, high))
    np.testing.assert_array_equal(marginal.label, expected)
    assert same(marginal.per_trial(), rows.per_trial().marginal(bit))


@relaxed
@given(st.integers(0, 999))
def test_folds_put_together_are_the_whole(seed: int) -> None:
    rows = drawn(seed)
    order = np.argsort(rows.fold, kind="stable")
    parts = [rows.rows(rows.fold == fold) for fold in (0, 1)]
    assert same(Predictions.concatenate(parts), rows.rows(order))


def test_only_labelled_rows_have_labels() -> None:
    rows = drawn(0)
    labelled = rows.labelled()
    assert 0 < len(labelled) < len(rows)
    assert (labelled.label >= 0).all()


def test_half_floats_are_accepted_and_made_exact() -> None:
    rows = drawn(0)
    half = replace(rows, probs=rows.probs.astype(np.float16))
    np.testing.assert_allclose(half.probs.sum(1), 1, atol=1e-12)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"label": np.zeros(3)}, r"label has shape \(3,\), but probs has 60 rows"),
        ({"probs": np.full((60, 4), 0.3)}, "no distribution"),
        ({"probs": np.full((60, 4), np.nan)}, "no distribution"),
        ({"probs": np.tile([1.2, -0.2, 0, 0], (60, 1))}, "no distribution"),
        ({"probs": np.ones((60, 1))}, "at least 2 classes"),
        ({"confidence": np.full(60, 1.5)}, r"confidence 1.5, not in \[0, 1\]"),
        ({"confidence": np.full(60, np.nan)}, "confidence nan"),
        ({"label": np.full(60, 4)}, "label 4 of 4 classes"),
        ({"label": np.full(60, -2)}, "label -2 of 4 classes"),
        ({"window": np.zeros(60)}, "subject s0, trial t0, window 0 stands twice in fold 0"),
    ],
)
def test_what_is_no_prediction_is_refused(changes: dict[str, np.ndarray], message: str) -> None:
    with pytest.raises(MtkdError, match=message):
        replace(drawn(0), **changes)


def test_windows_of_a_trial_cannot_differ_in_label() -> None:
    rows = drawn(0)
    with pytest.raises(MtkdError, match="another label than its trial's first window"):
        replace(rows, label=np.arange(60) % 4).per_trial()


def test_impossible_requests_are_refused() -> None:
    with pytest.raises(MtkdError, match="no rating 2 in 4 classes"):
        drawn(0).marginal(2)
    with pytest.raises(MtkdError, match=r"parts with \[2, 4\] classes"):
        Predictions.concatenate([drawn(0), drawn(0).marginal(0)])
    with pytest.raises(MtkdError, match=r"parts with \[\] classes"):
        Predictions.concatenate([])
