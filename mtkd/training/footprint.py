"""Memory of a forward and backward pass, counted without computing it: tensors that have a size and no content."""

import weakref
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
    FakeTensorMode,
)
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from mtkd.errors import MtkdError


class Footprint(TorchDispatchMode):
    """Within, counts the memory of all tensors that come into being; ``peak`` and ``live`` in bytes.

    What autograd keeps is among them for as long as it keeps it, and so are the gradients on their way, but not what
    a kernel takes for itself while it runs.

    Args:
        known: tensors that are there anyway, and are not counted.
    """

    def __init__(self, known: list[Tensor]) -> None:
        super().__init__()
        self.live = self.peak = 0
        self._seen = {id(storage): storage for storage in (each.untyped_storage() for each in known)}
        self._counted: set[int] = set()

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = function(*args, **(kwargs or {}))
        for each in tree_leaves(made):
            if isinstance(each, Tensor):
                self._count(each.untyped_storage())
        return made

    def _count(self, storage: torch.UntypedStorage) -> None:
        key, n_bytes = id(storage), storage.nbytes()
        if key in self._seen or key in self._counted:
            return
        self._counted.add(key)
        weakref.finalize(storage, self._freed, key, n_bytes)
        self.live += n_bytes
        self.peak = max(self.peak, self.live)

    def _freed(self, key: int, n_bytes: int) -> None:
        self._counted.discard(key)
        self.live -= n_bytes


def imagine(model: nn.Module) -> nn.Module:
    """Give a model of the meta device weights without content that count as being on the CPU, in place.

    Of what is on the meta device, attention would be computed by the kernel that keeps all its scores.
    """
    found: dict[int, Tensor] = {}  # weights that are shared stay so
    with FakeTensorMode(allow_non_fake_inputs=True):
        for module in model.modules():
            for name, parameter in module.named_parameters(recurse=False):
                if id(parameter) not in found:
                    empty = torch.empty(parameter.shape, dtype=parameter.dtype, device="cpu")
                    found[id(parameter)] = nn.Parameter(empty, parameter.requires_grad)
                setattr(module, name, found[id(parameter)])
            for name, buffer in module.named_buffers(recurse=False):
                setattr(module, name, torch.empty(buffer.shape, dtype=buffer.dtype, device="cpu"))
    return model


def activations(model: nn.Module, loss: Callable[[nn.Module], Tensor]) -> int:
    """Bytes at the peak of a forward and backward pass beside the weights, those of gradients of weights left out.

    Args:
        model: of ``imagine``, or a real one, which is computed then.
        loss: runs it and gives the loss; tensors that choose or count are real, so that they can be looked at.

    Raises:
        MtkdError: what the model computes depends on values, as where tokens choose their experts.
    """
    parameters = list(model.parameters())
    hooks = [each.register_post_accumulate_grad_hook(_drop) for each in parameters if each.requires_grad]
    counted = Footprint([*parameters, *model.buffers()])
    try:
        with counted:
            loss(model).backward()
    except (DataDependentOutputException, DynamicOutputShapeException):
        raise MtkdError("temporal.backbone: its memory depends on what it reads, so it cannot be planned") from None
    finally:
        for hook in hooks:
            hook.remove()
    return counted.peak


def _drop(parameter: Tensor) -> None:
    """As an engine does that moves gradients into its buckets."""
    parameter.grad = None
