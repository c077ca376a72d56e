"""Decoders of other kinds than a Llama's, from folders: what can be cut and adapted, and what is refused."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from mtkd.config import Study
from mtkd.errors import MtkdError
from mtkd.teachers.temporal.backbone import Backbone
from mtkd.teachers.temporal.packing import pack
from mtkd.teachers.temporal.unpack import hidden_size, unpack


def said(model: Backbone, tokens: torch.Tensor) -> torch.Tensor:
    """Hidden states of one trial's tokens, one modality a step; (token, width)."""
    return model(tokens, pack(torch.ones(1, len(tokens), 1, dtype=torch.bool), len(model.prompt)))


def refused(study: Study) -> str:
    with pytest.raises(MtkdError) as error:
        unpack(study)
    return str(error.value)


def test_a_decoder_that_names_its_layers_otherwise(make_study: Callable[..., Study], tmp_path: Path) -> None:
    import transformers

    config = transformers.GPT2Config(n_embd=32, n_layer=3, n_head=4, vocab_size=61)
    transformers.GPT2LMHeadModel(config).save_pretrained(tmp_path)
    study = make_study(f"temporal.backbone={tmp_path}", "temporal.layers=2")
    model = Backbone(unpack(study), study.temporal)  # whose layers are all adapted where none is called as in a Llama
    assert len(model.model.base_model.model.h) == 2
    assert hidden_size(study) == 32
    assert said(model, torch.randn(4, 32)).shape == (4, 32)


@pytest.mark.parametrize(
    ("kind", "sizes", "lora"),
    [
        ("mamba", {"hidden_size": 32, "num_hidden_layers": 3}, {"target_modules": ["in_proj", "x_proj"]}),
        ("gpt_neo", {"hidden_size": 32, "num_layers": 2, "num_heads": 4, "attention_types": [[["global"], 2]]}, {}),
        ("falcon", {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4}, {}),
    ],
)
def test_decoders_of_other_kinds_can_be_adapted(
    make_study: Callable[..., Study], tmp_path: Path, kind: str, sizes: dict[str, object], lora: dict[str, object]
) -> None:
    """Every adapter gets a gradient, and a trial hears nothing of what stands beside it."""
    import transformers

    config = transformers.AutoConfig.for_model(kind, vocab_size=61, **sizes)
    transformers.AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path)
    study = make_study(f"temporal.backbone={tmp_path}", "temporal.layers=2", f"temporal.lora={json.dumps(lora)}")
    model = Backbone(unpack(study), study.temporal)
    assert model.width == hidden_size(study)
    tokens = torch.randn(12, model.width)
    present = torch.ones(2, 8, 1, dtype=torch.bool)
    present[1, 4:] = False
    both = model(tokens, pack(present, 0))
    torch.testing.assert_close(both[8:], said(model, tokens[8:]))
    both.square().sum().backward()
    adapters = {name: parameter for name, parameter in model.named_parameters() if "lora_B" in name}
    assert len(adapters) >= 4
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in adapters.values())


def test_a_decoder_that_keeps_all_it_computes(make_study: Callable[..., Study], tmp_path: Path) -> None:
    import transformers

    config = transformers.OpenAIGPTConfig(n_embd=32, n_layer=2, n_head=4, vocab_size=61, n_positions=64)
    transformers.OpenAIGPTLMHeadModel(config).save_pretrained(tmp_path)
    study = make_study(f"temporal.backbone={tmp_path}", "temporal.layers=2", "temporal.activation_checkpointing=true")
    with pytest.raises(MtkdError, match=rf"^temporal\.activation_checkpointing: {tmp_path} cannot be told to$"):
        Backbone(unpack(study), study.temporal)


def test_a_decoder_that_is_narrower_at_its_ends(make_study: Callable[..., Study], tmp_path: Path) -> None:
    """As OPT-350m is."""
    import transformers

    sizes = {"hidden_size": 32, "word_embed_proj_dim": 16, "num_hidden_layers": 2, "num_attention_heads": 4}
    config = transformers.OPTConfig(ffn_dim=48, vocab_size=61, max_position_embeddings=64, **sizes)
    transformers.OPTForCausalLM(config).save_pretrained(tmp_path)
    said = refused(make_study(f"temporal.backbone={tmp_path}", "temporal.layers=2"))
    assert said.endswith("its embeddings have a width of 16 and its layers one of 32; one is needed for both")


def test_layers_that_cannot_be_told_apart(make_study: Callable[..., Study], tmp_path: Path) -> None:
    import transformers

    config = transformers.T5Config(d_model=32, d_kv=8, d_ff=48, num_layers=3, num_heads=4, vocab_size=61)
    transformers.T5ForConditionalGeneration(config).save_pretrained(tmp_path)
    said = refused(make_study(f"temporal.backbone={tmp_path}", "temporal.layers=2"))
    assert said.startswith(f"temporal.backbone = {tmp_path}: a T5")
