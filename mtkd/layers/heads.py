"""What teachers and student say of a window, and the heads that say it."""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn


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

    The confidence head (ConfidNet; Corbiere et al., NeurIPS 2019) does not send its gradient back into the features:
    it reads what the class head reads and must not change it. Without one, all windows are believed alike.
    """

    def __init__(self, n_features: int, n_classes: int, dropout: float, confidence: bool = True) -> None:
        super().__init__()
        self.classes = nn.Sequential(nn.Dropout(dropout), nn.Linear(n_features, n_classes))
        self.confidence: nn.Module | None = None
        if confidence:
            hidden = max(8, n_features // 8)
            self.confidence = nn.Sequential(nn.Linear(n_features, hidden), nn.ReLU(), nn.Linear(hidden, 1))

    def forward(self, features: Float[Tensor, "batch step feature"], mask: Bool[Tensor, "batch step"]) -> TeacherSignal:
        """Logits and confidence of features."""
        logits = self.classes(features)
        if self.confidence is None:
            return TeacherSignal(logits, features, torch.ones_like(logits[..., 0]), mask)
        return TeacherSignal(logits, features, torch.sigmoid(self.confidence(features.detach())).squeeze(-1), mask)
