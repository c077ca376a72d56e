"""What a student is worth on each subset of its modalities: whoever wears it may have left any sensor off."""

import itertools
from collections.abc import Mapping
from typing import Any

import torch

from mtkd.config import Distill, Modality, Study
from mtkd.distill.train import load_model
from mtkd.evaluate.answers import Answering
from mtkd.evaluate.metrics import summary
from mtkd.evaluate.predictions import Predictions
from mtkd.signals.splits import Fold
from mtkd.training.fold import refuse_leak
from mtkd.workspace import Unit

Subset = tuple[Modality, ...]
SHOWN = ("mean", "sd", "pooled", "n_seeds")


def subsets_of(modalities: list[Modality]) -> list[Subset]:
    """All but the empty one, the smallest first, modalities in the study's order."""
    return [each for size in range(1, len(modalities) + 1) for each in itertools.combinations(modalities, size)]


@torch.inference_mode()
def subset_answers(study: Study, fold: Fold, settings: Distill, unit: Unit) -> dict[Subset, Predictions]:
    """A student's answers on its fold's test subjects from each subset of its modalities."""
    refuse_leak(unit, fold)
    asked = Answering(study, fold, settings.modalities)
    model = load_model(study, asked.data.cutter.shards, fold, settings, unit.folder)
    found: dict[Subset, list[Predictions]] = {subset: [] for subset in subsets_of(settings.modalities)}
    for batch in asked.batches():
        for subset, said in model.on_subsets(batch):
            found[subset].append(asked.rows(said, batch))
    return {subset: Predictions.concatenate(rows) for subset, rows in found.items()}


def subset_table(answers: Mapping[Subset, Predictions], n_bins: int) -> list[dict[str, Any]]:
    """Of each subset its ``modalities`` and, by ``window`` and by ``trial``, of ``summary`` what ``SHOWN`` names."""
    table = []
    for subset, predictions in answers.items():
        rows = predictions.labelled()
        levels = {"window": summary(rows, n_bins), "trial": summary(rows.per_trial(), n_bins)}
        table.append(
            {"modalities": list(subset)}
            | {level: {key: found[key] for key in SHOWN} for level, found in levels.items()}
        )
    return table
