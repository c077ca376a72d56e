"""Statistics of masked values, the same on one rank and on many."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from mtkd.layers.standardize import Standardize


def alone(values: Tensor) -> Tensor:
    return values


def drawn(seed: int, n: int = 40, shape: tuple[int, ...] = (3, 2)) -> tuple[Tensor, Tensor]:
    random = torch.Generator().manual_seed(seed)
    scale = 10 ** torch.randint(-6, 3, shape, generator=random).double()
    values = scale * (torch.randn(n, *shape, generator=random, dtype=torch.float64) + 5)
    return values, torch.rand(n, *shape, generator=random) < 0.7


def fitted(parts: list[tuple[Tensor, Tensor]], total: Callable[[Tensor], Tensor] = alone) -> Standardize:
    made = Standardize(tuple(parts[0][0].shape[1:]))
    for values, mask in parts:
        made.update(values, mask)
    made.finish(total)
    return made


@given(st.integers(0, 1000), st.integers(1, 5))
def test_mean_and_deviation_are_numpys_over_what_the_mask_leaves(seed, n_parts):
    values, mask = drawn(seed)
    made = fitted(list(zip(values.chunk(n_parts), mask.chunk(n_parts), strict=True)))
    masked = np.ma.array(values.numpy(), mask=~mask.numpy())
    np.testing.assert_allclose(made.mean, masked.mean(axis=0), rtol=1e-5)
    np.testing.assert_allclose(made.std, masked.std(axis=0), rtol=1e-4)


@given(st.integers(0, 1000), st.integers(0, 40), st.integers(0, 40))
def test_ranks_that_share_the_values_agree_with_one_that_has_all(seed, one, other):
    values, mask = drawn(seed)
    cuts = sorted([one, other])
    shares = [(values[a:b], mask[a:b]) for a, b in zip([0, *cuts], [*cuts, 40], strict=True)]
    sums: list[Tensor] = []

    def gather(own: Tensor) -> Tensor:
        sums.append(own)
        return own

    for share in shares:
        fitted([share], gather)
    ranks = [fitted([share], lambda _: torch.stack(sums).sum(0)) for share in shares]
    whole = fitted([(values, mask)])
    for rank in ranks:
        np.testing.assert_allclose(rank.mean, whole.mean, rtol=1e-6)
        np.testing.assert_allclose(rank.std, whole.std, rtol=1e-5)


def test_a_rank_without_values_takes_part():
    made = Standardize((2,))
    made.finish(lambda sums: sums + torch.tensor([[4.0, 4.0], [8.0, 0.0], [32.0, 4.0]]))
    assert made.mean.tolist() == [2, 0]
    assert made.std.tolist() == [2, 1]


def test_what_the_mask_leaves_out_may_be_anything_finite():
    values, mask = drawn(0)
    other = torch.where(mask, values, 1e9)
    np.testing.assert_array_equal(fitted([(values, mask)]).mean, fitted([(other, mask)]).mean)


def test_a_constant_is_divided_by_one_and_a_value_never_seen_is_always_zero():
    values = torch.tensor([[3.3, 7.0, 1.0], [3.3, 8.0, 2.0]])
    made = fitted([(values, torch.tensor([[True, False, True], [True, False, True]]))])
    assert made.std.tolist() == [1, torch.inf, 0.5]
    assert made.mean.tolist() == pytest.approx([3.3, 0, 1.5])
    assert made(torch.tensor([[3.3, -1e30, 1.0]]))[0].tolist() == pytest.approx([0, 0, -1])


@pytest.mark.parametrize(("level", "deviation"), [(5e-6, 1e-9), (33.0, 0.01), (0.0, 1e-6)])
def test_a_small_deviation_on_a_high_level_is_found(level, deviation):
    noise = torch.randn(5000, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    made = fitted([(level + deviation * noise, torch.ones(5000, 1, dtype=torch.bool))])
    assert float(made.std) == pytest.approx(deviation, rel=0.05)


def test_standardised_training_values_have_mean_0_and_deviation_1():
    values, mask = drawn(3)
    made = fitted([(values, mask)])(values)
    masked = np.ma.array(made.numpy(), mask=~mask.numpy())
    np.testing.assert_allclose(masked.mean(axis=0), 0, atol=1e-4)
    np.testing.assert_allclose(masked.std(axis=0), 1, atol=1e-4)


def test_before_fitting_values_pass_as_they_are():
    values = torch.randn(4, 3, 2)
    assert Standardize((3, 2))(values).equal(values)


def test_statistics_travel_with_the_weights_and_are_not_trained():
    made = fitted([drawn(1)])
    other = Standardize((3, 2))
    other.load_state_dict(made.state_dict())
    assert other.mean.equal(made.mean)
    assert other.std.equal(made.std)
    assert list(made.parameters()) == []


def test_fitting_again_forgets_the_first_time():
    made = fitted([drawn(1)])
    values, mask = drawn(2)
    made.update(values, mask)
    made.finish(alone)
    assert made.mean.equal(fitted([drawn(2)]).mean)
