"""What a student is to take from a teacher of how windows lie to each other: within a trial, within a batch.

As in ``losses``, each gives a value a window. With ``group``, a number for each window, such as its subject's, windows
of different groups are not held against each other, as if each group had been a batch of its own: what a teacher's
answers to one subject have in common is then not taught. Where a window has no other, its value is 0.
"""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from mtkd.distill.losses import EPS, Mask, Values
from mtkd.layers.heads import TeacherSignal

_TRIPLES = 2**22  # angles held at once; there are as many as windows to the third power
Group = Int[Tensor, "batch step"]
Vectors = Float[Tensor, "n feature"]
Pairs = Bool[Tensor, "n n"]


def attention(student: TeacherSignal, teacher: TeacherSignal, mask: Mask) -> Values:
    """Attention transfer (Zagoruyko & Komodakis, ICLR 2017) along time: which windows of a trial have large features.

    The map of a trial is the mean square of each window's features, normalised to length 1 over its windows.
    """
    ours, theirs = (
        F.normalize((signal.features.square().mean(-1) * mask), dim=1, eps=EPS) for signal in (student, teacher)
    )
    return torch.where(mask, (ours - theirs).square(), 0.0)


def rkd(
    student: TeacherSignal,
    teacher: TeacherSignal,
    mask: Mask,
    *,
    group: Group | None = None,
    distance: float = 1.0,
    angle: float = 2.0,
) -> Values:
    """Relational distillation (Park et al., CVPR 2019): ``distance`` times the Huber distance of the distances between
    windows, each in units of their mean, plus ``angle`` times that of the angles at each window between two others.
    """
    pairs, ours, theirs = _pairs(mask, group), student.features[mask], teacher.features[mask]
    value = ours.new_zeros(len(ours))
    if distance:
        apart = F.smooth_l1_loss(_distances(ours, pairs), _distances(theirs, pairs), reduction="none")
        value = value + distance * _mean_over(apart, pairs)
    if angle:
        at_once = max(1, _TRIPLES // max(1, len(ours)) ** 2)
        blocks = torch.arange(len(ours), device=ours.device).split(at_once)
        of_angles = [checkpoint(_of_angles, ours, theirs, pairs, some, use_reentrant=False) for some in blocks]
        value = value + angle * torch.cat([*of_angles, value[:0]])
    return _spread(value, mask)


def similarity(
    student: TeacherSignal, teacher: TeacherSignal, mask: Mask, *, group: Group | None = None, norm: float = 2.0
) -> Values:
    """Similarity preserving (Tung & Mori, ICCV 2019): squared distance of each window's inner products with all
    windows, normalised to length 1 a window, mean over these.

    ``norm`` is that of the length; torchdistill 1.1.5 takes 1, the paper 2.
    """
    pairs = _pairs(mask, group)
    ours, theirs = (
        F.normalize((vectors @ vectors.T) * pairs, p=norm, dim=1)
        for vectors in (student.features[mask], teacher.features[mask])
    )
    return _spread(_mean_over((ours - theirs).square(), pairs), mask)


def dist_within(
    student: TeacherSignal,
    teacher: TeacherSignal,
    mask: Mask,
    *,
    group: Group | None = None,
    temperature: float = 1.0,
) -> Values:
    """DIST's intra-class term (Huang et al., NeurIPS 2022): 1 - Pearson's correlation of a class's probability over the
    windows, mean over classes, times ``temperature ** 2``.

    Half the squared distance of standardised probabilities has that mean over windows, and is a value for each.
    """
    pairs = _pairs(mask, group)
    ours, theirs = (
        _standardised_over((signal.logits[mask] / temperature).softmax(-1), pairs) for signal in (student, teacher)
    )
    return _spread(temperature**2 * 0.5 * (ours - theirs).square().mean(-1), mask)


def contrast(
    student: TeacherSignal,
    teacher: TeacherSignal,
    mask: Mask,
    *,
    group: Group | None = None,
    temperature: float = 0.07,
) -> Values:
    """Contrastive distillation (CRD; Tian et al., ICLR 2020) without its memory: each window's student features against
    the teacher's of the same window and of all others, and the other way round.

    Features are normalised to length 1; the chance of each pair to be one of the same window is told from noise
    (noise-contrastive estimation), with the normalisation of this batch.
    """
    pairs = _pairs(mask, group)
    ours, theirs = (F.normalize(signal.features[mask], dim=1, eps=EPS) for signal in (student, teacher))
    scores = torch.exp(ours @ theirs.T / temperature)
    return _spread(_told_from_noise(scores, pairs) + _told_from_noise(scores.T, pairs), mask)


def _told_from_noise(scores: Float[Tensor, "n n"], pairs: Pairs) -> Float[Tensor, " n"]:
    n = pairs.sum(1)
    share = (n - 1).clamp_min(1) / n  # of the noise: so many others, each with a chance of one in all
    scale = _mean_of_group(torch.where(pairs, scores.detach(), 0.0), pairs, pairs) * n
    chance = scores / scale.clamp_min(EPS)[:, None]
    same = torch.log(chance.diagonal() / (chance.diagonal() + share + EPS))
    others = torch.log(share[:, None] / (chance + share[:, None] + EPS))
    apart = pairs & ~torch.eye(len(pairs), dtype=torch.bool, device=pairs.device)
    value = -(same + torch.where(apart, others, 0.0).sum(1))
    return torch.where(n > 1, value, 0.0)


def _pairs(mask: Mask, group: Group | None) -> Pairs:
    """Which of the windows within ``mask`` are held against each other, themselves included."""
    own = torch.zeros_like(mask, dtype=torch.long) if group is None else group
    return own[mask][:, None] == own[mask][None]


def _spread(value: Float[Tensor, " n"], mask: Mask) -> Values:
    """The values of the windows within ``mask``, where those are."""
    return torch.zeros_like(mask, dtype=value.dtype).masked_scatter(mask, value)


def _mean_over(values: Float[Tensor, "n other"], counted: Bool[Tensor, "n other"]) -> Float[Tensor, " n"]:
    return torch.where(counted, values, 0.0).sum(1) / counted.sum(1).clamp_min(1)


def _mean_of_group(values: Float[Tensor, "n n"], counted: Pairs, pairs: Pairs) -> Float[Tensor, " n"]:
    """Of each window's group, the mean of the values that count; 0 elsewhere."""
    own = pairs.to(values)
    return own @ values.sum(1) / (own @ counted.sum(1).to(values)).clamp_min(1)


def _distances(vectors: Vectors, pairs: Pairs) -> Float[Tensor, "n n"]:
    """In units of their mean over the group, each window's to itself aside."""
    apart = pairs & ~torch.eye(len(pairs), dtype=torch.bool, device=pairs.device)
    found = torch.cdist(vectors, vectors, compute_mode="donot_use_mm_for_euclid_dist") * apart  # exact, also close by
    return found / _mean_of_group(found, apart, pairs).clamp_min(EPS)[:, None]


def _of_angles(ours: Vectors, theirs: Vectors, pairs: Pairs, some: Int[Tensor, " some"]) -> Float[Tensor, " some"]:
    """Distance of the cosines at some of the windows, of the ways to any two others."""
    triples = pairs[some, :, None] & pairs[some, None, :]
    cosines = []
    for vectors in (ours, theirs):
        ways = F.normalize(vectors[None] - vectors[some, None], dim=-1)
        cosines.append(ways @ ways.transpose(1, 2))
    apart = F.smooth_l1_loss(cosines[0], cosines[1], reduction="none")
    return _mean_over(apart.flatten(1), triples.flatten(1))


def _standardised_over(probs: Float[Tensor, "n class"], pairs: Pairs) -> Float[Tensor, "n class"]:
    """With mean 0 and variance 1 over the windows of each group."""
    share = pairs.to(probs) / pairs.sum(1, keepdim=True)
    centred = probs - share @ probs
    return centred / (share @ centred.square() + EPS**2).sqrt()
