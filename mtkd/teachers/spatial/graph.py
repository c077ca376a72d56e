"""The electrode graph: positions of the montage, what follows from their distances, and the graphs of many windows."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from mtkd.errors import MtkdError
from mtkd.signals.montage import positions


def electrode_positions(ch_names: list[str]) -> Float[Tensor, "node 3"]:
    """Places on a standard head, metre (MNE's colin27_1005, which knows the old names T3 to T6 too).

    Raises:
        MtkdError: an electrode is not in the montage.
    """
    known = positions()
    for name in ch_names:
        if name.lower() not in known:
            raise MtkdError(f"electrode {name!r} is not in the standard montage; map it or ignore it in data.channels")
    return torch.tensor(np.stack([known[name.lower()] for name in ch_names]), dtype=torch.float32)


def nearness(positions: Float[Tensor, "node 3"], sigma_m: float) -> Float[Tensor, "node node"]:
    """A Gaussian of the distance between electrodes; 0 on the diagonal."""
    distances = torch.cdist(positions, positions, compute_mode="donot_use_mm_for_euclid_dist")  # exact, so symmetric
    weights = torch.exp(-distances.square() / (2 * sigma_m**2))
    return weights.fill_diagonal_(0)


@dataclass(frozen=True)
class DenseGraphs:
    """A graph a window as PyG's dense convolutions take them, with a row for every electrode.

    That of one that is not there is joined to none. What stands in it is nobody's input, and zero in the end.
    """

    edges: dict[str, Tensor]
    present: Bool[Tensor, "graph node"]

    def rows(self, nodes: Float[Tensor, "graph node feature"]) -> Float[Tensor, "graph node feature"]:
        """What a convolution takes."""
        return nodes

    def nodes(self, rows: Float[Tensor, "graph node feature"]) -> Float[Tensor, "graph node feature"]:
        """What convolutions made of it, 0 for an electrode that is not there."""
        return rows * self.present[..., None]


@dataclass(frozen=True)
class SparseGraphs:
    """The same as one graph of blocks, as PyG's other convolutions take them: its rows are the electrodes there are."""

    edges: dict[str, Tensor]
    present: Bool[Tensor, "graph node"]

    def rows(self, nodes: Float[Tensor, "graph node feature"]) -> Float[Tensor, "row feature"]:
        """What a convolution takes."""
        return nodes[self.present]

    def nodes(self, rows: Float[Tensor, "row feature"]) -> Float[Tensor, "graph node feature"]:
        """What convolutions made of it, 0 for an electrode that is not there."""
        spread = rows.new_zeros(*self.present.shape, rows.shape[-1])
        return spread.masked_scatter(self.present[..., None], rows)


def join(
    adjacency: Float[Tensor, "node node"], present: Bool[Tensor, "graph node"], keyword: str
) -> DenseGraphs | SparseGraphs:
    """A graph a window: the electrodes that are there, each joined to all others with the weights of ``adjacency``.

    ``keyword`` is the argument by which the convolution takes the weights: ``adj``, ``edge_weight`` or ``edge_attr``.
    """
    apart = ~torch.eye(len(adjacency), dtype=torch.bool, device=adjacency.device)
    joined = present[:, :, None] & present[:, None, :] & apart
    if keyword == "adj":
        return DenseGraphs({"adj": adjacency * joined}, present)
    graph, source, target = joined.nonzero(as_tuple=True)
    number = present.flatten().cumsum(0).view_as(present) - 1  # of an electrode among those of all windows
    weights = adjacency.expand_as(joined)[joined]
    return SparseGraphs(
        {
            "edge_index": torch.stack([number[graph, source], number[graph, target]]),
            keyword: weights[:, None] if keyword == "edge_attr" else weights,
        },
        present,
    )
