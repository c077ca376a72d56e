"""Which electrodes the spatial teacher listens to."""

from typing import Any

import numpy as np
import torch
from jaxtyping import Float

from mtkd.cache.build import Teacher
from mtkd.config import Study
from mtkd.shards.build import open_shards
from mtkd.signals.splits import Fold
from mtkd.training.fold import fold_data

_BATCH = 16  # trials


def electrode_importance(study: Study, folds: list[Fold]) -> dict[str, Any]:
    """Mean size of gradient times input at each electrode, over the test windows of all folds, and what training added
    to the weight of each edge, mean over folds (None where edges were not learned).

    The gradient is that of the chosen class's logit with regard to the node's differential entropies.
    """
    _, shards = open_shards(study)
    values, learned = [], []
    for fold in folds:
        teacher = Teacher(study, shards, fold, "spatial")
        values.append(_fold(study, fold, teacher))
        learned.append((teacher.model.adjacency - teacher.model.near).detach().cpu().numpy())
    return {
        "ch_names": teacher.cutter.layouts["eeg"].ch_names,
        "values": np.mean(values, axis=0).tolist(),
        "learned": np.mean(learned, axis=0).tolist() if study.spatial.learned_adjacency else None,
        "title": "spatial teacher, mean over folds",
    }


def _fold(study: Study, fold: Fold, teacher: Teacher) -> Float[np.ndarray, " node"]:
    keys = fold_data(study, fold, ["eeg"], study.windows).keys(fold.test)
    sums, count = 0.0, 0
    for start in range(0, len(keys), _BATCH):
        batch = teacher.cutter.batch(keys[start : start + _BATCH]).to(teacher.device)
        nodes = teacher.model.nodes(batch).detach().requires_grad_()
        signal = teacher.model.from_nodes(nodes, batch)
        chosen = signal.logits.max(-1).values[signal.mask].sum()
        (gradient,) = torch.autograd.grad(chosen, nodes)
        sums = sums + (gradient * nodes).abs().sum(-1)[signal.mask].sum(0).detach().cpu().numpy()
        count += int(signal.mask.sum())
    return np.asarray(sums) / max(count, 1)
