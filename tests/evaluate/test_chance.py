import numpy as np
import pytest

from mtkd.errors import MtkdError
from mtkd.evaluate import chance, metrics
from mtkd.evaluate.predictions import Predictions


def unsaid(label: np.ndarray, n_classes: int = 2) -> Predictions:
    """Rows of two subjects in turn, each tested in a fold of its own, whose answers nobody looks at."""
    turn, n = np.arange(len(label)) % 2, len(label)
    trial, zeros = np.arange(n).astype(str), np.zeros(n)
    return Predictions(np.array(["a", "b"])[turn], trial, zeros, turn, label, np.eye(n_classes)[label], zeros, zeros)


@pytest.mark.parametrize(("n", "limit"), [(20, 0.70), (40, 0.625), (100, 0.58), (200, 0.56)])
def test_chance_level_of_combrisson_and_jerbi(n: int, limit: float) -> None:
    assert chance.chance_level([n // 2, n // 2]) == pytest.approx(limit, abs=0.0051)


@pytest.mark.parametrize("counts", [[50, 50], [15, 85], [30, 40, 50, 60], [10, 0, 40]])
def test_guessing_exceeds_the_chance_level_in_a_twentieth(counts: list[int]) -> None:
    random = np.random.default_rng(0)
    present = [n for n in counts if n]
    recalls = [random.binomial(n, 1 / len(present), 20_000) / n for n in present]
    exceeded = (np.mean(recalls, axis=0) > chance.chance_level(counts) + 1e-9).mean()
    assert 0.01 < exceeded < 0.065


def test_chance_of_one_class_is_undefined() -> None:
    assert np.isnan(chance.chance_level([12, 0]))


def test_trivial_predictors_know_their_training_trials_only() -> None:
    answers = unsaid(np.array([0, 0, 1, 1, 2, 2, 2, 0, 1, 1]), n_classes=3)
    train = {0: [0, 1, 1, -1, -1, -1, 2], 1: [2, 2, 0, -1]}
    share = chance.class_share(train, answers)
    np.testing.assert_allclose(share.probs[answers.fold == 0], [[0.25, 0.5, 0.25]] * (answers.fold == 0).sum())
    np.testing.assert_allclose(share.probs[answers.fold == 1], [[1 / 3, 0, 2 / 3]] * (answers.fold == 1).sum())
    majority = chance.majority(train, answers)
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
        chance.majority(train, unsaid(np.array([0, 1])))
