"""The temporal teacher: a trial as a sequence of tokens, one per modality and patch, through a causal decoder."""

from collections.abc import Callable, Iterable
from typing import Any, cast

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from mtkd.config import Modality, Temporal, Windows
from mtkd.layers.encoder import WindowEncoder, fit_scales
from mtkd.layers.heads import Heads, TeacherSignal
from mtkd.shards.batch import Batch
from mtkd.shards.schema import Layout
from mtkd.teachers.temporal.backbone import load
from mtkd.workspace import Unit

_WIDTH = 32  # of the patch encoders' convolutions


class TemporalTeacher(nn.Module):
    """Reads batches cut into patches and answers for windows.

    A window's features are the hidden state at its last patch, averaged over the tokens of the modalities present
    there: each of them knows the past, none the future.
    """

    backbone: Any

    def __init__(
        self, settings: Temporal, windows: Windows, layouts: dict[Modality, Layout], n_classes: int, backbone: Unit
    ) -> None:
        super().__init__()
        self.modalities = [name for name in settings.modalities if name in layouts]
        self.window_patches = round(windows.window_s / settings.patch_s)
        self.hop_patches = round(windows.hop_s / settings.patch_s)
        self.backbone = load(backbone, settings)
        width = self.backbone.config.hidden_size
        self.encoders = nn.ModuleDict(
            {name: WindowEncoder(layouts[name], settings.patch_s, _WIDTH, width) for name in self.modalities}
        )
        self.kinds = nn.Parameter(0.1 * torch.randn(len(self.modalities), width))
        self.drop = nn.Dropout(settings.dropout)
        self.norm = nn.LayerNorm(width)
        self.heads = Heads(width, n_classes, settings.dropout)

    def fit_statistics(self, batches: Callable[[], Iterable[Batch]], total: Callable[[Tensor], Tensor]) -> None:
        """Fit the encoders' scales on training trials."""
        fit_scales(cast(dict[Modality, WindowEncoder], dict(self.encoders.items())), batches, total)

    def forward(self, batch: Batch) -> TeacherSignal:
        """Answers for all windows of the trials; ``batch`` is cut into patches without overlap."""
        tokens, present = self._embed(batch)
        n_steps = batch.steps.shape[1]
        hidden = self.backbone(
            inputs_embeds=tokens, attention_mask=causal_mask(present, tokens.dtype), use_cache=False
        ).last_hidden_state
        by_step = hidden.float().unflatten(1, (n_steps, len(self.modalities)))
        heard = present.unflatten(1, (n_steps, len(self.modalities)))
        steps = (by_step * heard[..., None]).sum(2) / heard.sum(2, keepdim=True).clamp_min(1)
        last = torch.arange(n_steps, device=steps.device)[self.window_patches - 1 :: self.hop_patches]
        return self.heads(self.norm(steps[:, last]), heard.any(2)[:, last])

    def _embed(self, batch: Batch) -> tuple[Float[Tensor, "batch token width"], Bool[Tensor, "batch token"]]:
        """Tokens in the order of time, within a step in the order of the modalities; and which of them are there.

        They enter with the variance 1 that the encoders' normalisation gives them. At the size of the vocabulary's own
        embeddings (SmolLM2: a root mean square of 0.14) they were lost in what the frozen layers add to them:
        validation loss 1.27 against 1.19 on simulated subjects.
        """
        embedded = []
        for index, name in enumerate(self.modalities):
            signal, valid = batch.signals[name], batch.valid[name]
            vectors = self.encoders[name](signal.flatten(0, 1), valid.flatten(0, 1)).unflatten(0, signal.shape[:2])
            embedded.append(vectors + self.kinds[index])
        tokens = self.drop(torch.stack(embedded, dim=2)).flatten(1, 2)
        present = torch.stack([batch.present(name) for name in self.modalities], dim=2).flatten(1, 2)
        return tokens.to(self.backbone.dtype), present


def causal_mask(present: Bool[Tensor, "batch token"], dtype: torch.dtype) -> Float[Tensor, "batch 1 token token"]:
    """What is added to attention scores: 0 for tokens that are there and not later, the lowest number for all others.

    Every token may look at itself, so that a row is never empty.
    """
    n_tokens = present.shape[1]
    earlier = torch.ones(n_tokens, n_tokens, dtype=torch.bool, device=present.device).tril()
    itself = torch.eye(n_tokens, dtype=torch.bool, device=present.device)
    allowed = (earlier & present[:, None, :]) | itself
    return torch.zeros(allowed.shape, dtype=dtype, device=present.device).masked_fill(~allowed, torch.finfo(dtype).min)[
        :, None
    ]
