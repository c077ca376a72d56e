"""The electrode graph."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mtkd.errors import MtkdError
from mtkd.signals.channels import GENEVA
from mtkd.teachers.spatial.graph import electrode_positions, nearness

names = st.lists(st.sampled_from(GENEVA), min_size=2, max_size=12, unique=True) | st.just(GENEVA)


@given(names, st.floats(0.01, 0.2))
def test_nearness_is_symmetric_in_0_to_1_and_nothing_to_itself(ch_names: list[str], sigma_m: float) -> None:
    weights = nearness(electrode_positions(ch_names), sigma_m)
    assert torch.equal(weights, weights.T)
    assert not weights.diagonal().any()
    assert (weights >= 0).all()
    assert (weights < 1).all()


@given(st.permutations(GENEVA[:10]), st.floats(0.02, 0.2))
def test_nearness_knows_electrodes_by_place_not_by_order(ch_names: list[str], sigma_m: float) -> None:
    order = [GENEVA[:10].index(name) for name in ch_names]
    given_order = nearness(electrode_positions(GENEVA[:10]), sigma_m)
    torch.testing.assert_close(nearness(electrode_positions(ch_names), sigma_m), given_order[order][:, order])


def test_nearness_is_the_gaussian_of_the_distance() -> None:
    places = torch.tensor([[0.0, 0.0, 0.0], [0.03, 0.04, 0.0], [0.0, 0.0, 0.1]])
    weights = nearness(places, 0.05)
    assert weights[0, 1].item() == pytest.approx(0.6065, abs=1e-4)  # 5 cm apart, sigma 5 cm
    assert weights[0, 2].item() == pytest.approx(0.1353, abs=1e-4)  # 10 cm


def test_positions_are_a_heads_in_metre_with_left_and_right() -> None:
    left, right, front, back = electrode_positions(["T7", "T8", "Fz", "Oz"])
    assert left[0] < 0 < right[0]
    assert front[1] > back[1]
    assert 0.1 < torch.dist(left, right) < 0.25


def test_old_and_differently_spelled_names_are_the_same_place() -> None:
    old, new = electrode_positions(["T3", "FP1", "cz"]), electrode_positions(["T7", "Fp1", "Cz"])
    torch.testing.assert_close(old, new)


def test_an_unknown_electrode_is_named() -> None:
    with pytest.raises(MtkdError, match=r"electrode 'EXG1' .* data\.channels"):
        electrode_positions(["Cz", "EXG1"])
