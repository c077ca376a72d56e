"""Teacher weights."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from mtkd.distill.combine import teacher_weights
from mtkd.layers.heads import TeacherSignal

N_CLASSES, N_STEPS = 4, 3
labels_of_trials = st.lists(st.integers(-1, N_CLASSES - 1), min_size=1, max_size=4)


def teachers(seed: int, n_trials: int, names: tuple[str, ...] = ("temporal", "spatial")) -> dict[str, TeacherSignal]:
    random = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> Tensor:
        return torch.randn(n_trials, N_STEPS, *shape, generator=random, dtype=torch.float64)

    mask = torch.ones(n_trials, N_STEPS, dtype=torch.bool)
    return {name: TeacherSignal(3 * draw(N_CLASSES), draw(2), draw().sigmoid(), mask) for name in names}


@given(st.integers(0, 10_000), labels_of_trials)
def test_camkd_is_the_papers(seed: int, labels: list[int]) -> None:
    """w_k = (1 - softmax_k(CE(t_k, y))) / (K - 1), in numpy."""
    said = teachers(seed, len(labels))
    found = teacher_weights(said, "camkd", torch.tensor(labels))
    losses = []
    for signal in said.values():
        logits = signal.logits.numpy()
        log_probs = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
        losses.append(-log_probs[np.arange(len(labels)), :, labels])
    shares = np.exp(losses) / np.exp(losses).sum(0)
    expected = (1 - shares) / (len(said) - 1)
    expected[:, np.array(labels) < 0] = 1 / len(said)
    for weight, reference in zip(found.values(), expected, strict=True):
        assert weight.numpy() == pytest.approx(reference, rel=1e-9)


@given(st.integers(0, 10_000), labels_of_trials)
def test_camkd_shares_one_out_and_trusts_who_is_nearer_to_the_label(seed: int, labels: list[int]) -> None:
    said = teachers(seed, len(labels))
    found = teacher_weights(said, "camkd", torch.tensor(labels))
    total = torch.stack(list(found.values())).sum(0)
    torch.testing.assert_close(total, torch.ones_like(total))
    for trial, label in enumerate(labels):
        if label >= 0:
            true = {name: signal.logits[trial].softmax(-1)[:, label] for name, signal in said.items()}
            nearer = true["temporal"] > true["spatial"]
            assert torch.equal(found["temporal"][trial] > found["spatial"][trial], nearer)


def test_camkd_with_one_teacher_is_that_teacher() -> None:
    said = teachers(0, 2, ("spatial",))
    found = teacher_weights(said, "camkd", torch.tensor([1, -1]))
    assert torch.equal(found["spatial"], torch.ones_like(said["spatial"].confidence))


@given(st.integers(0, 10_000), labels_of_trials, st.lists(st.booleans(), min_size=2 * N_STEPS, max_size=2 * N_STEPS))
def test_camkd_shares_one_out_among_the_teachers_that_answered(
    seed: int, labels: list[int], answered: list[bool]
) -> None:
    said = teachers(seed, len(labels))
    whole = teacher_weights(said, "camkd", torch.tensor(labels))
    masks = torch.tensor(answered).view(2, N_STEPS)
    some = {
        name: signal._replace(mask=mask.expand(len(labels), -1))
        for (name, signal), mask in zip(said.items(), masks, strict=True)
    }
    found = teacher_weights(some, "camkd", torch.tensor(labels))
    for step, (first, second) in enumerate(masks.T.tolist()):
        temporal, spatial = found["temporal"][:, step], found["spatial"][:, step]
        if first and second:
            torch.testing.assert_close(temporal, whole["temporal"][:, step])
            torch.testing.assert_close(spatial, whole["spatial"][:, step])
        else:
            assert torch.equal(temporal, torch.full_like(temporal, first))
            assert torch.equal(spatial, torch.full_like(spatial, second))


@given(st.integers(0, 10_000), labels_of_trials)
def test_other_weights_never_look_at_a_label(seed: int, labels: list[int]) -> None:
    said = teachers(seed, len(labels))
    equal = teacher_weights(said, "equal", torch.tensor(labels))
    confidence = teacher_weights(said, "confidence", torch.tensor(labels))
    for name, signal in said.items():
        assert torch.equal(equal[name], torch.ones_like(signal.confidence))
        assert torch.equal(confidence[name], signal.confidence)


@pytest.mark.parametrize("weighting", ["equal", "confidence", "camkd"])
def test_no_teachers_no_weights(weighting: str) -> None:
    assert teacher_weights({}, weighting, torch.tensor([0])) == {}
