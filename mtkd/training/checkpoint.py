"""Weights on disk: safetensors of what was trained, statistics included."""

from pathlib import Path

import safetensors
import safetensors.torch
from torch import Tensor, nn

from mtkd.errors import MtkdError
from mtkd.files import publish_file
from mtkd.training.fit import put_state, trained_tensors


def save_weights(weights: dict[str, Tensor], path: Path) -> None:
    """Write what ``trained_state`` gives, whole or not at all.

    Raises:
        MtkdError: they cannot be written, as where the disk is full.
    """
    with publish_file(path) as aside:
        try:
            safetensors.torch.save_file({k: v.contiguous() for k, v in weights.items()}, aside)
        except safetensors.SafetensorError as error:
            raise MtkdError(f"{path}: cannot be written ({error})") from None


def load_weights(model: nn.Module, path: Path) -> None:
    """Load what ``save_weights`` wrote into a model built alike.

    Raises:
        MtkdError: as ``read_weights``.
    """
    put_state(model, read_weights(model, path))


def read_weights(model: nn.Module, path: Path) -> dict[str, Tensor]:
    """What ``save_weights`` wrote of a model built alike, whose weights need have no content.

    Raises:
        MtkdError: the file is damaged, or its weights are not this model's.
    """
    try:
        state = safetensors.torch.load_file(path)
    except (safetensors.SafetensorError, OSError) as error:
        raise MtkdError(f"{path}: no readable weights ({error})") from None
    expected = trained_tensors(model)
    differing = sorted(expected.keys() ^ state.keys()) or [k for k in expected if expected[k].shape != state[k].shape]
    if differing:
        more = f" (and {len(differing) - 1} more)" * (len(differing) > 1)
        raise MtkdError(f"{path}: made for another model, {differing[0]} differs{more}")
    return state
