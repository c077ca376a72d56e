"""The decoder in the teacher: unpacked, frozen, given LoRA adapters; reads trials as one row of tokens."""

import functools
import re
from typing import Any

import safetensors.torch
import torch
import torch.utils.checkpoint
from jaxtyping import Float
from torch import Tensor, nn

from mtkd.config import ONE_LAYER, Lora, Temporal
from mtkd.errors import MtkdError, one_line
from mtkd.teachers.temporal.attention import PACKED, Segments, register
from mtkd.teachers.temporal.examine import longest, plain, takes_positions
from mtkd.teachers.temporal.packing import Packing, padded, unpadded
from mtkd.teachers.temporal.unpack import PROMPT, layers_of
from mtkd.teachers.temporal.weights import Parting, in_one_piece, read_weights, tensors_of
from mtkd.training.placement import every_tensor
from mtkd.workspace import Unit

_ATTENTION = ["q_proj", "k_proj", "v_proj", "o_proj"]


class Backbone(nn.Module):
    """An unpacked decoder, in ``dtype``, with its adapters in float32 and its prompt before every trial.

    ``stored`` tells by what names the unpacked file has the tensors of ``model``.

    Raises:
        MtkdError: LoRA finds none of the modules it shall adapt, or the decoder cannot do what the study wants of it.
    """

    prompt: Tensor

    def __init__(self, unit: Unit, settings: Temporal, parting: Parting = in_one_piece) -> None:
        super().__init__()
        self.packed, self.causal = bool(unit.manifest().measured["packed"]), settings.causal
        if not self.packed and not self.causal:
            raise MtkdError(f"temporal.causal = false: {settings.backbone} cannot be told to look ahead")
        register()
        how = {"attn_implementation": PACKED} if self.packed else {}
        # what is trained as a whole is trained in float32
        dtype = torch.float32 if settings.backbone == ONE_LAYER else getattr(torch, settings.dtype)
        model = read_weights(unit.folder, dtype, parting, **how)
        self.width = int(model.config.hidden_size)
        self.longest = longest(model.config)
        self.takes_positions = takes_positions(model)
        if settings.activation_checkpointing:
            if not model.supports_gradient_checkpointing:
                raise MtkdError(f"temporal.activation_checkpointing: {settings.backbone} cannot be told to")
            model.activation_checkpointing_enable({"use_reentrant": False})
        self._layers = list(layers_of(model, settings.backbone)[1])  # a plain list, as they are registered already
        names = {id(tensor): name for name, tensor in tensors_of(model).items()}
        self.model = model if settings.backbone == ONE_LAYER else _adapted(model, settings)
        self.stored = {name: names[id(each)] for name, each in every_tensor(self.model) if id(each) in names}
        prompt = safetensors.torch.load_file(unit.folder / PROMPT)["prompt"]
        self.register_buffer("prompt", prompt.to(model.dtype), persistent=False)

    def compile_layers(self) -> None:
        """Have torch compile each layer when it is first run: one program for all of them, whatever their lengths."""
        for layer in self._layers:
            layer.compile(dynamic=True)
            if getattr(layer, "gradient_checkpointing", False):
                layer._gradient_checkpointing_func = torch.compiler.disable(_checkpointed)

    def forward(self, tokens: Float[Tensor, "token width"], packing: Packing) -> Float[Tensor, "token width"]:
        """Hidden states of the tokens of a packing, without those of the prompts; float32.

        Adapters compute in the backbone's type, as in any mixed precision; what is learned of them is float32.
        """
        row = tokens.new_empty(packing.positions.shape[1], self.width, dtype=self.prompt.dtype)
        row = row.index_copy(0, packing.places, tokens.to(row.dtype))
        row = row.index_copy(0, packing.prompts, self.prompt.repeat(len(packing.lengths), 1))[None]
        with torch.autocast(row.device.type, row.dtype, row.dtype != torch.float32, cache_enabled=False):
            hidden = self._in_one_row(row, packing) if self.packed else self._under_each_other(row, packing)
        return hidden[0, packing.places].float()

    def _in_one_row(self, row: Float[Tensor, "1 place width"], packing: Packing) -> Float[Tensor, "1 place width"]:
        segments = Segments(packing.lengths, self.causal, row.device)
        return plain(self.model, row, position_ids=packing.positions, segments=segments)

    def _under_each_other(
        self, row: Float[Tensor, "1 place width"], packing: Packing
    ) -> Float[Tensor, "1 place width"]:
        """For models with attention of their own: what stands behind a trial cannot change what lies before."""
        lengths = packing.lengths
        ones = torch.ones(row.shape[:2], dtype=torch.long, device=row.device)
        options = {"position_ids": padded(packing.positions, lengths)} if self.takes_positions else {}
        rows = plain(self.model, padded(row, lengths), attention_mask=padded(ones, lengths), **options)
        return unpadded(rows, lengths)


def _checkpointed(layer: "functools.partial[Any]", *args: Any) -> Any:
    """In the place of transformers' own, within which torch would compile nothing: checkpoints a compiled layer."""
    compiled = torch.compile(layer.func, dynamic=True)
    again = functools.partial(compiled, *layer.args, **layer.keywords)
    return torch.utils.checkpoint.checkpoint(again, *args, use_reentrant=False)


def _adapted(model: Any, settings: Temporal) -> Any:
    import peft
    from peft.tuners.tuners_utils import BaseTunerLayer

    lora = settings.lora.model_dump()
    lora |= {"lora_alpha": lora.pop("alpha"), "lora_dropout": lora.pop("dropout")}
    lora["target_modules"] = lora["target_modules"] or _usual_targets(model)
    name, layers = layers_of(model, settings.backbone)
    if lora["layers_to_transform"] is not None and lora["layers_pattern"] is None:
        # peft's own guess wants another name before that of the list of layers
        lora["layers_pattern"] = name.rpartition(".")[2]
    _refuse_numbers(settings.lora, len(layers))
    modules = [each for each, _ in model.named_modules()]
    try:
        adapted = peft.get_peft_model(model, peft.LoraConfig(**lora))
    except (ValueError, TypeError, KeyError, re.error) as error:
        raise MtkdError(f"temporal.lora: {one_line(error)}") from None
    _refuse_idle(settings.lora, adapted.targeted_module_names, modules)
    _refuse_other_layers(settings.lora, adapted.targeted_module_names, name)
    for module in adapted.modules():
        if isinstance(module, BaseTunerLayer):  # or it would make float32 of all that it reads, to no other end
            module.cast_input_dtype_enabled = False
    return adapted


def _refuse_idle(lora: Lora, adapted: list[str], modules: list[str]) -> None:
    """peft passes over what fits none of its modules as long as something else does; here it is a mistake of typing."""
    for key in ("rank_pattern", "alpha_pattern"):
        for pattern in getattr(lora, key):
            fits = re.compile(rf"(.*\.)?({pattern})$")  # as peft itself asks
            if not any(fits.match(name) for name in adapted):
                raise MtkdError(f"temporal.lora.{key}: {pattern!r} fits none of the adapted modules")
    for key in ("target_modules", "exclude_modules"):
        names = getattr(lora, key) or []
        for wanted in [] if isinstance(names, str) else names:  # a pattern that fits nothing peft refuses itself
            if not _is_among(wanted, modules):
                raise MtkdError(f"temporal.lora.{key}: {wanted!r} is the name of none of the backbone's modules")
            if key == "target_modules" and not _is_among(wanted, adapted):
                raise MtkdError(f"temporal.lora.{key}: {wanted!r} adapts nothing, as other keys of it leave it out")


def _refuse_other_layers(lora: Lora, adapted: list[str], layers: str) -> None:
    """peft adapts a module that is named in full whatever ``layers_to_transform`` says."""
    numbers = lora.layers_to_transform
    wanted = {numbers} if isinstance(numbers, int) else set(numbers or [])
    for name in adapted if wanted else []:
        found = re.match(rf"{re.escape(layers)}\.(\d+)\.", name)
        if found and int(found[1]) not in wanted:
            raise MtkdError(f"temporal.lora.target_modules: {name} is in no layer of layers_to_transform")


def _is_among(wanted: str, modules: list[str]) -> bool:
    return any(name == wanted or name.endswith(f".{wanted}") for name in modules)


def _refuse_numbers(lora: Lora, n_layers: int) -> None:
    numbers = lora.layers_to_transform
    for number in [numbers] if isinstance(numbers, int) else numbers or []:
        if not 0 <= number < n_layers:
            raise MtkdError(f"temporal.lora.layers_to_transform: {number} is not one of layers 0 to {n_layers - 1}")


def _usual_targets(model: Any) -> list[str] | str:
    """The projections of attention where they have their usual names, or all linear layers."""
    names = {name.rpartition(".")[2] for name, _ in model.named_modules()}
    return _ATTENTION if names.issuperset(_ATTENTION) else "all-linear"
