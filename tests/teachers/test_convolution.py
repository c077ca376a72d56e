"""Convolutions by name: which are taken, and the sentence for those that are not."""

import pytest
import torch
import torch_geometric.nn
from torch import nn

from mtkd.config import Spatial
from mtkd.errors import MtkdError
from mtkd.teachers.spatial.convolution import make_convolution, weights_keyword


@pytest.mark.parametrize(
    ("conv", "options", "said"),
    [
        ("Module", {}, "spatial.conv = Module: torch_geometric.nn has no such convolution"),
        ("__class__", {}, "spatial.conv = __class__: torch_geometric.nn has no such convolution"),
        ("SAGEConv", {}, "spatial.conv = SAGEConv: takes no weighted graph (adj, or edge_index with"),
        ("GCN2Conv", {}, "spatial.conv = GCN2Conv: takes no weighted graph"),
        ("DenseGATConv", {}, "spatial.conv = DenseGATConv: ignores the weights of edges"),
        (
            "DenseGraphConv",
            {"aggr": "max"},
            "DenseGraphConv, spatial.conv_options = {'aggr': 'max'}: ignores the weights",
        ),
        ("ChebConv", {}, "spatial.conv = ChebConv: .* 'K'"),
        ("GCNConv", {"K": 3}, "spatial.conv = GCNConv, spatial.conv_options = {'K': 3}: .* 'K'"),
        ("GCNConv", {"cached": True}, "spatial.conv = GCNConv, spatial.conv_options = {'cached': True}: "),
        ("GCNConv", {"in_channels": 3}, "spatial.conv_options: in_channels of GCNConv is not to be chosen"),
        ("NNConv", {}, "spatial.conv = NNConv: "),
        ("SAGPooling", {}, "spatial.conv = SAGPooling: does not give every node its features"),
    ],
)
def test_what_does_not_fit_is_told_in_a_sentence(conv: str, options: dict[str, object], said: str) -> None:
    pattern = said.replace("(", r"\(").replace("{", r"\{")
    with pytest.raises(MtkdError, match=pattern) as caught:
        make_convolution(Spatial(conv=conv, conv_options=options), 5)
    assert "\n" not in str(caught.value)


def test_features_are_as_many_as_it_gives() -> None:
    for heads, concat, expected in ((4, True, 32), (4, False, 8)):
        options = {"heads": heads, "concat": concat}
        convolution, n_out = make_convolution(Spatial(conv="GATConv", conv_options=options, width=8), 5)
        assert n_out == expected
        assert convolution.training


def test_making_one_draws_its_own_random_numbers_only() -> None:
    torch.manual_seed(0)
    torch_geometric.nn.DenseGraphConv(5, 8)
    expected = torch.rand(3)
    torch.manual_seed(0)
    make_convolution(Spatial(width=8), 5)
    assert torch.equal(torch.rand(3), expected)


def test_the_keyword_is_that_of_the_signature() -> None:
    class Own(nn.Module):
        def forward(self, x: torch.Tensor, edge_index: torch.Tensor, edge_attr: torch.Tensor) -> torch.Tensor:
            return x

    assert weights_keyword(Own) == "edge_attr"
    assert weights_keyword(torch_geometric.nn.TAGConv) == "edge_weight"
    assert weights_keyword(torch_geometric.nn.DenseGCNConv) == "adj"
    assert weights_keyword(nn.Linear) == ""
