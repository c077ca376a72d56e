"""A backbone made ready once: cut to its first layers, without its vocabulary, its prompt embedded."""

import contextlib
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from jaxtyping import Float
from torch import Tensor, nn

from mtkd.config import ONE_LAYER, Study, Temporal
from mtkd.console import counted, say
from mtkd.errors import MtkdError, one_line
from mtkd.processes import in_a_child
from mtkd.teachers.temporal.examine import knows_attention, reads_packed_rows
from mtkd.teachers.temporal.source import Source, find
from mtkd.teachers.temporal.weights import write_weights
from mtkd.training.fold import quiet_libraries
from mtkd.workspace import Unit, make_unit

VERSION = 4
PROMPT = "prompt.safetensors"
_WIDTH = 256  # of the one-layer attention


def unpack(study: Study) -> Unit:
    """Write the first ``layers`` of the backbone as safetensors, without its vocabulary, unless that stands already.

    Signals come as embeddings, so the vocabulary is left behind; of the prompt its embeddings are kept. Every rank of
    every fold then loads this small folder, not the whole model, nor GGUF again.

    Raises:
        MtkdError: the weights cannot be loaded, have fewer layers than asked for, or see the future.
    """
    settings = study.temporal
    unit = _unit(study)
    if not unit.stands():
        quiet_libraries()
        say("temporal", f"unpacking the backbone {settings.backbone}")
        with unit.build() as (folder, measured):
            model, prompt = _made(study)
            measured["packed"] = reads_packed_rows(model.eval(), settings)
            measured["hidden_size"] = int(model.config.hidden_size)
            measured["n_prompt"] = len(prompt)
            write_weights(model, folder)
            safetensors.torch.save_file({"prompt": prompt}, folder / PROMPT)
    return unit


def unpack_aside(study: Study) -> None:
    """The same in a process of its own: whoever trains or waits meanwhile never holds the backbone whole.

    Raises:
        MtkdError: as ``unpack``, or the system ended that process.
    """
    if not _unit(study).stands():
        try:
            in_a_child(unpack, study)
        except BrokenProcessPool:
            raise MtkdError(
                f"temporal.backbone = {study.temporal.backbone}: the system ended the process that unpacked it, most "
                "likely for want of memory"
            ) from None


def outline(study: Study, folder: Path, layers: int | None = None) -> Unit:
    """What ``unpack`` makes but for the weights, in ``folder``: enough for a teacher on the meta device.

    Of a backbone in safetensors the configuration alone is read, and that it reads packed rows is taken for granted. A
    GGUF file has to be unpacked for it. ``layers`` stand in the place of the study's.

    Raises:
        MtkdError: there is no such backbone, or it has fewer layers.
    """
    quiet_libraries()
    settings = study.temporal.model_copy(update={"layers": layers or study.temporal.layers})
    unit = Unit("backbone", folder, {})
    with unit.build() as (aside, measured):
        model, n_prompt, packed = _outlined(study, settings)
        model.config.save_pretrained(aside)
        width = int(model.config.hidden_size)
        measured.update(packed=packed, hidden_size=width, n_prompt=n_prompt, layers=model.config.num_hidden_layers)
        safetensors.torch.save_file({"prompt": torch.zeros(n_prompt, width)}, aside / PROMPT)
    return unit


def _outlined(study: Study, settings: Temporal) -> tuple[Any, int, bool]:
    """The decoder on the meta device, how many tokens its prompt has, and whether it reads packed rows."""
    source = None if settings.backbone == ONE_LAYER else find(settings.backbone, weights=False)
    if source is None or source.gguf is not None:
        unpack_aside(study)
        unit = unpack(study)
        measured = unit.manifest().measured
        n_prompt, packed = int(measured["n_prompt"]), bool(measured["packed"])
        with torch.device("meta"):
            model = _configured(unit.folder, settings)
    else:
        with torch.device("meta"):
            model = _configured(source.folder, settings)
            n_prompt, packed = len(_embedded(model, source, settings)), knows_attention(model)
    if settings.backbone != ONE_LAYER:
        with torch.device("meta"):
            _cut(model, settings)
    return model, n_prompt, packed


def hidden_size(study: Study) -> int:
    """Width of the unpacked decoder, which is that of the teacher's features."""
    return int(unpack(study).manifest().measured["hidden_size"])


def backbone_inputs(study: Study) -> dict[str, Any]:
    """What a backbone's weights depend on: its files, and the seed of those that are random."""
    settings, digest = study.temporal, ONE_LAYER
    one_layer = settings.backbone == ONE_LAYER
    if not one_layer:
        digest = find(settings.backbone).digest(Path(study.workspace), settings.prompt is not None)
    return {
        "backbone": digest,
        "layers": None if one_layer else settings.layers,
        "prompt": settings.prompt,
        "seed": None if settings.pretrained and not one_layer else study.seed,
    }


def _unit(study: Study) -> Unit:
    inputs = {"stage": "backbone", "version": VERSION} | backbone_inputs(study)
    return make_unit(study, "backbone", f"layers-{study.temporal.layers or 'all'}", inputs)


def _made(study: Study) -> tuple[Any, Float[Tensor, "token width"]]:
    """The decoder and the embeddings of its prompt."""
    settings = study.temporal
    with torch.random.fork_rng(devices=[]):  # whether it was done before or now changes nothing that comes after
        torch.manual_seed(study.seed)
        if settings.backbone == ONE_LAYER:
            return _one_layer(), torch.empty(0, _WIDTH)
        source = find(settings.backbone)
        load = _pretrained if settings.pretrained else _configured
        model = load(source.folder, settings, dtype=_stored(source), **_gguf(source))
        prompt = _embedded(model, source, settings)
        _cut(model, settings)
        return model, prompt


def _gguf(source: Source) -> dict[str, str]:
    return {} if source.gguf is None else {"gguf_file": source.gguf}


def _stored(source: Source) -> Any:
    """The type that weights are kept in: their own, as long as they are not quantised."""
    return "auto" if source.gguf is None else torch.float32


def _one_layer() -> Any:
    """One layer of a Llama, to be trained as a whole: what is left of a language model without the language."""
    import transformers

    config = transformers.LlamaConfig(
        hidden_size=_WIDTH,
        intermediate_size=4 * _WIDTH,
        num_hidden_layers=1,
        num_attention_heads=8,
        num_key_value_heads=8,
        vocab_size=1,
        max_position_embeddings=65_536,
        pad_token_id=None,
        bos_token_id=None,
        eos_token_id=None,
    )
    return transformers.AutoModel.from_config(config)


def _embedded(model: Any, source: Source, settings: Temporal) -> Float[Tensor, "token width"]:
    """The prompt's tokens as the model embeds them; none without a prompt.

    Raises:
        MtkdError: the backbone comes without a tokenizer.
    """
    import transformers

    embed = model.get_input_embeddings()
    if not settings.prompt:
        return torch.empty(0, embed.embedding_dim)
    if not source.has_tokenizer:
        raise MtkdError(f"temporal.prompt: {settings.backbone} has no tokenizer beside its weights")
    safe = {"trust_remote_code": False, "local_files_only": True}
    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(source.folder, **safe, **_gguf(source))
        ids = tokenizer(settings.prompt)["input_ids"]
    except Exception as error:  # whatever a foreign folder makes transformers raise
        raise MtkdError(
            f"temporal.prompt: {settings.backbone} has no tokenizer that can be loaded "
            f"({type(error).__name__}: {one_line(error)})"
        ) from None
    if ids and max(ids) >= embed.num_embeddings:
        raise MtkdError(
            f"temporal.prompt: the tokenizer of {settings.backbone} knows token {max(ids)}, its vocabulary has "
            f"{embed.num_embeddings}"
        )
    with torch.no_grad():
        return embed(torch.tensor(ids)).float()


def _cut(model: Any, settings: Temporal) -> None:
    """Keep the first layers and drop the vocabulary, in place."""
    name, layers = layers_of(model, settings.backbone)
    n_layers, width = settings.layers or len(layers), model.get_input_embeddings().embedding_dim
    if width != model.config.hidden_size:
        raise MtkdError(
            f"temporal.backbone = {settings.backbone}: its embeddings have a width of {width} and its layers one of "
            f"{model.config.hidden_size}; one is needed for both"
        )
    if n_layers > len(layers):
        raise MtkdError(
            f"temporal.layers = {n_layers}, but {settings.backbone} has {len(layers)}; null keeps all of them"
        )
    parent, _, attribute = name.rpartition(".")
    setattr(model.get_submodule(parent), attribute, layers[:n_layers])
    model.set_input_embeddings(nn.Embedding(1, model.get_input_embeddings().embedding_dim, dtype=model.dtype))
    config = model.config
    config.num_hidden_layers, config.vocab_size, config.pad_token_id = n_layers, 1, None
    if getattr(config, "layer_types", None) is not None:
        with contextlib.suppress(AttributeError):  # of some it follows from the number of layers
            config.layer_types = config.layer_types[:n_layers]
    if hasattr(config, "quantization_config"):  # GGUF weights are unpacked by now, but still forbid saving
        del config.quantization_config
    model.hf_quantizer, model.is_quantized = None, False


def layers_of(model: Any, backbone: str) -> tuple[str, nn.ModuleList]:
    """The list of a decoder's layers, which models name differently, and where in it that stands.

    Raises:
        MtkdError: it cannot be told which they are; ``backbone`` is what the study calls it.
    """
    n_layers = model.config.num_hidden_layers
    found = [(name, each) for name, each in model.named_modules() if isinstance(each, nn.ModuleList)]
    fitting = [(name, each) for name, each in found if len(each) == n_layers]
    if len(fitting) != 1:
        kind = type(model).__name__
        raise MtkdError(f"temporal.backbone = {backbone}: a {kind}, whose {n_layers} layers cannot be told apart")
    return fitting[0]


def _configured(folder: Path, settings: Temporal, dtype: Any = "auto", **options: Any) -> Any:
    """A decoder by its configuration alone, with the weights that its kind begins with.

    Raises:
        MtkdError: there is none that transformers knows.
    """
    import transformers

    safe = {"trust_remote_code": False, "local_files_only": True}
    try:
        config = transformers.AutoConfig.from_pretrained(folder, **safe, **options)
        if hasattr(config, "quantization_config"):
            del config.quantization_config
        return transformers.AutoModel.from_config(config, **({} if dtype == "auto" else {"dtype": dtype}))
    except Exception as error:  # whatever a foreign folder makes transformers raise
        raise _not_loaded(settings, error) from None


def _not_loaded(settings: Temporal, error: Exception) -> MtkdError:
    return MtkdError(
        f"temporal.backbone = {settings.backbone}: cannot be loaded ({type(error).__name__}: {one_line(error)})"
    )


def _pretrained(folder: Path, settings: Temporal, dtype: Any, **options: Any) -> Any:
    """A decoder from a folder of transformers'; neither code that it brings along nor weights that are unpickled.

    Raises:
        MtkdError: it cannot be loaded.
    """
    import transformers

    try:
        safe = {"trust_remote_code": False, "local_files_only": True, "use_safetensors": "gguf_file" not in options}
        safe["output_loading_info"] = True
        model, info = transformers.AutoModel.from_pretrained(folder, dtype=dtype, **safe, **options)
    except Exception as error:  # whatever a foreign folder makes transformers raise
        raise _not_loaded(settings, error) from None
    if missing := sorted(info["missing_keys"]):  # which transformers fills with random numbers
        told = f"{counted(len(missing), 'weight')}, such as {missing[0]}"
        raise MtkdError(f"temporal.backbone = {settings.backbone}: its files lack {told}")
    return model
