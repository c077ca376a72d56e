"""One rank of ``teachers.py``'s rows of memory: makes a large teacher's backbone, takes a step, tells what it holds.

``accelerate launch ... benchmarks/teachers_memory.py DEEPSPEED.json BACKBONE``; not a benchmark by itself.
"""

import gc
import json
import sys
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
import transformers
from torch import nn

from mtkd.config import Optim, Temporal
from mtkd.teachers.temporal.backbone import Backbone
from mtkd.teachers.temporal.packing import pack
from mtkd.teachers.temporal.unpack import PROMPT
from mtkd.teachers.temporal.weights import write_weights
from mtkd.training.fold import quiet_libraries
from mtkd.training.runtime import Runtime
from mtkd.training.zero import kept
from mtkd.workspace import Unit

SIZES = {
    "135 M": {"hidden_size": 576, "intermediate_size": 1536, "num_hidden_layers": 30, "num_attention_heads": 9},
    "1 B": {"hidden_size": 2048, "intermediate_size": 8192, "num_hidden_layers": 16, "num_attention_heads": 32},
    "7 B": {"hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32, "num_attention_heads": 32},
}
N_TOKENS = 64


def write_backbone(folder: Path, size: str) -> Unit:
    """Random weights of SmolLM2's, Llama 3.2's or Mistral's shape, without vocabulary, unpacked, in bfloat16."""
    heads = SIZES[size]["num_attention_heads"]
    config = transformers.LlamaConfig(
        **SIZES[size], num_key_value_heads=heads // 3 if heads == 9 else 8, vocab_size=1, pad_token_id=None
    )
    unit = Unit("backbone", folder / size.replace(" ", ""), {"size": size})
    with unit.build() as (aside, measured):
        with torch.device("cuda" if torch.cuda.is_available() else "cpu"):
            model = transformers.AutoModel.from_config(config, dtype=torch.bfloat16)
        write_weights(model, aside)
        safetensors.torch.save_file({"prompt": torch.empty(0, config.hidden_size)}, aside / PROMPT)
        measured["packed"] = True
    return unit


def status(key: str) -> int:
    """Of this process, in bytes: ``RssAnon``, what it holds, or ``VmHWM``, the most that it ever held."""
    lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(lines[key].split()[0]) * 1024


def n_bytes(tensors: Any) -> int:
    """What tensors take, or the parts of them that this rank keeps."""
    parts = [getattr(tensor, "ds_tensor", tensor) for tensor in tensors]
    return sum(part.numel() * part.element_size() for part in parts)


def main() -> None:
    """Tell the states after a step and the peak until then, above what the libraries take."""
    deepspeed, folder = sys.argv[1], Path(sys.argv[2])
    quiet_libraries()
    runtime = Runtime(Optim(), deepspeed)
    manifest = json.loads((folder / "manifest.json").read_text())
    unit = Unit("backbone", folder, manifest["inputs"])
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5")
    before = status("VmHWM")
    settings = Temporal(modalities=["eeg"], patch_s=1.0, dtype="bfloat16")
    model = Backbone(unit, settings, runtime.parting)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    engine, optimizer = runtime.prepare(model, torch.optim.AdamW(trained, lr=1e-3))
    packing = pack(torch.ones(1, N_TOKENS, 1, dtype=torch.bool), 0)
    loss = engine(torch.randn(N_TOKENS, model.width), packing).square().mean()
    runtime.backward(loss, last=True)
    runtime.step(engine, optimizer)
    held = n_bytes(nn.Module.parameters(runtime.unwrap(engine)))
    masters = kept(optimizer.optimizer)
    states = [value for master in masters for value in runtime._base(optimizer).state[master].values()]
    held += n_bytes(masters) + n_bytes(value for value in states if isinstance(value, torch.Tensor))
    told = runtime.total(torch.tensor([float(held), float(status("VmHWM") - before)])) / runtime.world
    if runtime.rank == 0:
        print(json.dumps({"states": int(told[0]), "peak": int(told[1]), "engine": runtime.engine}))


if __name__ == "__main__":
    main()
