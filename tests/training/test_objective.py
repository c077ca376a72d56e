"""The supervised terms and the class weights."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from mtkd.layers.heads import TeacherSignal
from mtkd.shards.batch import Batch
from mtkd.training.objective import class_weights, supervised

N_CLASSES = 4


def signal_of(logits: Tensor, confidence: Tensor, mask: Tensor) -> TeacherSignal:
    return TeacherSignal(logits, torch.zeros(*mask.shape, 1), confidence, mask)


def batch_of(labels: list[int], mask: Tensor) -> Batch:
    return Batch({}, {}, mask, torch.tensor(labels), [f"t{index}" for index in range(len(labels))])


@given(seed=st.integers(0, 10_000), labels=st.lists(st.integers(-1, N_CLASSES - 1), min_size=1, max_size=5))
def test_terms_are_the_textbooks(seed: int, labels: list[int]) -> None:
    random = np.random.default_rng(seed)
    n_trials, n_steps = len(labels), 3
    logits, confidence = random.normal(0, 3, (n_trials, n_steps, N_CLASSES)), random.random((n_trials, n_steps))
    mask, weights = random.random((n_trials, n_steps)) < 0.7, random.random(N_CLASSES)
    probs = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    found = supervised(
        signal_of(torch.tensor(logits), torch.tensor(confidence), torch.tensor(mask)),
        batch_of(labels, torch.tensor(mask)),
        torch.tensor(weights),
        ce=0.7,
        confidence=0.3,
    )
    assert (found["class"].weight, found["confidence"].weight) == (0.7, 0.3)
    for trial, label in enumerate(labels):
        for term in found.values():
            assert term.mask[trial].tolist() == (mask[trial] & (label >= 0)).tolist()
        if label >= 0:
            true = probs[trial, :, label]
            assert found["class"].value[trial].numpy() == pytest.approx(-weights[label] * np.log(true), rel=1e-9)
            assert found["confidence"].value[trial].numpy() == pytest.approx((confidence[trial] - true) ** 2, rel=1e-9)


def test_confidence_regresses_the_true_class_probability_and_never_moves_it() -> None:
    logits = torch.randn(2, 3, N_CLASSES, requires_grad=True)
    confidence = torch.rand(2, 3, requires_grad=True)
    mask = torch.ones(2, 3, dtype=torch.bool)
    terms = supervised(signal_of(logits, confidence, mask), batch_of([1, 2], mask), torch.ones(N_CLASSES), 1.0, 1.0)
    terms["confidence"].value.sum().backward()
    assert logits.grad is None
    true_class = logits.detach().softmax(-1)[torch.arange(2), :, [1, 2]]
    torch.testing.assert_close(confidence.grad, 2 * (confidence.detach() - true_class))


@given(st.lists(st.integers(-1, N_CLASSES - 1), max_size=60))
def test_class_weights_make_every_class_that_is_there_count_alike(labels: list[int]) -> None:
    weights = class_weights(labels, N_CLASSES)
    labelled = [label for label in labels if label >= 0]
    shares = {label: weights[label].item() * labelled.count(label) for label in labelled}
    assert all(share == pytest.approx(len(labelled) / len(shares), rel=1e-5) for share in shares.values())
    assert all(weights[label] == 0 for label in range(N_CLASSES) if label not in labelled)
    if labelled:
        assert np.mean([weights[label].item() for label in labelled]) == pytest.approx(1, rel=1e-5)
