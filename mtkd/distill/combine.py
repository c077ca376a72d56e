"""How much each teacher counts in each window."""

from collections.abc import Mapping
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from mtkd.config import TeacherName
from mtkd.layers.heads import TeacherSignal
from mtkd.shards.labels import UNLABELLED

Weights = Mapping[TeacherName, Float[Tensor, "batch step"]]


def teacher_weights(
    said: Mapping[TeacherName, TeacherSignal],
    weighting: Literal["equal", "confidence", "camkd"],
    labels: Int[Tensor, " batch"],
) -> Weights:
    """A weight for every teacher and window.

    ``equal``: 1. ``confidence``: the teacher's own confidence. ``camkd``: w_k = (1 - softmax_k(CE(t_k, y))) / (K - 1),
    which trusts the teacher that is nearer to the label (CA-MKD; Zhang et al., ICASSP 2022); 1/K where there is no
    label, 1 with one teacher.
    """
    if weighting == "equal" or not said:
        return {name: torch.ones_like(signal.confidence) for name, signal in said.items()}
    if weighting == "confidence":
        return {name: signal.confidence for name, signal in said.items()}
    return _camkd(said, labels)


def _camkd(said: Mapping[TeacherName, TeacherSignal], labels: Tensor) -> Weights:
    if len(said) == 1:
        return {name: torch.ones_like(signal.confidence) for name, signal in said.items()}
    losses = []
    for signal in said.values():
        target = labels.clamp_min(0)[:, None].expand(signal.mask.shape)
        loss = F.cross_entropy(signal.logits.flatten(0, 1), target.flatten(), reduction="none")
        losses.append(loss.view_as(signal.confidence).masked_fill(~signal.mask, -torch.inf))
    present = torch.stack([signal.mask for signal in said.values()])
    n_present = present.sum(0).clamp_min(1)
    shares = torch.stack(losses).softmax(0).nan_to_num(0.0)  # NaN where no teacher heard the window
    weights = torch.where(n_present > 1, (1 - shares) / (n_present - 1).clamp_min(1), 1.0)
    weights = torch.where((labels == UNLABELLED)[None, :, None], 1 / n_present, weights) * present
    return dict(zip(said, weights, strict=True))
