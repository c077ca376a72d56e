"""What is counted without computing is what the same pass takes when it is computed."""

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from mtkd.errors import MtkdError
from mtkd.training.footprint import Footprint, activations, imagine


def network(width: int, depth: int) -> nn.Module:
    """On the meta device; its first layer is frozen."""
    with torch.device("meta"):
        layers = [
            nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width)) for _ in range(depth)
        ]
        model = nn.Sequential(nn.Linear(width, width).requires_grad_(False), *layers)
    return model


def real_peak(model: nn.Module, given: Tensor) -> int:
    model = model.to_empty(device="cpu")
    for parameter in model.parameters():
        nn.init.constant_(parameter, 0.01)
        if parameter.requires_grad:
            parameter.register_post_accumulate_grad_hook(lambda each: setattr(each, "grad", None))
    with Footprint([*model.parameters()]) as counted:
        model(given).sum().backward()
    return counted.peak


@settings(max_examples=10)
@given(width=st.integers(1, 40), depth=st.integers(1, 4), n_tokens=st.integers(1, 50))
def test_it_is_that_of_a_real_pass(width: int, depth: int, n_tokens: int) -> None:
    model, tokens = network(width, depth), torch.zeros(n_tokens, width)
    expected = real_peak(copy.deepcopy(model), tokens)
    assert activations(imagine(model), lambda each: each(tokens).sum()) == expected > 0


def test_twice_the_tokens_take_twice_the_memory_and_nothing_is_left() -> None:
    model = imagine(network(32, 3))
    once, twice = (activations(model, lambda each, n=n: each(torch.zeros(n, 32)).sum()) for n in (100, 200))
    assert twice == pytest.approx(2 * once, rel=0.2)
    assert all(parameter.grad is None for parameter in model.parameters())


def test_memory_that_is_freed_is_not_counted() -> None:
    with Footprint([]) as counted:
        for _ in range(5):
            each = torch.zeros(1000)
            del each
    assert (counted.live, counted.peak) == (0, 4000)


def test_shared_weights_stay_shared() -> None:
    with torch.device("meta"):
        first, second = nn.Linear(4, 4), nn.Linear(4, 4)
    second.weight = first.weight
    model = imagine(nn.Sequential(first, second))
    assert model[0].weight is model[1].weight


def test_what_depends_on_values_is_refused() -> None:
    model = imagine(network(4, 1))
    with pytest.raises(MtkdError, match="cannot be planned"):
        activations(model, lambda each: each(torch.zeros(3, 4)).nonzero().sum().float())
