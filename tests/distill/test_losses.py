"""Losses between student and teacher."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from torch import Tensor, nn
from torch.nn import functional as F
from torchdistill.losses import mid_level

from mtkd.distill.losses import dist, dkd, hint, kd, logit_std
from mtkd.layers.heads import TeacherSignal

logits = arrays(np.float64, (3, 4, 5), elements=st.floats(-20, 20))
temperatures = st.floats(0.5, 10)
PLACES = [(who, what) for who in ("student", "teacher") for what in ("path", "io")]
ALL = torch.ones(3, 4, dtype=torch.bool)


def said(logits: Tensor | None = None, features: Tensor | None = None) -> TeacherSignal:
    """What a model says of three trials of four windows, in double precision."""
    none = torch.zeros(3, 4, 1, dtype=torch.float64)
    given = [none if each is None else each for each in (logits, features)]
    return TeacherSignal(*given, torch.ones(3, 4, dtype=torch.float64), ALL)


def kl(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    return kd(said(student), said(teacher), ALL, temperature=temperature)


def drawn(seed: int, n_classes: int) -> TeacherSignal:
    random = torch.Generator().manual_seed(seed)
    return said(*(torch.randn(3, 4, n, generator=random, dtype=torch.float64) for n in (n_classes, 6)))


def reference(loss: str, ours: TeacherSignal, theirs: TeacherSignal, **options: float) -> Tensor:
    """torchdistill's, of the windows one after another, a mean over them."""
    paths = {
        f"{who}_module_{what}": text
        for who in ("student", "teacher")
        for what, text in (("path", "m"), ("io", "output"))
    }
    made = getattr(mid_level, loss)(**paths, **options)
    return made(*({"m": {"output": each.logits.flatten(0, 1)}} for each in (ours, theirs)))


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
    sure, unsure = (torch.tensor(each).double().expand(3, 4, 2) for each in ([8.0, 0.0], [0.0, 0.0]))
    assert (kl(sure, unsure, 1.0) > 2 * kl(unsure, sure, 1.0)).all()


@given(st.floats(2, 8))
def test_the_gradient_keeps_its_size_at_any_temperature(temperature: float) -> None:
    """Hinton's reason for the square: small logits give the same gradient at T as at 1."""
    teacher = 1e-3 * torch.randn(3, 4, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    gradients = []
    for degree in (1.0, temperature):
        student = torch.zeros(3, 4, 5, dtype=torch.float64, requires_grad=True)
        kl(student, teacher, degree).sum().backward()
        gradients.append(student.grad)
    torch.testing.assert_close(gradients[1], gradients[0], rtol=0.02, atol=2e-6)


@given(
    arrays(np.float64, (3, 4, 6), elements=st.floats(-5, 5)),
    st.integers(0, 1000),
    st.floats(1, 100),
    st.floats(-9, 9),
)
def test_a_hint_is_the_distance_to_the_normalised_teacher(
    student: np.ndarray, seed: int, scale: float, shift: float
) -> None:
    teacher = np.random.default_rng(seed).normal(size=(3, 4, 6))
    normal = (teacher - teacher.mean(-1, keepdims=True)) / np.sqrt(teacher.var(-1, keepdims=True) + 1e-5)
    ours = said(features=torch.tensor(student))
    found = hint(ours, said(features=torch.tensor(teacher)), ALL).numpy()
    assert found == pytest.approx(((student - normal) ** 2).mean(-1), rel=1e-9)
    rescaled = hint(ours, said(features=torch.tensor(scale * teacher + shift)), ALL).numpy()
    assert rescaled == pytest.approx(found, rel=2e-2, abs=2e-2)  # teachers of any scale weigh alike


@given(st.integers(0, 1000), st.sampled_from([2, 4]), st.floats(0.5, 5))
def test_they_are_torchdistills(seed: int, n_classes: int, temperature: float) -> None:
    """Which leaves the square of the temperature out of two of them."""
    ours, theirs = drawn(seed, n_classes), drawn(seed + 1, n_classes)
    for loss, name, options, factor in (
        (kd, "KDLoss", {"temperature": temperature, "alpha": 0}, temperature**2),
        (logit_std, "LogitStdKDLoss", {"temperature": temperature, "alpha": 0}, temperature**2),
        (dist, "DISTLoss", {"tau": temperature, "beta": 1, "gamma": 0}, 1),
    ):
        expected = factor * reference(name, ours, theirs, **options)
        torch.testing.assert_close(
            loss(ours, theirs, ALL, temperature=temperature).mean(), expected, rtol=1e-5, atol=1e-5
        )


@given(st.integers(0, 1000), st.sampled_from([2, 4]), st.floats(0.5, 5), st.floats(0, 2), st.floats(0, 8))
def test_dkd_is_its_formula(seed: int, n_classes: int, temperature: float, alpha: float, beta: float) -> None:
    """alpha KL(b^t || b^s) + beta KL(p^t_hat || p^s_hat), equation 7 of Zhao et al. (2022), each times T^2."""
    ours, theirs = drawn(seed, n_classes), drawn(seed + 1, n_classes)
    target = torch.randint(0, n_classes, (3, 4), generator=torch.Generator().manual_seed(seed))
    one = F.one_hot(target, n_classes).bool()
    of_target, among = [], []
    for signal in (theirs, ours):
        probs = (signal.logits / temperature).softmax(-1)
        p = probs[one].view(3, 4)
        of_target.append(torch.stack([p, 1 - p], -1))
        among.append(probs[~one].view(3, 4, -1) / (1 - p)[..., None])
    first, second = ((t * (t / s).log()).sum(-1) for t, s in (of_target, among))
    expected = temperature**2 * (alpha * first + beta * second)
    found = dkd(ours, theirs, ALL, target=target, temperature=temperature, alpha=alpha, beta=beta)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-7)


@given(st.integers(0, 1000))
def test_of_two_classes_they_are_what_is_said(seed: int) -> None:
    ours, theirs = drawn(seed, 2), drawn(seed + 1, 2)
    target = theirs.logits.argmax(-1)
    alone = dkd(ours, theirs, ALL, target=target, beta=0.0)
    torch.testing.assert_close(dkd(ours, theirs, ALL, target=target, beta=8.0), alone)
    torch.testing.assert_close(alone, kd(ours, theirs, ALL))
    found = dist(ours, theirs, ALL)
    torch.testing.assert_close(found, found.round(), rtol=0, atol=1e-5)
    surer = theirs._replace(logits=7 * theirs.logits)
    torch.testing.assert_close(logit_std(ours, surer, ALL), logit_std(ours, theirs, ALL), rtol=1e-2, atol=1e-2)
    ours.logits.requires_grad_()
    for loss in (dist, logit_std):
        (gradient,) = torch.autograd.grad(loss(ours, theirs, ALL).sum(), ours.logits)
        torch.testing.assert_close(
            gradient * (ours.logits.diff() / 2).square(), torch.zeros_like(gradient), rtol=0, atol=1e-4
        )


@pytest.mark.parametrize("loss", [kd, logit_std, dist, hint])
def test_what_is_outside_the_mask_is_nothing(loss: Callable[..., Tensor]) -> None:
    mask = ALL.clone()
    mask[1, 2:] = False
    ours, theirs = drawn(0, 4), drawn(1, 4)
    for signal in (ours, theirs):
        for part in signal[:2]:
            part[~mask] = torch.nan
    found = loss(ours, theirs, mask)
    assert (found[~mask] == 0).all()
    assert (found[mask] > 0).all()
