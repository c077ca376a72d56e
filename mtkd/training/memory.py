"""How much memory a rank needs under each stage of ZeRO: what DeepSpeed estimates, and what it leaves out.

Looked up in DeepSpeed 0.19 and measured on two CPU ranks (``tests/teachers/test_plan.py``). Its estimators know models
that are trained whole, in 16 bits. Here some float32 weights are trained beside frozen ones of any type, so the trained
share alone goes into them, and these are added:

- frozen weights, whole or, in stage 3, in parts;
- 2 bytes more for each trained weight and gradient, which are float32;
- in stage 3, 2 bytes less: a float32 weight is its own master, which it is not where it is offloaded;
- weights that stage 3 gathers ahead and keeps, up to a limit that is far above the one layer of the estimate;
- the bucket of gradients, activations, and the trials of a rank's share.
"""

from dataclasses import dataclass
from pathlib import Path

from torch import nn

from mtkd.training.zero import Limits, estimated, limits

GB = 10**9
_CONFIGS = Path(__file__).parents[2] / "configs/deepspeed"
SHIPPED = {"1": "zero1", "2": "zero2", "3": "zero3", "3, offload": "zero3_offload"}
"""The shipped configuration of each stage but 0, which is training without DeepSpeed."""


@dataclass(frozen=True)
class Cluster:
    """Ranks to plan for, each with ``memory`` bytes of its own.

    On a CPU (``cpu``) there is no host beside them, and a buffer takes no memory before it is filled.
    """

    nodes: int
    ranks_a_node: int
    memory: int
    cpu: bool = False

    @property
    def ranks(self) -> int:
        """Of all nodes."""
        return self.nodes * self.ranks_a_node


@dataclass(frozen=True)
class Weights:
    """Sizes of a model's weights: (numbers, bytes) of each that is frozen, and numbers of each that is trained."""

    frozen: tuple[tuple[int, int], ...]
    trained: tuple[int, ...]

    @classmethod
    def of(cls, model: nn.Module) -> "Weights":
        """Those of a model on any device."""
        found = list(model.parameters())
        frozen = tuple((each.numel(), each.numel() * each.element_size()) for each in found if not each.requires_grad)
        return cls(frozen, tuple(each.numel() for each in found if each.requires_grad))

    @property
    def frozen_bytes(self) -> int:
        """Of all that are frozen."""
        return sum(n_bytes for _, n_bytes in self.frozen)

    @property
    def n_trained(self) -> int:
        """Numbers that are trained."""
        return sum(self.trained)


@dataclass(frozen=True)
class Memory:
    """Bytes of one rank at its peak, and of the host for each node."""

    frozen: int
    states: int
    gathered: int
    activations: int
    buckets: int
    host: int = 0

    @property
    def total(self) -> int:
        """Of the rank."""
        return self.frozen + self.states + self.gathered + self.activations + self.buckets


def per_stage(weights: Weights, activations: int, cluster: Cluster) -> dict[str, Memory]:
    """What each stage takes; ``activations`` in bytes, with all else that a rank computes on."""
    found = {"0": _stage_0(weights, activations, cluster)}
    for stage, name in SHIPPED.items():
        allowed = limits(_CONFIGS / f"{name}.json")
        make = _stage_3 if allowed.stage == 3 else _stage_1_or_2
        found[stage] = make(weights, activations, cluster, allowed)
    return found


def _stage_0(weights: Weights, activations: int, cluster: Cluster) -> Memory:
    """Weights, gradients and two moments, all whole."""
    return Memory(weights.frozen_bytes, 16 * weights.n_trained + _best(weights, cluster), 0, activations, 0)


def _stage_1_or_2(weights: Weights, activations: int, cluster: Cluster, allowed: Limits) -> Memory:
    n_trained, ranks = weights.n_trained, cluster.ranks
    if allowed.stage == 2:
        states = (
            estimated(2, n_trained, cluster.nodes, cluster.ranks_a_node)[0] + 2 * n_trained + 2 * n_trained // ranks
        )
    else:  # which has no estimator: gradients are whole beside their part, masters and moments in parts
        states = 8 * n_trained + 16 * n_trained // ranks
    buckets = 0 if cluster.cpu else 4 * allowed.bucket  # on a CPU it holds what the states already count
    return Memory(weights.frozen_bytes, states + _best(weights, cluster), 0, activations, buckets)


def _stage_3(weights: Weights, activations: int, cluster: Cluster, allowed: Limits) -> Memory:
    n_trained, ranks = weights.n_trained, cluster.ranks
    on_rank, on_host = estimated(3, n_trained, cluster.nodes, cluster.ranks_a_node, allowed.offload)
    frozen = weights.frozen_bytes // ranks
    states = on_rank - 2 * n_trained // ranks
    if allowed.offload and cluster.cpu:
        states, on_host = 20 * n_trained // ranks, 0
    elif allowed.offload:
        states, frozen, on_host = on_rank, 0, on_host + weights.frozen_bytes // cluster.nodes
    else:
        on_host = 0
    states += _persistent(weights, allowed)
    gathered = _gathered(weights, activations, cluster, allowed)
    bucket = min(n_trained, allowed.bucket) if cluster.cpu else allowed.bucket
    return Memory(frozen, states + _best(weights, cluster), gathered, activations, 4 * bucket, on_host)


def _persistent(weights: Weights, allowed: Limits) -> int:
    """Bytes of the weights too small to be parted: whole beside their part, on every rank."""
    frozen = sum(n_bytes for numbers, n_bytes in weights.frozen if numbers <= allowed.persistent)
    return frozen + 4 * sum(numbers for numbers in weights.trained if numbers <= allowed.persistent)


def _gathered(weights: Weights, activations: int, cluster: Cluster, allowed: Limits) -> int:
    """Bytes of the weights that are gathered at the peak.

    They come in one buffer and are copied out of it, at the beginning of a pass; the activations come after it is gone.
    """
    if cluster.ranks == 1 and not allowed.offload:
        return 0
    sizes = [*weights.frozen, *((numbers, 4 * numbers) for numbers in weights.trained)]
    large = [size for size in sizes if size[0] > allowed.persistent]
    if not large:
        return 0
    numbers, n_bytes = (sum(each) for each in zip(*large, strict=True))
    at_once = min(numbers, max(allowed.whole, max(size[0] for size in large)))
    whole = n_bytes * at_once // numbers
    return whole + max(0, whole - activations)


def _best(weights: Weights, cluster: Cluster) -> int:
    """Bytes of the copy of the best epoch's trained weights, which is the host's."""
    return 4 * weights.n_trained if cluster.cpu else 0
