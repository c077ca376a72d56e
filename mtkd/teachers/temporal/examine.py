"""What a backbone does with a row of tokens, found out by running it once: foreign models say it in no common way."""

import inspect
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from mtkd.config import Temporal
from mtkd.errors import MtkdError
from mtkd.teachers.temporal.attention import PACKED, Segments, register

_LENGTHS = (9, 14, 6)  # of trials to try with, tokens
_CLOSE = {torch.float32: 1e-4, torch.float16: 1e-2, torch.bfloat16: 5e-2}  # of outputs that differ by rounding alone


@torch.no_grad()
def reads_packed_rows(model: Any, settings: Temporal) -> bool:
    """Whether trials in one row come out as each by itself; otherwise they have to lie under each other, padded.

    Some models have attention of their own, or states that run on from token to token.

    Raises:
        MtkdError: the model sees the future.
    """
    kind = f"temporal.backbone = {settings.backbone}: a {type(model).__name__}"
    try:
        row, alone = _alone(model)
        later = torch.cat([row[:, : _LENGTHS[0] - 1], row[:, -1:]], dim=1)
        sees_future = _differ(plain(model, later)[:, :-1], alone[:, : _LENGTHS[0] - 1])
    except Exception as error:  # models that want other inputs than a decoder's
        raise MtkdError(f"{kind}, which does not read a row of embeddings ({type(error).__name__})") from None
    if sees_future:
        raise MtkdError(f"{kind}, which sees the future; a causal language model is needed")
    return _packs(model, row, alone)


def _alone(model: Any) -> tuple[Float[Tensor, "1 token width"], Float[Tensor, "1 token width"]]:
    """A row of random tokens, and what the model makes of each trial in it by itself."""
    width = model.get_input_embeddings().embedding_dim
    row = torch.randn(1, sum(_LENGTHS), width, generator=torch.Generator().manual_seed(0)).to(model.dtype)
    return row, torch.cat([plain(model, part) for part in row.split(_LENGTHS, dim=1)], dim=1)


def _packs(model: Any, row: Tensor, alone: Tensor) -> bool:
    if not takes_positions(model) or not knows_attention(model):
        return False
    register()
    positions = torch.cat([torch.arange(length) for length in _LENGTHS])[None]
    before = model.config._attn_implementation
    try:
        model.set_attn_implementation(PACKED)
        segments = Segments(_LENGTHS, causal=True, device=row.device)
        packed = plain(model, row, position_ids=positions, segments=segments)
    except Exception:  # attention of its own does not know what it is told
        return False
    finally:
        model.set_attn_implementation(before)
    return not _differ(packed, alone)


def knows_attention(model: Any) -> bool:
    """Whether a model calls the attention that it is told to, and not one of its own."""
    return bool(getattr(model, "_supports_attention_backend", False))


def longest(config: Any) -> int | None:
    """Positions up to which a model reads a trial the same in any row, None without a limit.

    Where it changes its frequencies for longer inputs, they go by the longest trial of a row; where it attends in
    chunks, those would not begin with the trial.
    """
    rope = getattr(config, "rope_parameters", None) or {}
    known = [getattr(config, "max_position_embeddings", None), getattr(config, "attention_chunk_size", None)]
    if rope.get("rope_type") in ("dynamic", "longrope"):
        known.append(rope.get("original_max_position_embeddings"))
        known.append(getattr(config, "original_max_position_embeddings", None))
    return min((int(each) for each in known if each), default=None)


def takes_positions(model: Any) -> bool:
    """Whether a model can be told where in time its tokens are."""
    return "position_ids" in inspect.signature(model.forward).parameters


def plain(model: Any, tokens: Tensor, **options: Any) -> Float[Tensor, "trial token width"]:
    """The decoder's last hidden states."""
    return model(inputs_embeds=tokens, use_cache=False, **options).last_hidden_state


def _differ(ours: Tensor, theirs: Tensor) -> bool:
    """Whether two outputs differ by more than rounding; by the worst token, as a share of its size."""
    error = (ours.float() - theirs.float()).norm(dim=-1) / theirs.float().norm(dim=-1).clamp_min(1e-12)
    return not bool((error < _CLOSE[theirs.dtype]).all())
