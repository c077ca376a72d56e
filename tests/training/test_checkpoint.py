"""Weights on disk."""

from collections.abc import Callable
from pathlib import Path

import pytest
import safetensors.torch
import torch
from torch import nn

from mtkd.errors import MtkdError
from mtkd.layers.standardize import Standardize
from mtkd.training.checkpoint import load_weights, save_weights
from mtkd.training.fit import trained_state


class Model(nn.Module):
    """Something frozen, something trained, and a fitted statistic."""

    def __init__(self, seed: int, width: int = 3) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.frozen = nn.Linear(2, width).requires_grad_(False)
        self.trained = nn.Linear(width, 2)
        self.scale = Standardize((2,))
        self.scale.mean.normal_()


def test_round_trip_restores_all_that_training_changes_and_nothing_else(tmp_path: Path) -> None:
    saved, loaded = Model(1), Model(2)
    untouched = loaded.frozen.weight.clone()
    save_weights(trained_state(saved), tmp_path / "weights.safetensors")
    assert not any(name.startswith("frozen") for name in safetensors.torch.load_file(tmp_path / "weights.safetensors"))
    load_weights(loaded, tmp_path / "weights.safetensors")
    for name in ("trained.weight", "trained.bias", "scale.mean", "scale.std"):
        assert torch.equal(loaded.state_dict()[name], saved.state_dict()[name])
    assert torch.equal(loaded.frozen.weight, untouched)


def test_nothing_but_the_file_is_left_behind(tmp_path: Path) -> None:
    save_weights(trained_state(Model(1)), tmp_path / "weights.safetensors")
    assert [path.name for path in tmp_path.iterdir()] == ["weights.safetensors"]


def other_names(model: Model) -> None:
    model.more = nn.Linear(1, 1)


def other_statistics(model: Model) -> None:
    model.scale = Standardize((5,))


@pytest.mark.parametrize("change", [other_names, other_statistics])
def test_weights_of_another_model_are_refused(tmp_path: Path, change: Callable[[Model], None]) -> None:
    path = tmp_path / "weights.safetensors"
    save_weights(trained_state(Model(1)), path)
    other = Model(2)
    change(other)
    before = {name: value.clone() for name, value in other.state_dict().items()}
    with pytest.raises(MtkdError, match=f"{path}: made for another model") as refused:
        load_weights(other, path)
    assert "\n" not in str(refused.value)
    assert all(torch.equal(value, before[name]) for name, value in other.state_dict().items())


@pytest.mark.parametrize("share", [0.0, 0.02, 0.5, 0.99])
def test_a_truncated_file_is_refused(tmp_path: Path, share: float) -> None:
    path = tmp_path / "weights.safetensors"
    save_weights(trained_state(Model(1)), path)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(MtkdError, match=str(path)):
        load_weights(Model(1), path)


def test_a_missing_and_a_foreign_file_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    with pytest.raises(MtkdError, match=str(path)):
        load_weights(Model(1), path)
    path.write_bytes(b"\x80\x02}q\x00." * 100)
    with pytest.raises(MtkdError, match=str(path)):
        load_weights(Model(1), path)
