"""Losses between student and teacher."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from torch import nn

from mtkd.distill.losses import hint, kl

logits = arrays(np.float64, (3, 4, 5), elements=st.floats(-20, 20))
temperatures = st.floats(0.5, 10)


@given(logits, logits, temperatures)
def test_kl_is_torchs_at_a_temperature(student: np.ndarray, teacher: np.ndarray, temperature: float) -> None:
    ours, theirs = torch.tensor(student), torch.tensor(teacher)
    reference = nn.KLDivLoss(reduction="none", log_target=True)(
        (ours / temperature).log_softmax(-1), (theirs / temperature).log_softmax(-1)
    )
    torch.testing.assert_close(kl(ours, theirs, temperature), temperature**2 * reference.sum(-1), rtol=1e-9, atol=1e-9)


@given(logits, temperatures)
def test_kl_to_oneself_is_nothing_and_to_others_not_negative(values: np.ndarray, temperature: float) -> None:
    teacher = torch.tensor(values)
    shifted = teacher + torch.arange(3.0)[:, None, None]  # logits say the same when all are shifted
    torch.testing.assert_close(kl(shifted, teacher, temperature), torch.zeros(3, 4).double(), rtol=0, atol=1e-9)
    assert (kl(teacher.flip(-1), teacher, temperature) >= -1e-12).all()


def test_kl_asks_for_the_teachers_distribution() -> None:
    """Forward divergence: what the teacher holds possible, the student must."""
    sure, unsure = torch.tensor([8.0, 0.0]), torch.tensor([0.0, 0.0])
    assert kl(sure, unsure, 1.0) > 2 * kl(unsure, sure, 1.0)


@given(st.floats(2, 8))
def test_the_gradient_keeps_its_size_at_any_temperature(temperature: float) -> None:
    """Hinton's reason for the square: small logits give the same gradient at T as at 1."""
    teacher = 1e-3 * torch.randn(6, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    gradients = []
    for degree in (1.0, temperature):
        student = torch.zeros(6, 4, dtype=torch.float64, requires_grad=True)
        kl(student, teacher, degree).sum().backward()
        gradients.append(student.grad)
    torch.testing.assert_close(gradients[1], gradients[0], rtol=0.02, atol=2e-6)


@given(arrays(np.float64, (2, 6), elements=st.floats(-5, 5)), st.integers(0, 1000), st.floats(1, 100), st.floats(-9, 9))
def test_a_hint_is_the_distance_to_the_normalised_teacher(
    student: np.ndarray, seed: int, scale: float, shift: float
) -> None:
    teacher = np.random.default_rng(seed).normal(size=(2, 6))
    normal = (teacher - teacher.mean(-1, keepdims=True)) / np.sqrt(teacher.var(-1, keepdims=True) + 1e-5)
    found = hint(torch.tensor(student), torch.tensor(teacher)).numpy()
    assert found == pytest.approx(((student - normal) ** 2).mean(-1), rel=1e-9)
    rescaled = hint(torch.tensor(student), torch.tensor(scale * teacher + shift)).numpy()
    assert rescaled == pytest.approx(found, rel=2e-2, abs=2e-2)  # teachers of any scale weigh alike
