"""One fold to train on: its data, the objective from its labels, the unit a training leaves on disk."""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mtkd.config import Modality, Optim, Study, TeacherName, Windows
from mtkd.console import say
from mtkd.errors import MtkdError
from mtkd.files import write_json
from mtkd.seeds import of_teachers
from mtkd.shards.batch import Cutter, layouts
from mtkd.shards.build import open_shards
from mtkd.shards.index import Sample
from mtkd.shards.labels import UNLABELLED, class_index
from mtkd.shards.loader import Loader
from mtkd.shards.read import Heard, ShardSet
from mtkd.signals.splits import Fold, crossfit, make_folds
from mtkd.study import variants
from mtkd.training.checkpoint import save_weights
from mtkd.training.fit import History
from mtkd.training.objective import Supervised, class_weights
from mtkd.training.runtime import Runtime
from mtkd.workspace import Unit

VERSION = 11  # of what training makes of its inputs: models, losses, the loop
WEIGHTS, HISTORY = "weights.safetensors", "history.json"


@dataclass(frozen=True)
class FoldData:
    """The trials of one outer fold as a stage reads them: cut to its steps, on its modalities."""

    unit: Unit
    fold: Fold
    cutter: Cutter

    def keys(self, subjects: list[str]) -> list[str]:
        """The fold's trials of some subjects that hold at least one step, in the order of the shards."""
        wanted = set(subjects)
        own = [s for s in self.cutter.shards.index.samples if s.subject in wanted]
        return [s.key for s in own if self.fold.takes(s.subject, s.stimulus) and self.cutter.n_steps(s) > 0]

    def labels(self, subjects: list[str]) -> list[int]:
        """Class indices of the same trials."""
        return [self.cutter.label(self.cutter.shards.samples[key]) for key in self.keys(subjects)]

    def class_weights(self, study: Study) -> Tensor:
        """Weights of the classes, (n_classes,), from the training trials' windows: those are what a loss averages.

        Raises:
            MtkdError: the training trials carry no label, or all of them the same, or those of validation carry none.
        """
        title, windows = self.fold.title, Cutter(self.cutter.shards, {}, study.windows, study.labels)
        self.refuse_short(self.fold.val)
        self.refuse_short(self.fold.test)  # hours before anyone is to be scored on them
        if set(self.labels(self.fold.val)) == {UNLABELLED}:
            raise MtkdError(f"{title}: no validation trial has a rating of {' and '.join(study.labels)}")
        n_windows = [windows.n_steps(self.cutter.shards.samples[key]) for key in self.refuse_short(self.fold.train)]
        labels = np.repeat(self.labels(self.fold.train), n_windows)
        _refuse_one_class(set(labels.tolist()), study, f"{title}: no training trial", f"{title}: every training trial")
        return class_weights(labels.tolist(), study.n_classes)

    def refuse_short(self, subjects: list[str]) -> list[str]:
        """The keys of some subjects' trials.

        Raises:
            MtkdError: none of them is as long as a step.
        """
        keys = self.keys(subjects)
        if not keys:
            length_s = self.cutter.windows.window_s
            raise MtkdError(f"{self.fold.title}: no trial of {', '.join(subjects)} is {length_s:g} s long")
        return keys

    def loader(
        self,
        subjects: list[str],
        optim: Optim,
        runtime: Runtime,
        seed: int,
        shuffle: bool,
        size: Callable[[Sample], int] | None = None,
        most: int | None = None,
        padded: bool = False,
    ) -> Loader:
        """Batches for this rank; ranks share them by the trials' ``size`` and compute at ``most`` so much at once,
        with the padding of those that are ``padded``.

        Raises:
            MtkdError: none of the subjects has a trial as long as a step.
        """
        keys = self.refuse_short(subjects)
        return Loader(
            self.cutter,
            keys,
            optim.batch_size,
            rank=runtime.rank,
            world=runtime.world,
            seed=seed,
            shuffle=shuffle,
            sizes=[size(self.cutter.shards.samples[key]) for key in keys] if size else None,
            most=most,
            padded=padded,
        )


def folds_of(study: Study) -> list[Fold]:
    """The outer folds over the subjects of the study's shards.

    Raises:
        MtkdError: the shards do not stand, there are too few subjects, or the labels leave nothing to tell apart.
    """
    index = open_shards(study)[1].index
    labels = {class_index(sample, study.labels) for sample in index.samples}
    _refuse_one_class(labels, study, "labels: no trial", "labels: every rated trial")
    return make_folds(index.subjects, study.splits, sorted({sample.stimulus for sample in index.samples}))


def with_parts(study: Study) -> list[Fold]:
    """All that the study's own teachers are trained on: the folds, and then what cross-fitting makes of each.

    Raises:
        MtkdError: as ``folds_of``, or a fold has too few training subjects to deal them out.
    """
    folds = folds_of(study)  # whose teachers take longest, so that machines share them evenly
    return folds + [part for fold in folds for part in crossfit(fold, study.splits)]


@dataclass(frozen=True)
class Job:
    """One teacher to train: of a fold and a seed, and of the study or of a variant with a name."""

    study: Study
    fold: Fold
    unit: Unit
    name: str

    @property
    def title(self) -> str:
        """What progress is told under."""
        return f"{self.name + ', ' if self.name else ''}{self.fold.title}, seed {self.study.seed}"


def jobs_of(study: Study, teacher: TeacherName, unit_of: Callable[[Study, Fold], Unit]) -> list[Job]:
    """All trainings of a teacher: those of the study's own on every fold and its parts, then of each variant, with each
    of the teachers' seeds.
    """
    return [
        Job(own, fold, unit_of(own, fold), name)
        for name in variants(study, teacher)
        for own in (variants(each, teacher)[name] for each in of_teachers(study))
        for fold in (folds_of(study) if name else with_parts(study))
    ]


def _refuse_one_class(labels: set[int], study: Study, no_trial: str, every_trial: str) -> None:
    known = labels - {UNLABELLED}
    if not known:
        raise MtkdError(f"{no_trial} has a rating of {' and '.join(study.labels)}")
    if len(known) == 1:
        limits = ", ".join(f"{rating}: {limit:g}" for rating, limit in study.labels.items())
        raise MtkdError(f"{every_trial} is {study.class_names[known.pop()]!r} with labels = {{{limits}}}")


def fold_data(study: Study, fold: Fold, modalities: list[Modality], windows: Windows) -> FoldData:
    """A fold's trials from the study's shards."""
    unit, shards = open_shards(study)
    return FoldData(unit, fold, make_cutter(study, shards, fold, modalities, windows))


def make_cutter(study: Study, shards: ShardSet, fold: Fold, modalities: list[Modality], windows: Windows) -> Cutter:
    """The cutter of a stage on one fold: channels as found over its training subjects.

    A channel that only others have would reach a model that was never trained on it, so it is left out.

    Raises:
        MtkdError: none of the training subjects has a signal of one of the modalities.
    """
    known = layouts([sample for sample in shards.index.samples if sample.subject in fold.train], modalities)
    if unknown := [modality for modality in modalities if modality not in known]:
        told = "a model that is to hear it would never have; take it from the modalities of the section that names it"
        whose = "training subject that keeps its labels" if fold.hidden else "training subject"
        raise MtkdError(f"{fold.title}: no {whose} has a signal of {' or '.join(unknown)}, so {told}")
    return Cutter(shards, known, windows, study.labels, frozenset(fold.hidden))


def common_inputs(study: Study, stage: str, fold: Fold, data: Unit) -> dict[str, Any]:
    """What every trained model depends on, whatever its kind."""
    return {
        "stage": stage,
        "version": VERSION,
        "seed": study.seed,
        "labels": study.labels,
        "windows": study.windows.model_dump(),
        "fold": fold.index,
        "split": fold.fingerprint,
        "subjects": {"train": fold.train, "val": fold.val},
        "data": data.manifest().digest,
    }


def teacher_objective(study: Study, data: FoldData, confidence: float) -> Supervised:
    """Class and confidence terms, classes weighted by their shares among the training windows.

    Raises:
        MtkdError: as ``FoldData.class_weights``.
    """
    return Supervised(data.class_weights(study), 1.0, confidence)


def seed_all(seed: int, fold: Fold) -> None:
    """Seed torch for one unit of work."""
    torch.manual_seed(seed * 1000 + fold.index)


def report_epoch(stage: str, title: str, epoch: int, means: dict[str, float]) -> None:
    """Say how an epoch went."""
    say(
        stage,
        f"{title}, epoch {epoch + 1}: loss {means['train/class']:.3f}, validation {means['val/class']:.3f}",
    )


def report_trained(stage: str, title: str, unit: Unit) -> None:
    """Say what a finished training came to."""
    measured = unit.manifest().measured
    say(
        stage,
        f"{title}: trained {measured['n_parameters']:,} parameters in {measured['seconds']:.0f} s, "
        f"kept epoch {measured['best_epoch']} of {measured['n_epochs']}, loss {measured['best']['val/class']:.3f}",
    )


def write_trained(
    folder: Path, measured: dict[str, Any], weights: dict[str, Tensor], history: History, engine: str, heard: Heard
) -> None:
    """Weights and history of a training, and its summary for the manifest; ``heard`` is what it read."""
    save_weights(weights, folder / WEIGHTS)
    write_json(folder / HISTORY, history.epochs)
    measured.update(
        engine=engine,
        seconds=history.seconds,
        n_parameters=history.n_parameters,
        best_epoch=history.best_epoch,
        n_epochs=len(history.epochs),
        best=history.best,
        subjects=sorted(heard.subjects),
        stimuli=sorted(heard.stimuli),
    )


def refuse_leak(unit: Unit, fold: Fold) -> None:
    """Make sure that what stands in a unit owes nothing to the fold's test subjects and test stimuli, nor to subjects
    that it left out.

    By the trials that its training was given or read, not by those that it was meant to be given.

    Raises:
        MtkdError: it does.
    """
    forbidden = {"a test subject of": fold.test, "whom cross-fitting left out of": fold.left_out}
    for kind, roles in {"subjects": forbidden, "stimuli": {"a test stimulus of": fold.stimuli}}.items():
        heard = unit.manifest().measured.get(kind)
        if not isinstance(heard, list):
            raise MtkdError(f"{unit.folder}: its manifest does not say which {kind} it was trained with; delete it")
        for role, names in roles.items():
            for name in names:
                if name in heard:
                    raise MtkdError(f"{unit.folder}: was trained with {name}, {role} {fold.title}")


@functools.cache
def quiet_libraries() -> None:
    """Keep the libraries' progress bars and deprecation notes out of the stages' own lines."""
    import warnings

    import transformers

    warnings.filterwarnings("ignore", category=FutureWarning, module="transformers|torch|peft|accelerate")

    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
