"""Backbones of many kinds: which read packed rows, which see the future, and that all answer as each trial alone."""

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from mtkd.config import Temporal
from mtkd.errors import MtkdError
from mtkd.teachers.temporal.examine import longest, plain, reads_packed_rows
from mtkd.teachers.temporal.weights import read_weights, write_weights

SIZES = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 61,
    "max_position_embeddings": 64,
    "bos_token_id": None,
    "eos_token_id": None,
    "pad_token_id": None,
}
OLD = {"n_embd": 32, "n_layer": 2, "n_head": 4, "vocab_size": 61}
WINDOW = {"head_dim": 8, "sliding_window": 5}
SETTINGS = Temporal(modalities=["eeg"], patch_s=1.0, backbone="x")


def decoder(kind: str, **sizes: Any) -> Any:
    torch.manual_seed(0)
    config = transformers.AutoConfig.for_model(kind, **sizes)
    return transformers.AutoModel.from_config(config).eval()


KINDS = pytest.mark.parametrize(
    ("kind", "sizes", "packs"),
    [
        ("llama", SIZES, True),
        ("mistral", SIZES | WINDOW, True),  # a window of attention
        ("gemma2", SIZES | WINDOW, True),  # capped scores
        ("gpt_oss", SIZES | WINDOW | {"num_local_experts": 4, "num_experts_per_tok": 2}, True),  # sinks, experts
        ("gpt2", OLD, True),  # learned positions
        ("bloom", OLD | {"hidden_size": 32}, False),  # attention of its own
        ("mamba", {"hidden_size": 32, "num_hidden_layers": 2, "vocab_size": 61}, False),  # none at all
        ("stablelm", SIZES, False),
        ("gptj", OLD | {"rotary_dim": 4}, False),  # which does not even take another's name
    ],
)


@KINDS
def test_what_can_be_packed_is_found_out(kind: str, sizes: dict[str, Any], packs: bool) -> None:
    model = decoder(kind, **sizes)
    how = model.config._attn_implementation
    assert reads_packed_rows(model, SETTINGS) == packs
    assert model.config._attn_implementation == how  # it is as it was


@KINDS
@torch.inference_mode()
def test_any_is_read_back_as_it_was_written(kind: str, sizes: dict[str, Any], packs: bool, tmp_path: Path) -> None:
    """Also where transformers has other names and shapes on disk than in memory, as for experts."""
    model = decoder(kind, **sizes)
    state = torch.get_rng_state()
    write_weights(model, tmp_path)
    again = read_weights(tmp_path, torch.float32).eval()
    assert torch.equal(torch.get_rng_state(), state)
    row = torch.randn(1, 7, 32)
    assert torch.equal(plain(again, row), plain(model, row))


@pytest.mark.parametrize(
    ("kind", "sizes", "told"),
    [
        ("bert", SIZES, "a BertModel, which sees the future; a causal language model is needed"),
        (
            "t5",
            {"d_model": 32, "num_layers": 2, "vocab_size": 61},
            "a T5Model, which does not read a row of embeddings",
        ),
    ],
)
def test_what_is_no_causal_decoder_is_refused(kind: str, sizes: dict[str, Any], told: str) -> None:
    with pytest.raises(MtkdError, match=rf"^temporal\.backbone = x: {told}"):
        reads_packed_rows(decoder(kind, **sizes), SETTINGS)


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (transformers.LlamaConfig(**SIZES), 64),
        (transformers.LlamaConfig(**SIZES, rope_parameters={"rope_type": "dynamic", "factor": 2.0}), 64),
        (transformers.Llama4TextConfig(attention_chunk_size=20), 20),
        (
            transformers.Phi3Config(
                **SIZES,
                original_max_position_embeddings=40,
                rope_parameters={"rope_type": "longrope", "short_factor": [1.0] * 4, "long_factor": [2.0] * 4},
            ),
            40,
        ),
        (transformers.MambaConfig(), None),
    ],
)
def test_what_goes_by_the_longest_of_a_row_limits_a_trial(config: Any, expected: int | None) -> None:
    assert longest(config) == expected
