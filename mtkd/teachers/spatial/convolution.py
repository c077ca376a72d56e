"""Any convolution of PyTorch Geometric that takes a weighted graph, by its name."""

import inspect
from typing import Any

import torch
from torch import Tensor, nn

from mtkd.config import Spatial
from mtkd.errors import MtkdError, one_line
from mtkd.teachers.spatial.graph import join

_WEIGHTS = {"adj": ("adj",), "edge_index": ("edge_weight", "edge_attr")}
"""Second argument of a convolution's forward: those by which it may take the weights of edges."""
_N_NODES = 12


def make_convolution(settings: Spatial, n_features: int) -> tuple[nn.Module, int]:
    """The convolution ``spatial.conv`` for nodes of so many features, and how many it gives them.

    Raises:
        MtkdError: there is none of that name, it takes no weighted graph, or ``spatial.conv_options`` do not fit.
    """
    kind = _by_name(settings.conv)
    own, options = _own_arguments(kind, settings.width, n_features), settings.conv_options
    named = f"spatial.conv = {settings.conv}" + (f", spatial.conv_options = {options}" if options else "")
    for key in own.keys() & options.keys():
        raise MtkdError(f"spatial.conv_options: {key} of {settings.conv} is not to be chosen")
    try:
        convolution = kind(**own, **options)
        n_out, is_weighted = _try(convolution, n_features)
    except Exception as error:  # whatever PyG raises at arguments that are a study's
        raise MtkdError(f"{named}: {one_line(error)}") from None
    if not is_weighted:
        raise MtkdError(f"{named}: ignores the weights of edges")
    return convolution, n_out


def weights_keyword(kind: type[nn.Module]) -> str:
    """The argument by which a convolution takes the weights of edges, empty where it takes none."""
    arguments = list(inspect.signature(kind.forward).parameters)[1:]
    if len(arguments) < 2 or arguments[0] != "x":
        return ""
    return next((name for name in _WEIGHTS.get(arguments[1], ()) if name in arguments), "")


def _by_name(name: str) -> type[nn.Module]:
    import torch_geometric.nn  # three seconds, of which whoever asks for a fold's unit alone needs none

    kind = getattr(torch_geometric.nn, name, None)
    if not (isinstance(kind, type) and issubclass(kind, nn.Module)):
        raise MtkdError(f"spatial.conv = {name}: torch_geometric.nn has no such convolution")
    if not weights_keyword(kind):
        taken = "adj, or edge_index with edge_weight or edge_attr"
        raise MtkdError(f"spatial.conv = {name}: takes no weighted graph ({taken})")
    return kind


def _own_arguments(kind: type[nn.Module], width: int, n_features: int) -> dict[str, Any]:
    """What a convolution is built with, by the names that it has for it."""
    wanted = inspect.signature(kind).parameters
    known = {"in_channels": n_features, "out_channels": width}
    if "edge_attr" in inspect.signature(kind.forward).parameters:
        known["edge_dim"] = 1
    own: dict[str, Any] = {name: value for name, value in known.items() if name in wanted}
    if "nn" in wanted:
        own["nn"] = nn.Sequential(nn.Linear(n_features, width), nn.ReLU(), nn.Linear(width, width))
    return own


def _try(convolution: nn.Module, n_features: int) -> tuple[int, bool]:
    """Features that it gives a node, and whether what it gives depends on the weights of edges.

    Asked twice, of graphs of two sizes, for there are convolutions that keep the first graph that they see.
    """
    keyword = weights_keyword(type(convolution))
    convolution.eval()  # draws no random numbers
    is_weighted, found = True, torch.empty(0)
    for n_nodes in (_N_NODES, _N_NODES - 1):
        adjacency = torch.linspace(0.1, 0.9, n_nodes**2).view(n_nodes, n_nodes).requires_grad_()
        nodes = torch.randn(1, n_nodes, n_features, generator=torch.Generator().manual_seed(n_nodes))
        graphs = join(adjacency, torch.ones(1, n_nodes, dtype=torch.bool), keyword)
        rows = graphs.rows(nodes)
        found = convolution(rows, **graphs.edges)
        if not isinstance(found, Tensor) or found.shape[:-1] != rows.shape[:-1]:
            raise ValueError("does not give every node its features")
        (gradient,) = torch.autograd.grad(found.square().sum(), adjacency, allow_unused=True)
        is_weighted &= gradient is not None and bool(gradient.any())
    convolution.train()
    return found.shape[-1], is_weighted
