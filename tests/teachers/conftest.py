"""A random backbone, small enough for many examples; the real one is ``smollm2``."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from mtkd.config import Study
from mtkd.teachers.temporal import backbone
from mtkd.training.fold import quiet_libraries
from mtkd.workspace import Unit


@pytest.fixture(scope="session")
def tiny_llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a random Llama of three layers, as safetensors."""
    import transformers

    quiet_libraries()
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        vocab_size=61,
    )
    folder = tmp_path_factory.mktemp("llama")
    transformers.LlamaForCausalLM(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_unit(make_study: Callable[..., Study], tiny_llama: Path) -> Unit:
    """The random Llama, unpacked."""
    return backbone.unpack(make_study(f"temporal.backbone={tiny_llama}", "temporal.layers=2"))
