"""Attention over packed trials is attention over each of them."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from mtkd.teachers.temporal.attention import Segments, packed_attention

CPU = torch.device("cpu")


def by_hand(query: Tensor, key: Tensor, value: Tensor, segments: Segments, window: int | None) -> Tensor:
    """One large product with all of the others' scores taken out."""
    key, value = (each.repeat_interleave(query.shape[1] // key.shape[1], dim=1) for each in (key, value))
    own = torch.repeat_interleave(torch.arange(len(segments.lengths)), torch.tensor(segments.lengths))
    distance = torch.arange(len(own))[:, None] - torch.arange(len(own))
    allowed = own[:, None] == own
    if segments.causal:
        allowed &= distance >= 0
    if window is not None:
        allowed &= distance.abs() < window
    scores = (query @ key.transpose(2, 3) / query.shape[-1] ** 0.5).masked_fill(~allowed, -torch.inf)
    return (scores.softmax(-1) @ value).transpose(1, 2)


@given(
    lengths=st.lists(st.integers(1, 7), min_size=1, max_size=5) | st.integers(1, 5).map(lambda n: [4] * n),
    n_heads=st.sampled_from([(2, 2), (4, 2), (3, 1)]),
    causal=st.booleans(),
    window=st.none() | st.integers(1, 8),
)
def test_trials_attend_within_themselves(
    lengths: list[int], n_heads: tuple[int, int], causal: bool, window: int | None
) -> None:
    query, key, value = (
        torch.randn(1, heads, sum(lengths), 8, dtype=torch.float64) for heads in (n_heads[0], n_heads[1], n_heads[1])
    )
    segments = Segments(tuple(lengths), causal, CPU)
    found, _ = packed_attention(None, query, key, value, None, segments=segments, sliding_window=window)
    torch.testing.assert_close(found, by_hand(query, key, value, segments, window))


def test_bounds_are_where_trials_begin_and_the_last_ends() -> None:
    assert Segments((3, 1, 5), True, CPU).bounds.tolist() == [0, 3, 4, 9]


@pytest.mark.gpu
@pytest.mark.parametrize("window", [None, 5])
@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("dim", [64, 128])
def test_the_fused_kernel_says_and_learns_the_same(causal: bool, window: int | None, dim: int) -> None:
    segments = Segments((30, 7, 64), causal, torch.device("cuda"))
    ours = [torch.randn(1, n, 101, dim, device="cuda", dtype=torch.bfloat16, requires_grad=True) for n in (4, 2, 2)]
    theirs = [each.detach().cpu().double().requires_grad_() for each in ours]
    found, _ = packed_attention(None, *ours, None, segments=segments, sliding_window=window)
    expected = by_hand(*theirs, segments, window)
    assert "varlen" in type(found.grad_fn.next_functions[0][0]).__name__  # and not PyTorch's plain attention
    weights = torch.randn_like(expected)
    (found * weights.to(found)).sum().backward()
    (expected * weights).sum().backward()
    torch.testing.assert_close(found.cpu().double(), expected, atol=2e-2, rtol=2e-2)
    for one, other in zip(ours, theirs, strict=True):
        error = (one.grad.cpu().double() - other.grad).norm() / other.grad.norm()
        assert error < 1e-2


@pytest.mark.gpu
def test_no_trial_of_the_fused_kernel_sees_another() -> None:
    segments = Segments((30, 7, 64), True, torch.device("cuda"))
    query, key, value = (torch.randn(1, n, 101, 64, device="cuda", dtype=torch.bfloat16) for n in (4, 2, 2))
    before, _ = packed_attention(None, query, key, value, None, segments=segments)
    for each in (query, key, value):
        each[:, :, 30:37] += 3
    after, _ = packed_attention(None, query, key, value, None, segments=segments)
    moved = (before != after).any(-1).any(-1)[0]
    assert moved.tolist() == [30 <= place < 37 for place in range(101)]  # not by a bit
