"""A trained teacher answers alike wherever its layers lie, the disk included."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from mtkd.cache.build import load_teacher
from mtkd.config import ONE_LAYER, Lora, Modality, Temporal, Windows
from mtkd.errors import MtkdError
from mtkd.shards.batch import Batch
from mtkd.shards.build import open_shards
from mtkd.shards.schema import Layout
from mtkd.teachers.temporal.model import TemporalTeacher
from mtkd.teachers.temporal.trained import fill
from mtkd.teachers.temporal.unpack import unpack
from mtkd.teachers.temporal.weights import WEIGHTS
from mtkd.training.checkpoint import save_weights
from mtkd.training.fit import trained_state
from mtkd.training.fold import folds_of
from mtkd.training.placement import unplaced
from mtkd.workspace import Unit

MODALITIES: list[Modality] = ["eeg", "emg"]
WINDOWS = Windows(window_s=2.0, hop_s=2.0)
LAYERS = "base_model.model.layers"
KINDS = {
    "lora": {},
    "dora": {"lora": Lora(use_dora=True)},
    "biases": {"lora": Lora(bias="all")},
    "bfloat16": {"dtype": "bfloat16"},
}


@pytest.fixture
def trained(layouts: Mapping[Modality, Layout], make_batch: Callable[..., Batch], tmp_path: Path) -> Callable[..., Any]:
    """A factory of a teacher whose trained weights are not those it began with, and of its empty twin."""
    known = {name: layouts[name] for name in MODALITIES}

    def make(unit: Unit, **changes: Any) -> tuple[TemporalTeacher, TemporalTeacher, tuple[Path, Path]]:
        section = Temporal(modalities=MODALITIES, patch_s=2.0, **changes)
        teacher = TemporalTeacher(section, WINDOWS, known, 4, unit)
        teacher.fit_statistics(lambda: [make_batch(MODALITIES, seed=9)], lambda values: values)
        with torch.no_grad():
            for parameter in teacher.parameters():
                if parameter.requires_grad:
                    parameter.add_(0.05 * torch.randn_like(parameter))
        save_weights(trained_state(teacher), tmp_path / "weights.safetensors")
        twin = TemporalTeacher(section, WINDOWS, known, 4, unit, unplaced)
        assert all(parameter.is_meta for parameter in twin.backbone.model.parameters())
        return teacher.eval(), twin, (unit.folder / WEIGHTS, tmp_path / "weights.safetensors")

    return make


@pytest.fixture(scope="module")
def three(make_study: Callable[..., Any], tiny_llama: Path) -> Unit:
    """Three layers of a random Llama, unpacked."""
    return unpack(make_study(f"temporal.backbone={tiny_llama}", "temporal.layers=3"))


def n_bytes(module: nn.Module) -> int:
    return sum(each.numel() * each.element_size() for each in module.parameters())


@torch.no_grad()
def agree(teacher: TemporalTeacher, twin: TemporalTeacher, batch: Batch) -> bool:
    """To the last digit."""
    pairs = zip(teacher(batch)[:4], twin.eval()(batch)[:4], strict=True)
    return all(torch.equal(ours, theirs) for ours, theirs in pairs)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("share", "expected"), [(None, {"cpu": 3}), (0.7, {"cpu": 1, "disk": 2}), (0, {"disk": 3})])
def test_a_teacher_says_the_same_from_wherever_it_lies(
    trained: Callable[..., Any], make_batch: Callable[..., Batch], three: Unit, kind: str, share: Any, expected: Any
) -> None:
    teacher, twin, weights = trained(three, **KINDS[kind])
    # room for a layer that stays, and for the one that is being read
    limits = None if share is None else {"cpu": max(1, share * n_bytes(twin.backbone.model.get_submodule(LAYERS)))}
    assert fill(twin, *weights, limits) == expected
    layers = twin.backbone.model.get_submodule(LAYERS)
    batch = make_batch(MODALITIES, n_trials=2, n_steps=3)
    for _ in range(2):
        assert agree(teacher, twin, batch)
        empty = [all(each.is_meta for each in layer.parameters()) for layer in layers]
        assert sum(empty) == expected.get("disk", 0)  # what was read for a row is not kept


@pytest.mark.gpu
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shares", [None, (1.2, 0), (1.2, 1.2)])
def test_a_teacher_says_the_same_from_a_gpu_and_beyond(
    trained: Callable[..., Any], make_batch: Callable[..., Batch], three: Unit, kind: str, shares: Any
) -> None:
    """``shares`` are those of a layer that there is room for on the GPU and on the host."""
    teacher, twin, weights = trained(three, **KINDS[kind])
    layer = n_bytes(twin.backbone.model.get_submodule(LAYERS)) / 3
    limits = None if shares is None else {0: 2 * shares[0] * layer, "cpu": max(1, shares[1] * layer)}
    lies = fill(twin, *weights, limits)
    assert lies == {0: 3} if shares is None else lies[0] >= 1 and len(lies) > 1
    batch = make_batch(MODALITIES, n_trials=2, n_steps=3)
    with torch.no_grad():
        ours, theirs = teacher(batch), twin.eval()(batch.to(torch.device("cuda")))
    close = 5e-2 if kind == "bfloat16" else 1e-4
    for one, other in zip(ours[:3], theirs[:3], strict=True):
        torch.testing.assert_close(other.cpu(), one, atol=close, rtol=close)


def test_a_single_layer_that_was_trained_as_a_whole(
    trained: Callable[..., Any], make_batch: Callable[..., Batch], make_study: Callable[..., Any]
) -> None:
    unit = unpack(make_study(f"temporal.backbone={ONE_LAYER}"))
    teacher, twin, weights = trained(unit, backbone=ONE_LAYER)
    assert fill(twin, *weights, {"cpu": 1.0}) == {"disk": 1}
    assert agree(teacher, twin, make_batch(MODALITIES))


def test_a_damaged_backbone_and_a_gpu_that_is_not_there(
    trained: Callable[..., Any], tiny_unit: Unit, tmp_path: Path
) -> None:
    _, twin, weights = trained(tiny_unit)
    with pytest.raises(MtkdError, match=r"^cache\.max_memory: there is no GPU 99, there are \d+$"):
        fill(twin, *weights, {99: 1e9})
    cut = tmp_path / "cut.safetensors"
    cut.write_bytes(weights[0].read_bytes()[:-100])
    with pytest.raises(MtkdError, match=rf"^{cut}: no readable weights \("):
        fill(twin, cut, weights[1])


def test_a_study_says_how_much_a_teacher_may_take(pipeline: Any, capsys: pytest.CaptureFixture[str]) -> None:
    study = pipeline.study
    cached = study.cache.model_copy(update={"max_memory": {"cpu": 1e-9}})
    shards, fold = open_shards(study)[1], folds_of(study)[0]
    whole = load_teacher(study, shards, fold, "temporal")
    from_disk = load_teacher(study.model_copy(update={"cache": cached}), shards, fold, "temporal")
    assert not any(each.is_meta for each in whole.model.parameters())
    assert any(each.is_meta for each in from_disk.model.parameters())
    assert "fold 0: too large for one device, so its layers lie: 2 on disk" in capsys.readouterr().out
    keys = [sample.key for sample in shards.index.samples[:3]]
    for ours, theirs in zip(whole.say(keys)[:4], from_disk.say(keys)[:4], strict=True):
        assert torch.equal(ours, theirs)
