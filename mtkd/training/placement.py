"""Where a trained model lies when it answers: on one device or, too large for any, over all that a machine has."""

import gc
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import safetensors
import torch
from torch import Tensor, nn

from mtkd.errors import MtkdError, one_line

_ROOM = 0.8  # of what is free; the rest is for what tokens take on their way
DISK = "disk"
Device = int | str  # a GPU's number, cpu or disk
Limits = Mapping[Device, float]
"""Bytes that may be taken, of some devices."""
Stored = dict[str, tuple[Path, str]]
"""The file of safetensors that has a tensor, and its name there, by its name in the model."""


def unplaced(dtype: torch.dtype) -> AbstractContextManager[Any]:
    """Within, a model is made whose weights have a size and no content yet; its own constants are there."""
    from accelerate import init_empty_weights

    return init_empty_weights(include_buffers=False)


def place(model: nn.Module, large: str, layers: str, stored: Stored, limits: Limits | None = None) -> dict[Device, int]:
    """Give a model its content, where there is room for it; return how many layers lie where.

    GPUs are filled first, then the host. Layers beyond that stay on disk, and are read whenever an input comes to them.
    Inputs go to the first GPU, or to the host without one, and outputs come back there.

    Args:
        model: of which ``large`` was made within ``unplaced``.
        large: the module that may not fit, by its name.
        layers: the list of its layers, by the name within it. None of them is torn apart.
        stored: where the tensors are that the model does not know by itself.
        limits: of each GPU and of the host (``cpu``), nothing of those that are not named; without, four fifths of what
            is free of all.

    Raises:
        MtkdError: there is no such GPU, or a file is damaged.
    """
    from accelerate import dispatch_model

    inner, all_layers = model.get_submodule(large), model.get_submodule(f"{large}.{layers}")
    classes = sorted({type(layer).__name__ for layer in all_layers.children()})
    where = _where(inner, classes, limits)
    first = min(where.values(), key=lambda device: (isinstance(device, str), str(device)))
    first = "cpu" if first == DISK else first
    on_disk = _fill(model, f"{large}.", stored, where, first)
    if set(where.values()) != {first}:
        options = {"main_device": first, "offload_index": on_disk or None}
        # a layer's weights come together: DoRA's adapters read those of the modules that they adapt
        dispatch_model(inner, where, preload_module_classes=classes, **options)
    return dict(Counter(_device(f"{layers}.{name}", where) for name, _ in all_layers.named_children()))


def _where(module: nn.Module, classes: list[str], limits: Limits | None) -> dict[str, Device]:
    """The place of each of a module's parts, by their names; those of ``classes`` are not torn apart."""
    from accelerate import infer_auto_device_map
    from accelerate.utils import get_max_memory

    n_gpus = torch.cuda.device_count()
    for device in limits or {}:
        if isinstance(device, int) and device >= n_gpus:
            raise MtkdError(f"cache.max_memory: there is no GPU {device}, there are {n_gpus}")
    gc.collect()  # hooks hold a model that was placed before until then
    if n_gpus:
        torch.cuda.empty_cache()  # what PyTorch keeps of it would not count as free
    free = get_max_memory()
    most = {device: int(_ROOM * free[device] if limits is None else limits.get(device, 0)) for device in free}
    return dict(infer_auto_device_map(module, most, classes))


def _fill(model: nn.Module, prefix: str, stored: Stored, where: dict[str, Device], first: Device) -> dict[str, Any]:
    """Read all tensors but the parameters that stay on disk, and tell of those where they lie, as accelerate asks.

    Raises:
        MtkdError: a file is damaged.
    """
    from accelerate.utils import set_module_tensor_to_device

    on_disk = {}
    for name, tensor in list(every_tensor(model)):
        inside = name.removeprefix(prefix)
        device = first if inside == name else _device(inside, where)
        if device == DISK and name in stored and isinstance(tensor, nn.Parameter):
            path, key = stored[name]
            dtype = str(tensor.dtype).removeprefix("torch.")
            on_disk[inside] = {"safetensors_file": str(path), "weight_name": key, "dtype": dtype}
        else:
            value = _read(*stored[name], tensor) if name in stored else tensor
            set_module_tensor_to_device(model, name, first if device == DISK else device, value)
    return on_disk


def every_tensor(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Parameters and buffers, one that is shared by each of its names."""
    yield from model.named_parameters(remove_duplicate=False)
    yield from model.named_buffers(remove_duplicate=False)


def _device(name: str, where: dict[str, Device]) -> Device:
    """That of the innermost module that has one."""
    while name not in where and name:
        name = name.rpartition(".")[0]
    return where[name]


def _read(path: Path, name: str, like: Tensor) -> Tensor:
    try:
        with safetensors.safe_open(path, framework="pt") as stored:
            found: Tensor = stored.get_tensor(name)
    except (safetensors.SafetensorError, OSError) as error:
        raise MtkdError(f"{path}: no readable weights ({one_line(error)})") from None
    if found.shape != like.shape:
        raise MtkdError(f"{path}: no readable weights ({name} is {tuple(found.shape)}, not {tuple(like.shape)})")
    return found
