"""What a student is trained for: the labels, and of each teacher what the study asks for."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import torch
from jaxtyping import Int
from torch import Tensor

from mtkd.cache.source import Source
from mtkd.config import Distill, LossName, TeacherName
from mtkd.distill import losses, relations
from mtkd.distill.combine import teacher_weights
from mtkd.layers.heads import TeacherSignal
from mtkd.shards.batch import Batch
from mtkd.shards.labels import UNLABELLED
from mtkd.training.objective import Supervised, Term, supervised

Of = TypeVar("Of")
PROJECTED: frozenset[LossName] = frozenset({"hint", "contrast"})
"""Those that need the student's features in the teacher's space."""


@dataclass(frozen=True)
class Distillation:
    """L = CE + sum_k w_k sum_l weight_l loss_l(s, t_k), w_k the teacher's weight times that of the window.

    The teachers' terms take unlabelled windows too. ``subjects`` tells whose each trial is.
    """

    settings: Distill
    labels: Supervised
    source: Source
    subjects: Mapping[str, str]

    def masks(self, model: Any, batch: Batch) -> dict[str, Tensor]:
        """See ``Objective``."""
        found, heard = self.labels.masks(model, batch), model.heard(batch)
        for name, mask in self._of_weight(self.source.masks(batch)).items():
            found |= dict.fromkeys([f"{loss}/{name}" for loss in self.settings.losses], heard & mask)
        return found

    def __call__(self, model: Any, batch: Batch) -> dict[str, Term]:
        """See ``Objective``."""
        signal, said = model(batch), self._of_weight(self.source(batch))
        terms = supervised(signal, batch, self.labels.class_weights, self.labels.ce, self.labels.confidence)
        shares = teacher_weights(said, self.settings.weighting, batch.labels)
        asked = self.source.asked(batch)
        for name, teacher in said.items():
            mask, terms_of = signal.mask & teacher.mask, self._losses(teacher, batch, asked)
            for loss, weight in self.settings.losses.items():
                ours = signal
                if loss in PROJECTED:
                    ours = signal._replace(features=model.projections[name](signal.features, asked))
                value = shares[name] * terms_of[loss](ours, teacher, mask)
                terms[f"{loss}/{name}"] = Term(value, mask, self.settings.teachers[name] * weight)
        return terms

    def _of_weight(self, said: dict[TeacherName, Of]) -> dict[TeacherName, Of]:
        """Without teachers that weigh nothing, who take no share of the others' weight either."""
        return {name: each for name, each in said.items() if self.settings.teachers[name] > 0}

    def _losses(self, teacher: TeacherSignal, batch: Batch, asked: list[int]) -> dict[LossName, Callable[..., Tensor]]:
        """All there are, with what each takes beside the two signals and their mask."""
        softly, group, target = self.settings.temperature, self._groups(batch, asked), _target(teacher, batch)
        return {
            "kd": partial(losses.kd, temperature=softly),
            "dkd": partial(losses.dkd, target=target, temperature=softly, beta=self.settings.dkd_beta),
            "logit_std": partial(losses.logit_std, temperature=softly),
            "dist": partial(losses.dist, temperature=softly),
            "dist_within": partial(relations.dist_within, temperature=softly, group=group),
            "hint": losses.hint,
            "attention": relations.attention,
            "rkd": partial(relations.rkd, group=group),
            "similarity": partial(relations.similarity, group=group),
            "contrast": partial(relations.contrast, group=group),
        }

    def _groups(self, batch: Batch, asked: list[int]) -> Int[Tensor, "batch step"] | None:
        """A number of each window's group, where windows of one alone are held against each other: that of its subject,
        or of the training that its teacher is of, as another one's features are others.
        """
        if self.settings.relations == "batch" and len(set(asked)) == 1:
            return None
        of_subject = self.settings.relations == "subject"
        own = [self.subjects[key] if of_subject else str(number) for key, number in zip(batch.keys, asked, strict=True)]
        numbers = {group: number for number, group in enumerate(sorted(set(own)))}
        rows = torch.tensor([numbers[group] for group in own], device=batch.steps.device)
        return rows[:, None].expand(batch.steps.shape)


def _target(teacher: TeacherSignal, batch: Batch) -> Int[Tensor, "batch step"]:
    """The class of each window, where its trial has none that which the teacher decides on."""
    labels = batch.labels[:, None].to(teacher.logits.device)
    return torch.where(labels == UNLABELLED, teacher.logits.argmax(-1), labels)
