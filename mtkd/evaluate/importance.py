"""Which electrodes the spatial teacher listens to, and what it learned of the edges between them."""

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


def electrode_importance(study: Study, folds: list[Fold]) -> list[dict[str, Any]]:
    """Mean size of gradient times input at each electrode, over the test windows in which it is valid, and what
    training added to the weight of each edge (None where edges were not learned): the mean over folds, then each fold.

    The gradient is that of the chosen class's logit with regard to the node's features. What belongs to an electrode
    that was never valid, or that no fold has, is NaN. The mean is over the folds that have a number.
    """
    _, shards = open_shards(study)
    teachers = [load_teacher(study, shards, fold, "spatial") for fold in folds]
    found = [_fold(study, fold, teacher) for fold, teacher in zip(folds, teachers, strict=True)]
    ch_names = list(dict.fromkeys(name for fold in found for name in fold["ch_names"]))
    mean = {
        "ch_names": ch_names,
        "values": _mean(found, "values", ch_names),
        "learned": _mean(found, "learned", ch_names) if study.spatial.learned_adjacency else None,
        "title": "spatial teacher, mean over folds",
    }
    return [mean, *found]


def _mean(found: list[dict[str, Any]], key: str, ch_names: list[str]) -> np.ndarray:
    """Mean over the folds that have a number, NaN where none does."""
    n_dims = found[0][key].ndim
    spread = np.full((len(found), *[len(ch_names)] * n_dims), np.nan)
    for row, own in zip(spread, found, strict=True):
        place = [ch_names.index(name) for name in own["ch_names"]]
        row[np.ix_(*[place] * n_dims)] = own[key]
    known = (~np.isnan(spread)).sum(0)
    return np.divide(np.nansum(spread, 0), known, out=np.full(known.shape, np.nan), where=known > 0)


def _fold(study: Study, fold: Fold, teacher: Teacher) -> dict[str, Any]:
    model = teacher.model
    learned = (model.adjacency - model.near).detach().cpu().numpy() if study.spatial.learned_adjacency else None
    return {
        "ch_names": teacher.cutter.layouts["eeg"].ch_names,
        "values": _gradient_times_input(study, fold, teacher),
        "learned": learned,
        "title": f"spatial teacher, fold {fold.index}",
    }


def _gradient_times_input(study: Study, fold: Fold, teacher: Teacher) -> Float[np.ndarray, " node"]:
    keys = fold_data(study, fold, ["eeg"], study.windows).keys(fold.test)
    n_chans = len(teacher.cutter.layouts["eeg"].ch_names)
    sums, counts = np.zeros(n_chans), np.zeros(n_chans)
    for start in range(0, len(keys), _BATCH):
        batch = teacher.cutter.batch(keys[start : start + _BATCH]).to(teacher.device)
        nodes = teacher.model.nodes(batch).detach().requires_grad_()
        signal = teacher.model.from_nodes(nodes, batch)
        chosen = signal.logits.max(-1).values[signal.mask].sum()
        (gradient,) = torch.autograd.grad(chosen, nodes)
        sums += (gradient * nodes).abs().sum(-1)[signal.mask].sum(0).detach().cpu().numpy()
        counts += batch.valid["eeg"][signal.mask].sum(0).cpu().numpy()
    return np.divide(sums, counts, out=np.full(n_chans, np.nan), where=counts > 0)
