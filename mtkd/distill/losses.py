"""What a student is to take from a teacher, window by window: a value for each, not averaged.

Each takes what student and teacher say of some windows, and ``mask``, the windows of which both say something; what is
outside it is 0. The caller has projected the student's features to the teacher's size where a loss compares them number
by number, weights the values, and reduces them. Losses between windows are in ``relations``.
"""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional as F

from mtkd.config import LossName
from mtkd.layers.heads import TeacherSignal

Values = Float[Tensor, "batch step"]
Mask = Bool[Tensor, "batch step"]
EPS = 1e-7
OF_TWO_CLASSES: dict[LossName, str] = {
    "dkd": "dkd is kd, as there is nothing to tell among the others",
    "logit_std": "logit_std teaches nothing: standardised, only the teacher's decision is left, without a gradient",
    "dist": "dist teaches nothing: a correlation is 1 or -1, without a gradient",
}
"""What becomes of a loss there."""


def kd(student: TeacherSignal, teacher: TeacherSignal, mask: Mask, *, temperature: float = 1.0) -> Values:
    """Kullback-Leibler divergence from teacher to student at a temperature (Hinton et al., 2015), nats.

    Scaled by ``temperature ** 2``, so that the gradient keeps the size of the hard loss.
    """
    return _where(mask, _kl(student.logits, teacher.logits, temperature))


def logit_std(student: TeacherSignal, teacher: TeacherSignal, mask: Mask, *, temperature: float = 1.0) -> Values:
    """The same between logits that are standardised over the classes of a window (Sun et al., CVPR 2024).

    Only their order and relative distances are taught, not their size. Of two classes the sign alone is left, which has
    no gradient.
    """
    return _where(mask, _kl(_standardised(student.logits), _standardised(teacher.logits), temperature))


def dkd(
    student: TeacherSignal,
    teacher: TeacherSignal,
    mask: Mask,
    *,
    target: Int[Tensor, "batch step"],
    temperature: float = 1.0,
    alpha: float = 1.0,
    beta: float = 8.0,
) -> Values:
    """Decoupled distillation (Zhao et al., CVPR 2022): ``alpha`` times the divergence of target against all others,
    plus ``beta`` times that among the others, each scaled by ``temperature ** 2``.

    ``target`` is the class of a window, where it has no label the teacher's decision. Of two classes the second is 0,
    and the first is ``kd``.
    """
    one = F.one_hot(target, student.logits.shape[-1]).bool()
    both = [_target_or_not(signal.logits / temperature, one) for signal in (student, teacher)]
    value = alpha * temperature**2 * _divergence(*both)
    if student.logits.shape[-1] > 2:
        ours, theirs = (signal.logits.masked_fill(one, -torch.inf) for signal in (student, teacher))
        value = value + beta * _kl(ours, theirs, temperature)
    return _where(mask, value)


def dist(student: TeacherSignal, teacher: TeacherSignal, mask: Mask, *, temperature: float = 1.0) -> Values:
    """Distance of the relations between classes: 1 - Pearson's correlation over the classes of a window, times
    ``temperature ** 2`` (DIST's inter-class term; Huang et al., NeurIPS 2022).

    Of two classes it is 0 or 2 of these, without a gradient. The intra-class term is ``relations.dist_within``.
    """
    ours, theirs = ((signal.logits / temperature).softmax(-1) for signal in (student, teacher))
    ours, theirs = (probs - probs.mean(-1, keepdim=True) for probs in (ours, theirs))
    return _where(mask, temperature**2 * (1 - F.cosine_similarity(ours, theirs, dim=-1)))


def hint(student: TeacherSignal, teacher: TeacherSignal, mask: Mask) -> Values:
    """Mean squared distance of features (FitNets; Romero et al., 2015).

    Each teacher vector is normalised to mean 0 and variance 1, so that teachers of any scale weigh alike.
    """
    theirs = F.layer_norm(teacher.features, teacher.features.shape[-1:])
    return _where(mask, (student.features - theirs).square().mean(-1))


def _where(mask: Mask, value: Values) -> Values:
    return torch.where(mask, value, 0.0)


def _kl(student: Tensor, teacher: Tensor, temperature: float) -> Values:
    ours, theirs = (F.log_softmax(logits / temperature, dim=-1) for logits in (student, teacher))
    return temperature**2 * _divergence(ours, theirs)


def _divergence(ours: Tensor, theirs: Tensor) -> Values:
    """Of logarithms of probabilities, those that are none aside."""
    return torch.where(theirs.isfinite(), theirs.exp() * (theirs - ours), 0.0).sum(-1)


def _standardised(logits: Tensor) -> Tensor:
    return (logits - logits.mean(-1, keepdim=True)) / (logits.std(-1, keepdim=True) + EPS)


def _target_or_not(logits: Tensor, one: Bool[Tensor, "batch step class"]) -> Tensor:
    """Logarithms of the probabilities of the target and of all others together."""
    probs = F.log_softmax(logits, dim=-1)
    rest = probs.masked_fill(one, -torch.inf).logsumexp(-1)
    return torch.stack([probs.masked_fill(~one, -torch.inf).logsumexp(-1), rest], dim=-1)
