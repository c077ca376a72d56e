"""What teachers say of a training subject's windows, told from what they say of that subject on average."""

from collections.abc import Iterable, Mapping

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from mtkd.cache.source import Source
from mtkd.config import TeacherName
from mtkd.layers.heads import TeacherSignal
from mtkd.shards.batch import Batch


class CentredSource:
    """Another source's answers, less their mean over each training subject's windows: logits and features.

    A teacher may be right about every step from one class to the other within a subject and wrong about the subject as
    a whole, by more than that step: what is left is what it knows. For logits this takes a subject's windows to be of
    each class as often as of any other, as an experiment's design has it and ratings have not. Other subjects, those of
    validation, are told as they are.

    Args:
        source: whose answers these are.
        batches: the training trials, once.
        subjects: whose each trial is, by its key.
    """

    def __init__(self, source: Source, batches: Iterable[Batch], subjects: Mapping[str, str]) -> None:
        self._source, self._subjects = source, subjects
        self._means = _means(source, batches, subjects)

    def masks(self, batch: Batch) -> dict[TeacherName, Bool[Tensor, "batch step"]]:
        """See ``Source``."""
        return self._source.masks(batch)

    def asked(self, batch: Batch) -> list[int]:
        """See ``Source``."""
        return self._source.asked(batch)

    def __call__(self, batch: Batch) -> dict[TeacherName, TeacherSignal]:
        """See ``Source``."""
        return {name: self._centred(name, signal, batch.keys) for name, signal in self._source(batch).items()}

    def _centred(self, name: TeacherName, signal: TeacherSignal, keys: list[str]) -> TeacherSignal:
        n_classes = signal.logits.shape[-1]
        unknown = signal.logits.new_zeros(n_classes + signal.features.shape[-1])
        means = [self._means.get((name, self._subjects[key]), unknown) for key in keys]
        mean = torch.stack(means)[:, None].to(signal.logits.device)
        return signal._replace(
            logits=signal.logits - mean[..., :n_classes], features=signal.features - mean[..., n_classes:]
        )


def _means(
    source: Source, batches: Iterable[Batch], subjects: Mapping[str, str]
) -> dict[tuple[TeacherName, str], Float[Tensor, " number"]]:
    """Of logits and features, one after the other, over the windows that a teacher heard of a subject."""
    sums: dict[tuple[TeacherName, str], Tensor] = {}
    for batch in batches:
        for name, signal in source(batch).items():
            said = torch.cat([signal.logits, signal.features, torch.ones_like(signal.logits[..., :1])], -1)
            of_trials = torch.where(signal.mask[..., None], said, 0).sum(1).cpu()
            for key, own in zip(batch.keys, of_trials, strict=True):
                sums[name, subjects[key]] = sums.get((name, subjects[key]), 0) + own
    return {key: total[:-1] / total[-1].clamp_min(1) for key, total in sums.items()}
