"""What must hold of the memory of a rank, whatever is trained; the figures themselves are in ``teachers/test_plan``."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mtkd.training.memory import SHIPPED, Cluster, Memory, Weights, per_stage

GIB = 2**30
sizes = st.integers(1, 10**9)


@st.composite
def models(draw: st.DrawFn) -> Weights:
    """Some frozen weights of two or four bytes, and some that are trained."""
    width = draw(st.sampled_from([2, 4]))
    frozen = draw(st.lists(sizes, max_size=6))
    return Weights(tuple((n, width * n) for n in frozen), tuple(draw(st.lists(sizes, min_size=1, max_size=6))))


passes = st.integers(0, 40 * GIB)


@pytest.fixture(scope="module", autouse=True)
def _imported() -> None:
    """DeepSpeed draws random numbers when it is imported, which hypothesis does not like within an example."""
    planned(Weights((), (1,)), 0, 1, 1)


def planned(weights: Weights, activations: int, nodes: int, ranks: int, cpu: bool = False) -> dict[str, Memory]:
    return per_stage(weights, activations, Cluster(nodes, ranks, 80 * 10**9, cpu))


@given(models(), passes, st.integers(1, 16), st.integers(1, 8), st.booleans())
def test_more_nodes_never_need_more_memory_of_a_rank(
    weights: Weights, activations: int, nodes: int, ranks: int, cpu: bool
) -> None:
    few, many = (planned(weights, activations, n, max(2, ranks), cpu) for n in (nodes, nodes + 1))
    for stage in few:
        assert many[stage].total <= few[stage].total
        assert many[stage].host <= few[stage].host


@given(models(), passes, st.integers(1, 16), st.integers(2, 8))
def test_each_stage_keeps_no_more_than_the_one_before(
    weights: Weights, activations: int, nodes: int, ranks: int
) -> None:
    """What it gathers, and the bucket that comes with every stage but 0, set aside."""
    found = planned(weights, activations, nodes, ranks)
    kept = [found[stage].frozen + found[stage].states for stage in ("1", "2", "3", "3, offload")]
    whole = (
        sum(numbers <= 100_000 for numbers, _ in weights.frozen) * 400_000
    )  # stage 3 keeps small ones beside their part
    whole += sum(numbers <= 100_000 for numbers in weights.trained) * 400_000
    assert all(later <= earlier + whole for earlier, later in itertools.pairwise(kept))
    assert list(found) == ["0", *SHIPPED]


@given(models(), passes, passes, st.integers(2, 8))
def test_more_activations_need_more_memory(weights: Weights, one: int, other: int, ranks: int) -> None:
    few, many = (planned(weights, each, 1, ranks) for each in sorted((one, other)))
    assert all(many[stage].total >= few[stage].total for stage in few)


@given(models(), passes)
def test_one_rank_gathers_nothing_that_it_keeps_itself(weights: Weights, activations: int) -> None:
    assert planned(weights, activations, 1, 1)["3"].gathered == 0
