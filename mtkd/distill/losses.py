"""Losses between student and teacher: a value for every window, not averaged. The caller weights, masks and reduces."""

from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F


def kl(
    student: Float[Tensor, "*window class"], teacher: Float[Tensor, "*window class"], temperature: float
) -> Float[Tensor, "*window"]:
    """Kullback-Leibler divergence from teacher to student at a temperature (Hinton et al., 2015), nats.

    Both are logits. Scaled by ``temperature ** 2``, so that the gradient keeps the size of the hard loss.
    """
    ours, theirs = (F.log_softmax(logits / temperature, dim=-1) for logits in (student, teacher))
    return temperature**2 * (theirs.exp() * (theirs - ours)).sum(-1)


def hint(
    student: Float[Tensor, "*window feature"], teacher: Float[Tensor, "*window feature"]
) -> Float[Tensor, "*window"]:
    """Mean squared distance of projected student features to teacher features (FitNets; Romero et al., 2015).

    Each teacher vector is normalised to mean 0 and variance 1, so that teachers of any scale weigh alike.
    """
    return (student - F.layer_norm(teacher, teacher.shape[-1:])).square().mean(-1)
