"""Terms of a loss: a value a window, a mask and a weight each; the training loop reduces them over all ranks."""

from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional as F

from mtkd.layers.heads import TeacherSignal
from mtkd.shards.batch import Batch
from mtkd.shards.labels import UNLABELLED


@dataclass(frozen=True)
class Term:
    """``value`` counts where ``mask`` is true; the term's mean over all ranks enters the loss times ``weight``."""

    value: Float[Tensor, "batch step"]
    mask: Bool[Tensor, "batch step"]
    weight: float


@runtime_checkable
class Objective(Protocol):
    """What a model is trained for."""

    def masks(self, model: Any, batch: Batch) -> dict[str, Bool[Tensor, "batch step"]]:
        """The windows that each term counts, as known before the model has answered.

        So the mean over a global batch can be taken while its parts are computed one after another.
        """
        ...

    def __call__(self, model: Any, batch: Batch) -> dict[str, Term]:
        """The terms of the loss, of the same windows."""
        ...


@dataclass(frozen=True)
class Supervised:
    """Learning from the trials' labels; a confidence head that weighs nothing is none."""

    class_weights: Float[Tensor, " class"]
    ce: float
    confidence: float

    def masks(self, model: Any, batch: Batch) -> dict[str, Bool[Tensor, "batch step"]]:
        """See ``Objective``."""
        labelled = model.heard(batch) & (batch.labels != UNLABELLED)[:, None]
        return {"class": labelled} | ({"confidence": labelled} if self.confidence else {})

    def __call__(self, model: Any, batch: Batch) -> dict[str, Term]:
        """See ``Objective``."""
        return supervised(model(batch), batch, self.class_weights, self.ce, self.confidence)


def supervised(
    signal: TeacherSignal, batch: Batch, class_weights: Float[Tensor, " class"], ce: float, confidence: float
) -> dict[str, Term]:
    """Cross-entropy with the trial's class and the regression of the true-class probability, on labelled windows.

    The confidence term is ConfidNet's: the squared distance to p(y), whose gradient is stopped (Corbiere et al., 2019).
    """
    labelled = signal.mask & (batch.labels != UNLABELLED)[:, None]
    target: Int[Tensor, "batch step"] = batch.labels.clamp_min(0)[:, None].expand(signal.mask.shape)
    losses = F.cross_entropy(signal.logits.flatten(0, 1), target.flatten(), reduction="none").view_as(signal.confidence)
    true_class = signal.logits.detach().softmax(-1).gather(-1, target[..., None]).squeeze(-1)
    terms = {"class": Term(losses * class_weights.to(losses)[target], labelled, ce)}
    if confidence:
        terms["confidence"] = Term((signal.confidence - true_class).square(), labelled, confidence)
    return terms


def class_weights(labels: list[int], n_classes: int) -> Float[Tensor, " class"]:
    """Weights that make every class of the training windows count alike; 1 on average over the labelled ones."""
    labelled = torch.tensor([label for label in labels if label != UNLABELLED], dtype=torch.long)
    counts = torch.bincount(labelled, minlength=n_classes)
    present = counts > 0
    return torch.where(present, counts.sum() / (present.sum() * counts.clamp_min(1)), 0.0).float()
