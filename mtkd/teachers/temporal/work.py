"""How much there is to train: trials, tokens and steps of all folds, as the loaders share them out over the ranks."""

from dataclasses import dataclass, replace
from itertools import chain

import torch

from mtkd.config import Study
from mtkd.seeds import of_teachers
from mtkd.shards.batch import Cutter
from mtkd.shards.loader import Loader
from mtkd.shards.shares import Piece, held
from mtkd.signals.splits import Fold
from mtkd.teachers.temporal.model import TemporalTeacher
from mtkd.teachers.temporal.train import loaders, patches
from mtkd.training.fold import FoldData, fold_data, with_parts
from mtkd.training.runtime import Runtime
from mtkd.workspace import Unit


@dataclass(frozen=True)
class Work:
    """The training of all teachers, of folds and their cross-fitting parts, with each seed.

    ``n_tokens``, ``n_trials`` and ``n_steps`` are those of an epoch, over all teachers; ``n_micro`` is the most
    micro-batches that a step has. ``slowest`` counts the tokens of the rank that has most, step by step over all
    epochs, validation included. ``largest`` are the trials of the micro-batch with most tokens, ``most`` of them, which
    is of ``data``; ``share_bytes`` takes the largest share of a rank, whose signals are on the device all at once.
    Trials that are not ``packed`` lie under each other, padded, and in ``slowest`` and ``most`` their padding counts.
    """

    n_teachers: int
    n_trials: int
    n_tokens: int
    n_steps: int
    n_micro: int
    slowest: int
    data: FoldData
    largest: list[str]
    most: int
    share_bytes: int
    packed: bool


def work_of(study: Study, backbone: Unit, runtime: Runtime) -> Work:
    """The training of the study's own teachers on the runtime's number of ranks, up to the last epoch.

    Raises:
        MtkdError: there are no shards, or they cannot be trained on.
    """
    found = [_of_fold(own, fold, backbone, runtime) for own in of_teachers(study) for fold in with_parts(study)]
    largest = max(found, key=lambda work: work.most)
    return replace(
        largest,
        n_teachers=len(found),
        n_trials=sum(work.n_trials for work in found),
        n_tokens=sum(work.n_tokens for work in found),
        n_steps=sum(work.n_steps for work in found),
        n_micro=max(work.n_micro for work in found),
        slowest=sum(work.slowest for work in found),
        share_bytes=max(work.share_bytes for work in found),
    )


def teacher_of(study: Study, data: FoldData, backbone: Unit) -> TemporalTeacher:
    """A teacher without content, on the meta device; ``backbone`` is an outline."""
    with torch.device("meta"):
        return TemporalTeacher(study.temporal, study.windows, data.cutter.layouts, study.n_classes, backbone)


def _of_fold(study: Study, fold: Fold, backbone: Unit, runtime: Runtime) -> Work:
    data = fold_data(study, fold, study.temporal.modalities, patches(study))
    model = teacher_of(study, data, backbone)
    train, val = loaders(study, data, model, runtime)
    sizes, epochs = train.sampler.sizes, study.temporal.optim.epochs
    shares = [share for epoch in range(epochs) for share in _shares(train, epoch)]
    checked = list(_shares(val, 0))
    pieces = [(train, piece) for share in shares for piece in chain(*share)]
    pieces += [(val, piece) for share in checked for piece in chain(*share)]
    loader, largest = max(pieces, key=lambda found: _tokens(*found))
    slowest = sum(_slowest(train, share) for share in shares) + epochs * sum(_slowest(val, share) for share in checked)
    return Work(
        n_teachers=1,
        n_trials=len(sizes),
        n_tokens=sum(sizes),
        n_steps=len(train),
        n_micro=max(len(share[0]) for share in shares),
        slowest=slowest,
        data=data,
        largest=[loader.keys[trial] for trial in largest if trial >= 0],
        most=_tokens(loader, largest),
        share_bytes=max(_n_bytes(data.cutter, train, own) for share in shares for own in share),
        packed=model.backbone.packed,
    )


def _shares(loader: Loader, epoch: int) -> list[list[list[Piece]]]:
    """The pieces of every rank of every global batch."""
    loader.set_epoch(epoch)
    return list(loader.sampler.of_all_ranks())


def _tokens(loader: Loader, piece: Piece) -> int:
    sizes = [loader.sampler.sizes[trial] for trial in piece if trial >= 0]
    return held(sizes, loader.sampler.padded) if sizes else 0


def _slowest(loader: Loader, share: list[list[Piece]]) -> int:
    """Tokens of the rank that has most."""
    return max(sum(_tokens(loader, piece) for piece in own) for own in share)


def _n_bytes(cutter: Cutter, loader: Loader, own: list[Piece]) -> int:
    """Of the signals of a rank's share; each piece is padded to its longest trial."""
    window_s = cutter.windows.window_s
    step = sum(4 * len(each.ch_names) * round(window_s * each.sfreq) for each in cutter.layouts.values())
    samples = [[cutter.shards.samples[loader.keys[max(trial, ~trial)]] for trial in piece] for piece in own]
    return sum(step * len(piece) * max(cutter.n_steps(sample) for sample in piece) for piece in samples)
