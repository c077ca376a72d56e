"""The weights of an unpacked backbone: one file, a tensor under each name that the model itself gives it."""

import contextlib
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from mtkd.errors import MtkdError, one_line
from mtkd.training.zero import is_written_here, whole

WEIGHTS = "backbone.safetensors"
Parting = Callable[[torch.dtype], AbstractContextManager[Any]]
"""What a model of a type is made within, so that its weights lie as an engine wants them."""


def in_one_piece(dtype: torch.dtype) -> AbstractContextManager[Any]:
    """The ``Parting`` of a process that keeps the weights whole."""
    return contextlib.nullcontext()


def write_weights(model: Any, folder: Path) -> None:
    """Write configuration and weights.

    Not as transformers does, which gives some models' weights other names and shapes on disk: so any of them can be
    read by itself.

    Raises:
        MtkdError: the file cannot be written.
    """
    model.config.save_pretrained(folder)
    tensors = {name: value.detach().contiguous() for name, value in tensors_of(model).items()}
    try:
        safetensors.torch.save_file(tensors, folder / WEIGHTS)
    except safetensors.SafetensorError as error:
        raise MtkdError(f"{folder}: cannot be written ({error})") from None


def read_weights(folder: Path, dtype: torch.dtype, parting: Parting = in_one_piece, **options: Any) -> Any:
    """The decoder of a folder that ``write_weights`` wrote, its weights as ``dtype``; ``options`` go to transformers.

    Made empty and filled tensor by tensor, so that with ZeRO-3 no rank ever holds more than one of them whole. On the
    meta device, where tensors have no content, nothing is read, and no file of weights has to be there.

    Raises:
        MtkdError: a weight is missing, or the file is damaged.
    """
    import transformers
    from transformers.initialization import no_init_weights

    config = transformers.AutoConfig.from_pretrained(folder, local_files_only=True)
    # forked, for parted or not it shall leave the random numbers alone
    with torch.random.fork_rng(devices=[]), no_init_weights(), parting(dtype):
        model = transformers.AutoModel.from_config(config, dtype=dtype, **options)
    if all(parameter.is_meta for parameter in model.parameters()):
        return model
    for name, tensor in tensors_of(model).items():
        with torch.no_grad(), whole([tensor], write=True):
            if is_written_here(tensor):
                tensor.copy_(_stored(folder / WEIGHTS, name, tensor.shape))
    return model


def _stored(path: Path, name: str, shape: torch.Size) -> Tensor:
    """One tensor of a file, which is opened anew for each, or the pages of all of them would be held in the end."""
    try:
        with safetensors.safe_open(path, framework="pt") as stored:
            found: Tensor = stored.get_tensor(name)
    except (safetensors.SafetensorError, OSError) as error:
        raise MtkdError(f"{path}: no readable weights ({one_line(error)})") from None
    if found.shape != shape:
        raise MtkdError(f"{path}: no readable weights ({name} has the shape {tuple(found.shape)}, not {tuple(shape)})")
    return found


def tensors_of(model: Any) -> dict[str, Tensor]:
    """Parameters, those that are shared once, and buffers that are no function of the configuration."""
    persistent = model.state_dict().keys()
    buffers = {name: value for name, value in model.named_buffers() if name in persistent}
    return dict(model.named_parameters()) | buffers
