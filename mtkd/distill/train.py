"""The stage ``distill``: the students of the study's table, each for every fold."""

import functools
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from mtkd.cache.build import listened_to, n_cached
from mtkd.cache.source import CachedSource, Source
from mtkd.config import Distill, LossName, Study
from mtkd.console import say
from mtkd.distill.centre import CentredSource
from mtkd.distill.losses import OF_TWO_CLASSES
from mtkd.distill.objective import PROJECTED, Distillation
from mtkd.distill.settings import NotSweptYet, base_settings, is_swept, settings_of, student_inputs
from mtkd.distill.student import Student
from mtkd.parts import WHOLE, Part
from mtkd.seeds import seeded
from mtkd.shards.labels import UNLABELLED
from mtkd.shards.read import Heard, ShardSet, watched
from mtkd.signals.splits import Fold
from mtkd.training.checkpoint import load_weights
from mtkd.training.fit import History, Watch, fit, trained_state
from mtkd.training.fold import (
    WEIGHTS,
    FoldData,
    fold_data,
    folds_of,
    make_cutter,
    report_trained,
    seed_all,
    write_trained,
)
from mtkd.training.objective import Supervised
from mtkd.training.pool import side_by_side
from mtkd.training.runtime import Runtime
from mtkd.workspace import Unit, make_unit

STAGE = "distill"
_UNEVEN = 1.5  # times a subject's even share of a class


def run(study: Study, part: Part = WHOLE) -> list[Unit]:
    """Train every student of ``evaluate.students`` on every fold, with every seed, where it does not stand yet; return
    their units, those of a part.

    Students with swept settings wait until the sweep stands.
    """
    wanted: dict[Path, tuple[Unit, Callable[[], None]]] = {}  # two students may share a unit
    for name in study.evaluate.students:
        try:
            chosen = [(fold, settings_of(study, name, fold)) for fold in folds_of(study)]
        except NotSweptYet:
            say(STAGE, f"{name}: waits for `mtkd sweep`")
            continue
        _tell_settings(study, name, {loss for _, settings in chosen if settings.teachers for loss in settings.losses})
        own = [(each, fold, settings) for each in seeded(study) for fold, settings in chosen]
        units = [unit_of(*trained) for trained in own]
        for unit, trained in zip(units, own, strict=True):
            wanted.setdefault(unit.folder, (unit, functools.partial(_make, name, *trained, unit)))
        if reused := sum(unit.stands() for unit in units):
            say(STAGE, f"{name}: reused {reused} of {len(units)} trainings")
    mine = part.pick(list(wanted.values()))
    side_by_side([make for unit, make in mine if not unit.stands()])
    return [unit for unit, _ in mine]


def _tell_settings(study: Study, name: str, losses: set[LossName]) -> None:
    """Say whether the file that ``distill.settings`` names serves a student, and which of its losses teach little."""
    base = base_settings(study, name)
    if base.settings not in (None, "sweep"):
        serves = "its settings are those of" if is_swept(base) else "keeps the study's settings; for other teachers is"
        say(STAGE, f"{name}: {serves} {base.settings}")
    if study.n_classes == 2:
        for told in (OF_TWO_CLASSES[loss] for loss in OF_TWO_CLASSES if loss in losses):
            say(STAGE, f"{name}: of two classes {told}")


def _make(name: str, study: Study, fold: Fold, settings: Distill, unit: Unit) -> None:
    if settings.centre == "subject" and settings.teachers:
        _tell_uneven(study, fold)
    with unit.build() as (folder, measured):
        model, history, heard = train(study, fold, settings)
        write_trained(folder, measured, trained_state(model), history, "torch", heard)
        measured.update(student=name, n_parameters=model.n_parameters)
    report_trained(STAGE, f"{name}, fold {fold.index}, seed {study.seed}", unit)


def unit_of(study: Study, fold: Fold, settings: Distill) -> Unit:
    """The unit of one student of one fold; it depends on the caches of its own teachers only."""
    return make_unit(study, STAGE, f"fold-{fold.index}", student_inputs(study, STAGE, fold, settings))


def train(
    study: Study, fold: Fold, settings: Distill, watch: Watch | None = None, source: Source | None = None
) -> tuple[Student, History, Heard]:
    """Train one student, of which the best epoch on the validation subjects is kept; with it, what it read.

    It hears its teachers from the cache, or from ``source``. Of subjects whose labels are hidden it hears nothing else.
    One without teachers does without them, but for the scales of signals: those need no label, so that what a distilled
    student is better by is not that it knows them better.
    """
    data = fold_data(study, fold, settings.modalities, study.windows)
    source = source or CachedSource(study, fold, list(settings.teachers), settings.crossfit)
    runtime = Runtime(settings.optim)
    seed_all(study.seed, fold)
    model = build_model(study, data.cutter.shards, fold, settings)
    learned = fold.training if settings.teachers else fold.train
    train_loader = data.loader(learned, settings.optim, runtime, study.seed, shuffle=True)
    val_loader = data.loader(fold.val, settings.optim, runtime, study.seed, shuffle=False)
    signals = data.loader(fold.training, settings.optim, runtime, study.seed, shuffle=False)
    with watched() as heard:
        model.fit_statistics(functools.partial(iter, signals), runtime.total)
        if settings.centre == "subject":
            source = CentredSource(source, train_loader, subjects_of(data))
        terms = objective(study, settings, data, source)
        history = fit(model, terms, train_loader, val_loader, settings.optim, runtime, watch)
    return model, history, heard | signals.heard | train_loader.heard | val_loader.heard


def _tell_uneven(study: Study, fold: Fold) -> None:
    """Say of whom centring takes away more than an offset: the mean of what is true of them is not undecided."""
    data = fold_data(study, fold, [], study.windows)
    n_windows: dict[str, Counter[int]] = {}
    for key in data.keys(fold.train):
        sample = data.cutter.shards.samples[key]
        n_windows.setdefault(sample.subject, Counter())[data.cutter.label(sample)] += data.cutter.n_steps(sample)
    uneven = []
    for subject, counts in n_windows.items():
        del counts[UNLABELLED]
        if counts and max(counts.values()) > _UNEVEN * counts.total() / study.n_classes:
            uneven.append(subject)
    if uneven:
        told = f"{', '.join(uneven)} had far more windows of one class, which `centre` takes for a teacher's offset"
        say(STAGE, f"fold {fold.index}: {told}")


def build_model(study: Study, shards: ShardSet, fold: Fold, settings: Distill) -> Student:
    """A student before any training."""
    layouts = make_cutter(study, shards, fold, settings.modalities, study.windows).layouts
    hinted = settings.teachers if PROJECTED & settings.losses.keys() else {}
    return Student(
        settings,
        layouts,
        study.windows.window_s,
        study.n_classes,
        {name: n_cached(study, name) for name in hinted},
        len(listened_to(study, fold, settings.crossfit)),
    )


def load_model(study: Study, shards: ShardSet, fold: Fold, settings: Distill, folder: Path) -> Student:
    """A trained student, in evaluation mode."""
    model = build_model(study, shards, fold, settings)
    load_weights(model, folder / WEIGHTS)
    return model.eval()


def objective(study: Study, settings: Distill, data: FoldData, source: Source) -> Distillation:
    """What a student of a fold is trained for."""
    labels = Supervised(data.class_weights(study), settings.ce, settings.confidence_weight)
    return Distillation(settings, labels, source, subjects_of(data))


def subjects_of(data: FoldData) -> dict[str, str]:
    """Whose each trial is, by its key."""
    return {sample.key: sample.subject for sample in data.cutter.shards.index.samples}
