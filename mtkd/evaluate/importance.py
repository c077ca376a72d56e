"""Which electrodes the spatial teacher listens to."""

from typing import Any

import numpy as np
import torch
from jaxtyping import Float

from mtkd.cache.build import Teacher, load_teacher
from mtkd.config import Study
from mtkd.shards.build import open_shards
from mtkd.signals.splits import Fold
from mtkd.training.fold import fold_data

_BATCH = 16  # trials


def electrode_importance(study: Study, folds: list[Fold]) -> dict[str, Any]:
    """Mean size of gradient times input at each electrode, over the test windows of all folds, and what training added
    to the weight of each edge, mean over folds (None where edges were not learned). Electrodes are those of all folds.

    The gradient is that of the chosen class's logit with regard to the node's differential entropies.
    """
    _, shards = open_shards(study)
    teachers = [load_teacher(study, shards, fold, "spatial") for fold in folds]
    names = [teacher.cutter.layouts["eeg"].ch_names for teacher in teachers]
    common = [name for name in names[0] if all(name in own for own in names)]
    values, learned = [], []
    for fold, teacher, own in zip(folds, teachers, names, strict=True):
        place = [own.index(name) for name in common]
        values.append(_fold(study, fold, teacher)[place])
        learned.append((teacher.model.adjacency - teacher.model.near).detach().cpu().numpy()[np.ix_(place, place)])
    return {
        "ch_names": common,
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
