"""Attention for trials that lie one after another in one row: each sees its own tokens and no other trial's."""

import sys
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional as F

PACKED = "mtkd_packed"
_FLASH, _WIDEST = (torch.float16, torch.bfloat16), 256  # types and size of a head that the fused kernel takes
_OF_SCORES = ("softcap", "s_aux")  # options that change scores, which no fused kernel knows


@dataclass(frozen=True)
class Segments:
    """Where the trials of a row lie: ``lengths`` in tokens; ``causal`` whether a token sees the earlier ones only."""

    lengths: tuple[int, ...]
    causal: bool
    device: torch.device

    def to(self, device: torch.device | int | str, **options: Any) -> "Segments":
        """Those of a row on another device, where its next layers may lie."""
        return replace(self, device=torch.device(device))

    @cached_property
    def bounds(self) -> Int[Tensor, " bound"]:
        """Where each begins, and the end of the last."""
        starts = [0]
        for length in self.lengths:
            starts.append(starts[-1] + length)
        return torch.tensor(starts, dtype=torch.int32, device=self.device)


def register() -> None:
    """Make the attention known to transformers under the name ``PACKED``."""
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    # Not compiled: trials' lengths are numbers, each set of which would be compiled anew. As a decorator it would have
    # whoever imports this module wait two seconds for torch's compiler.
    ALL_ATTENTION_FUNCTIONS.register(PACKED, torch.compiler.disable(packed_attention))


def packed_attention(
    module: Any,
    query: Float[Tensor, "1 head token dim"],
    key: Float[Tensor, "1 kv_head token dim"],
    value: Float[Tensor, "1 kv_head token value_dim"],
    attention_mask: Tensor | None,
    *,
    segments: Segments,
    scaling: float | None = None,
    sliding_window: int | None = None,
    dropout: float = 0.0,
    **options: Any,
) -> tuple[Float[Tensor, "1 token head value_dim"], None]:
    """What transformers calls in the place of its own attention; ``segments`` comes from the model's caller.

    Trials of equal length are computed together; on a GPU, in 16 bits, all are by one fused kernel. Where a model caps
    its scores or has sinks, its own plain attention is called for each trial.
    """
    capped = any(options.get(name) is not None for name in _OF_SCORES)
    flash = query.is_cuda and query.dtype in _FLASH and query.shape[-1] == value.shape[-1] <= _WIDEST
    if flash and not capped and not dropout:
        return _fused(query, key, value, segments, scaling, sliding_window), None
    if not capped and len(set(segments.lengths)) == 1:
        length = segments.lengths[0]
        query, key, value = (_apart(each, length) for each in (query, key, value))
        found = _plain(query, key, value, segments.causal, scaling, sliding_window, dropout)
        return found.flatten(0, 1)[None], None
    parts = zip(*(each.split(segments.lengths, dim=2) for each in (query, key, value)), strict=True)
    if capped:
        given = options | {"scaling": scaling, "dropout": dropout, "sliding_window": sliding_window}
        return torch.cat([_own(module, q, k, v, segments.causal, given) for q, k, v in parts], dim=1), None
    settings = (segments.causal, scaling, sliding_window, dropout)
    return torch.cat([_plain(q, k, v, *settings) for q, k, v in parts], dim=1), None


def _apart(row: Float[Tensor, "1 head token dim"], length: int) -> Float[Tensor, "trial head step dim"]:
    return row[0].unflatten(1, (-1, length)).transpose(0, 1)


def _plain(
    query: Tensor, key: Tensor, value: Tensor, causal: bool, scaling: float | None, window: int | None, dropout: float
) -> Float[Tensor, "trial step head dim"]:
    """PyTorch's own attention, trials side by side."""
    n_tokens = query.shape[2]
    band = None if window is None or window >= n_tokens else allowed(n_tokens, causal, window, query.device)
    grouped = query.shape[1] != key.shape[1]
    found = F.scaled_dot_product_attention(
        query, key, value, band, dropout, is_causal=causal and band is None, scale=scaling, enable_gqa=grouped
    )
    return found.transpose(1, 2)


def _own(
    module: Any, query: Tensor, key: Tensor, value: Tensor, causal: bool, given: dict[str, Any]
) -> Float[Tensor, "1 step head dim"]:
    """The plain attention that the model's file brings along, for one trial."""
    eager = sys.modules[type(module).__module__].eager_attention_forward
    n_tokens = query.shape[2]
    keep = allowed(n_tokens, causal, given["sliding_window"] or n_tokens, query.device)
    mask = torch.zeros(keep.shape, dtype=query.dtype, device=query.device)
    return eager(module, query, key, value, mask.masked_fill(~keep, torch.finfo(query.dtype).min)[None, None], **given)[
        0
    ]


def _fused(
    query: Tensor, key: Tensor, value: Tensor, segments: Segments, scaling: float | None, window: int | None
) -> Float[Tensor, "1 token head dim"]:
    """FlashAttention over trials of any lengths (Dao, 2023), through PyTorch."""
    from torch.nn.attention.varlen import varlen_attn

    longest, back = max(segments.lengths), -1 if window is None else window - 1
    found: Tensor = varlen_attn(  # type: ignore[assignment]
        query[0].transpose(0, 1),
        key[0].transpose(0, 1),
        value[0].transpose(0, 1),
        segments.bounds,
        segments.bounds,
        longest,
        longest,
        scale=scaling,
        window_size=(back, 0 if segments.causal else back),
        enable_gqa=query.shape[1] != key.shape[1],
    )
    return found[None]


def allowed(n_tokens: int, causal: bool, window: int, device: torch.device) -> Bool[Tensor, "query key"]:
    """Which keys each query may look at: those at most ``window - 1`` away, and with ``causal`` none that is later."""
    distance = torch.arange(n_tokens, device=device)[:, None] - torch.arange(n_tokens, device=device)
    return (distance < window) & (distance >= 0 if causal else -distance < window)
