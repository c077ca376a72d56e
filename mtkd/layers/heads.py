"""What teachers and student say of a window, and the heads that say it."""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

_SURE = 1e-3  # from certainty; what is surer still would have no gradient to learn otherwise by


class TeacherSignal(NamedTuple):
    """What a teacher says of each window of some trials; the student answers in the same type.

    ``confidence`` in (0, 1) is the probability the model gives the true class, as it believes without seeing a label.
    ``mask`` is false where a trial has no such window. ``fingerprint`` is that of what made it, empty while it is
    trained. A tuple, since DeepSpeed looks for what a module gives in those, and gathers weights for its gradients.
    """

    logits: Float[Tensor, "batch step class"]
    features: Float[Tensor, "batch step feature"]
    confidence: Float[Tensor, "batch step"]
    mask: Bool[Tensor, "batch step"]
    fingerprint: str = ""


class Heads(nn.Module):
    """A class head and a confidence head over the same features.

    The probability of the true class is regressed by the confidence head (ConfidNet; Corbiere et al., NeurIPS 2019), in
    logits, from sum_k p_k^2 on, which a model that is calibrated gives it on average. One that has to find all of it
    ranks decisions no better than chance where labels are noisy. What it learns beyond it learns of training windows,
    of which a model is surer and more often right than of others: it does not calibrate a model for new subjects. It
    sends no gradient into features or logits: it reads what the class head reads and must not change it. Without one,
    all windows are believed alike.
    """

    def __init__(self, n_features: int, n_classes: int, dropout: float, confidence: bool = True) -> None:
        super().__init__()
        self.classes = nn.Sequential(nn.Dropout(dropout), nn.Linear(n_features, n_classes))
        self.confidence: nn.Module | None = None
        if confidence:
            hidden = max(8, n_features // 8)
            last = nn.Linear(hidden, 1)
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)
            self.confidence = nn.Sequential(nn.Linear(n_features, hidden), nn.ReLU(), last)

    def forward(self, features: Float[Tensor, "batch step feature"], mask: Bool[Tensor, "batch step"]) -> TeacherSignal:
        """Logits and confidence of features."""
        logits = self.classes(features)
        if self.confidence is None:
            return TeacherSignal(logits, features, torch.ones_like(logits[..., 0]), mask)
        off = self.confidence(features.detach()).squeeze(-1)
        confidence = torch.sigmoid(_expected(logits.detach()) + off.float())  # in 16 bits it would soon be 1
        return TeacherSignal(logits, features, confidence.to(logits.dtype), mask)


def _expected(logits: Float[Tensor, "batch step class"]) -> Float[Tensor, "batch step"]:
    """Logit of the probability that the true class is given where classes are as probable as they are said to be."""
    return torch.logit(logits.float().softmax(-1).square().sum(-1), eps=_SURE)
