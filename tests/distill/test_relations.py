"""Losses between windows: against torchdistill's, and within groups."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F
from torchdistill.losses import mid_level

from mtkd.distill import relations
from mtkd.distill.relations import attention, contrast, dist_within, rkd, similarity
from mtkd.layers.heads import TeacherSignal

GROUPED = [rkd, similarity, dist_within, contrast]
seeds = st.integers(0, 1000)


def drawn(seed: int, n_trials: int = 3, n_steps: int = 4, n_features: int = 6) -> TeacherSignal:
    random = torch.Generator().manual_seed(seed)
    shape = (n_trials, n_steps)
    logits, features = (torch.randn(*shape, n, generator=random, dtype=torch.float64) for n in (4, n_features))
    mask = torch.ones(shape, dtype=torch.bool)
    return TeacherSignal(logits.requires_grad_(), features.requires_grad_(), mask.double(), mask)


def io(values: Tensor) -> dict[str, Any]:
    return {"m": {"output": values}}


def windows(signal: TeacherSignal, part: str) -> dict[str, Any]:
    return io(getattr(signal, part).flatten(0, 1))


@given(seeds, st.floats(0.5, 5))
def test_they_are_torchdistills(seed: int, temperature: float) -> None:
    ours, theirs = drawn(seed), drawn(seed + 1, n_features=9)
    mask = ours.mask
    rkd_loss = mid_level.RKDLoss("m", "m", 1.0, 2.0, "mean")
    sp_loss = mid_level.SPKDLoss("m", "m", "batchmean")
    paths = ("m", "output") * 2
    dist_loss = mid_level.DISTLoss(*paths, beta=0, gamma=1, tau=temperature)
    pair = {"io": "output", "path": "m"}
    at_loss = mid_level.ATLoss({"all": {"student": pair, "teacher": pair}}, mode="code")
    features = [windows(signal, "features") for signal in (ours, theirs)]
    along_time = [io(signal.features.transpose(1, 2)) for signal in (ours, theirs)]
    for found, expected in (
        (rkd(ours, theirs, mask), rkd_loss(*features)),
        (similarity(ours, theirs, mask, norm=1.0), sp_loss(*features)),
        (
            dist_within(ours, theirs, mask, temperature=temperature),
            dist_loss(windows(ours, "logits"), windows(theirs, "logits")),
        ),
        (attention(ours, theirs, mask), at_loss(*along_time)),
    ):
        torch.testing.assert_close(found.mean(), expected, rtol=1e-5, atol=1e-5)


@given(seeds)
def test_contrast_is_torchdistills_with_the_batch_for_memory(seed: int) -> None:
    """Each window against itself and then all others, its scores in units of their mean times their number."""
    ours, theirs = drawn(seed), drawn(seed + 1)
    n = ours.mask.sum()
    crd = mid_level.CRDLoss.__new__(mid_level.CRDLoss)
    crd.num_samples, crd.eps = int(n), 1e-7
    both = [F.normalize(signal.features.flatten(0, 1), dim=1) for signal in (ours, theirs)]
    scores = torch.exp(both[0] @ both[1].T / 0.07)
    scores = scores / (scores.mean() * n)
    expected = torch.tensor(0.0).double()
    for each in (scores, scores.T):
        first = [torch.cat([row[i : i + 1], row[:i], row[i + 1 :]]) for i, row in enumerate(each)]
        expected = expected + mid_level.CRDLoss.compute_contrast_loss(crd, torch.stack(first)).squeeze()
    torch.testing.assert_close(contrast(ours, theirs, ours.mask).mean(), expected, rtol=1e-5, atol=1e-5)


def test_similarity_is_by_default_that_of_the_paper() -> None:
    """Equations 2 to 4 of Tung and Mori (2019): rows of the Gram matrix of length 1, mean over its entries."""
    ours, theirs = drawn(0), drawn(1)
    grams = [signal.features.flatten(0, 1) @ signal.features.flatten(0, 1).T for signal in (ours, theirs)]
    first, second = (gram / gram.square().sum(1, keepdim=True).sqrt() for gram in grams)
    torch.testing.assert_close(similarity(ours, theirs, ours.mask).mean(), (first - second).square().mean())


@pytest.mark.parametrize("loss", GROUPED)
@given(seed=seeds)
def test_within_groups_it_is_that_of_each_group_alone(loss: Callable[..., Tensor], seed: int) -> None:
    ours, theirs = drawn(seed, n_trials=4), drawn(seed + 1, n_trials=4)
    group = torch.tensor([7, 3, 7, 3])[:, None].expand(ours.mask.shape)
    found = loss(ours, theirs, ours.mask, group=group)
    for number in (3, 7):
        rows = group[:, 0] == number
        alone = [TeacherSignal(*(part[rows] for part in signal[:4])) for signal in (ours, theirs)]
        torch.testing.assert_close(found[rows], loss(*alone, alone[0].mask), rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("loss", [*GROUPED, attention])
def test_what_is_outside_the_mask_is_nothing_and_changes_nothing(loss: Callable[..., Tensor]) -> None:
    ours, theirs = drawn(0), drawn(1)
    mask = ours.mask.clone()
    mask[1, 1:] = False
    found = loss(ours, theirs, mask)
    assert (found[~mask] == 0).all()
    hole = mask[..., None]
    other = ours._replace(features=ours.features.where(hole, 9.0), logits=ours.logits.where(hole, 9.0))
    torch.testing.assert_close(loss(other, theirs, mask), found)
    (found.sum()).backward()
    for part in (ours.features, ours.logits):
        assert part.grad is None or (part.grad.isfinite().all() and (part.grad[~mask] == 0).all())


@pytest.mark.parametrize("loss", [*GROUPED, attention])
@pytest.mark.parametrize("n_heard", [0, 1, 2])
def test_few_windows_give_numbers(loss: Callable[..., Tensor], n_heard: int) -> None:
    ours, theirs = drawn(0), drawn(1)
    mask = torch.zeros_like(ours.mask)
    mask[0, :n_heard] = True
    found = loss(ours, theirs, mask)
    found.sum().backward()
    assert found.isfinite().all()
    for part in (ours.features, ours.logits):
        assert part.grad is None or part.grad.isfinite().all()


@pytest.mark.parametrize("loss", [*GROUPED, attention])
def test_equal_windows_give_a_gradient(loss: Callable[..., Tensor]) -> None:
    """As two dead sensors do: distances of 0, whose root and direction have none."""
    ours, theirs = drawn(0), drawn(1)
    same = ours._replace(features=ours.features[:, :1].expand(-1, 4, -1), logits=ours.logits[:, :1].expand(-1, 4, -1))
    loss(same, theirs, ours.mask).sum().backward()
    for part in (ours.features, ours.logits):
        assert part.grad is None or part.grad.isfinite().all()


def test_angles_are_the_same_however_many_are_held_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs = drawn(0), drawn(1)
    found = []
    for most in (2**22, 1, 300):
        monkeypatch.setattr(relations, "_TRIPLES", most)
        value = rkd(ours, theirs, ours.mask)
        found.append((value.detach(), torch.autograd.grad(value.sum(), ours.features)[0]))
    for value, gradient in found[1:]:
        torch.testing.assert_close(value, found[0][0])
        torch.testing.assert_close(gradient, found[0][1])


@pytest.mark.parametrize("loss", [*GROUPED, attention])
def test_a_student_that_says_the_same_has_nothing_to_learn(loss: Callable[..., Tensor]) -> None:
    theirs = drawn(1)
    found = loss(theirs, theirs, theirs.mask)
    found.sum().backward()
    if loss is not contrast:  # which is never done with telling windows apart
        torch.testing.assert_close(found, torch.zeros_like(found), rtol=0, atol=1e-9)
    gradient = theirs.features.grad if theirs.features.grad is not None else theirs.logits.grad
    assert gradient is not None
