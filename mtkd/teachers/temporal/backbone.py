"""A pretrained causal language model without its vocabulary: found, cut to its first layers, given LoRA adapters."""

import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors
import torch
from torch import nn

from mtkd.config import Study, Temporal
from mtkd.console import say
from mtkd.digests import digests_of
from mtkd.errors import MtkdError, one_line
from mtkd.files import fingerprint
from mtkd.workspace import Unit, make_unit

VERSION = 2
_WEIGHTS = (".safetensors", ".gguf")


@dataclass(frozen=True)
class Source:
    """Where a backbone lies: a folder and, for GGUF weights, the file in it."""

    folder: Path
    gguf: str | None

    def digest(self, workspace: Path) -> str:
        """Fingerprint of configuration and weights."""
        wanted = [
            path for path in sorted(self.folder.iterdir()) if path.suffix in _WEIGHTS or path.name == "config.json"
        ]
        if self.gguf is not None:
            wanted = [self.folder / self.gguf]
        digests = digests_of(wanted, workspace)
        return fingerprint({path.name: digests[path] for path in wanted})


def find(backbone: str) -> Source:
    """Resolve ``temporal.backbone``: a GGUF file, a folder, ``package:NAME`` (a Python package that ships one) or a
    hub id.

    Raises:
        MtkdError: nothing with weights is there.
    """
    if backbone.startswith("package:"):
        try:
            spec = importlib.util.find_spec(backbone.removeprefix("package:"))  # without importing it
        except (ImportError, ValueError):  # of a package that this one would be in, or no name at all
            spec = None
        if spec is None or not spec.submodule_search_locations:
            raise MtkdError(f"temporal.backbone = {backbone}: that package is not installed")
        return _in_folder(Path(spec.submodule_search_locations[0]), backbone)
    path = Path(backbone)
    if path.is_file() and path.suffix == ".gguf":
        return Source(path.parent, path.name)
    if path.is_dir():
        return _in_folder(path, backbone)
    return _in_folder(_from_hub(backbone), backbone)


def _in_folder(folder: Path, backbone: str) -> Source:
    if (folder / "config.json").is_file() and any(folder.glob("*.safetensors")):
        return Source(folder, None)
    ggufs = sorted(folder.glob("*.gguf"))
    if len(ggufs) != 1:
        raise MtkdError(
            f"temporal.backbone = {backbone}: {folder} holds no safetensors and {len(ggufs)} GGUF files, not one"
        )
    return Source(folder, ggufs[0].name)


def _from_hub(backbone: str) -> Path:
    import huggingface_hub

    try:
        return Path(huggingface_hub.snapshot_download(backbone, allow_patterns=["*.json", "*.safetensors"]))
    except Exception as error:  # network, unknown id, gated: each has its own class
        raise MtkdError(
            f"temporal.backbone = {backbone}: neither file nor folder, nor on the hub ({type(error).__name__})"
        ) from None


def unpack(study: Study) -> Unit:
    """Write the first ``layers`` of the backbone as safetensors, without its vocabulary, unless that stands already.

    Signals come as embeddings, so the vocabulary is left behind. Every rank of every fold then loads this small folder,
    not the whole model, nor GGUF again.

    Raises:
        MtkdError: the weights cannot be loaded, or have fewer layers than asked for.
    """
    settings = study.temporal
    source = find(settings.backbone)
    weights = source.digest(Path(study.workspace))
    inputs = {"stage": "backbone", "version": VERSION, "backbone": weights, "layers": settings.layers}
    unit = make_unit(study, "backbone", f"layers-{settings.layers or 'all'}", inputs)
    if not unit.stands():
        say("temporal", f"unpacking the backbone {settings.backbone}")
        with unit.build() as (folder, measured):
            gguf = {} if source.gguf is None else {"gguf_file": source.gguf}
            model = _pretrained(source.folder, settings, torch.float32, **gguf)
            _cut(model, settings)
            measured["hidden_size"] = int(model.config.hidden_size)
            _save(model, folder, unit)
    return unit


def _save(model: Any, folder: Path, unit: Unit) -> None:
    try:
        model.save_pretrained(folder)
    except safetensors.SafetensorError as error:
        raise MtkdError(f"{unit.folder}: cannot be written ({error})") from None


def hidden_size(study: Study) -> int:
    """Width of the unpacked decoder, which is that of the teacher's features."""
    return int(unpack(study).manifest().measured["hidden_size"])


def _cut(model: Any, settings: Temporal) -> None:
    """Keep the first layers and drop the vocabulary, in place."""
    name, layers = _layers(model, settings)
    n_layers = settings.layers or len(layers)
    if n_layers > len(layers):
        raise MtkdError(f"temporal.layers = {n_layers}, but {settings.backbone} has {len(layers)}")
    parent, _, attribute = name.rpartition(".")
    setattr(model.get_submodule(parent), attribute, layers[:n_layers])
    model.set_input_embeddings(nn.Embedding(1, model.get_input_embeddings().embedding_dim))
    config = model.config
    config.num_hidden_layers, config.vocab_size, config.pad_token_id = n_layers, 1, None
    if getattr(config, "layer_types", None) is not None:
        config.layer_types = config.layer_types[:n_layers]
    if hasattr(config, "quantization_config"):  # GGUF weights are unpacked by now, but still forbid saving
        del config.quantization_config
    model.hf_quantizer, model.is_quantized = None, False


def _layers(model: Any, settings: Temporal) -> tuple[str, nn.ModuleList]:
    """The list of the decoder's layers, which models name differently, and where in it that stands."""
    n_layers = model.config.num_hidden_layers
    found = [(name, each) for name, each in model.named_modules() if isinstance(each, nn.ModuleList)]
    fitting = [(name, each) for name, each in found if len(each) == n_layers]
    if len(fitting) != 1:
        kind = type(model).__name__
        raise MtkdError(
            f"temporal.backbone = {settings.backbone}: a {kind}, whose {n_layers} layers cannot be told apart"
        )
    return fitting[0]


def load(unit: Unit, settings: Temporal) -> Any:
    """The unpacked decoder, frozen, in ``dtype`` and with LoRA adapters in float32.

    Raises:
        MtkdError: LoRA finds none of the modules it shall adapt.
    """
    import peft

    model = _pretrained(unit.folder, settings, getattr(torch, settings.dtype))
    lora = peft.LoraConfig(
        r=settings.lora.r,
        lora_alpha=settings.lora.alpha,
        lora_dropout=settings.lora.dropout,
        target_modules=list(settings.lora.target_modules),
    )
    try:
        return peft.get_peft_model(model, lora)
    except ValueError as error:
        raise MtkdError(f"temporal.lora.target_modules: {one_line(error)}") from None


def _pretrained(folder: Path, settings: Temporal, dtype: torch.dtype, **options: Any) -> Any:
    import transformers

    try:
        # neither code that a folder brings along nor weights that are unpickled
        safe = {"trust_remote_code": False, "local_files_only": True, "use_safetensors": "gguf_file" not in options}
        return transformers.AutoModel.from_pretrained(folder, dtype=dtype, **safe, **options)
    except Exception as error:  # whatever a foreign folder makes transformers raise
        raise MtkdError(
            f"temporal.backbone = {settings.backbone}: cannot be loaded ({type(error).__name__}: {one_line(error)})"
        ) from None
