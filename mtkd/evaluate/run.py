"""The stage ``evaluate``: every model on the test subjects of its fold, as ``results.json`` and ``report.html``."""

import datetime
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np

from mtkd.cache.build import teacher_unit
from mtkd.cache.build import unit_of as cache_unit
from mtkd.config import Distill, Study, TeacherName
from mtkd.console import console, say
from mtkd.distill.settings import base_settings, is_swept, settings_of
from mtkd.distill.train import unit_of as student_unit
from mtkd.evaluate.answers import student_answers, teacher_answers
from mtkd.evaluate.best import best_predictions, expected, is_known
from mtkd.evaluate.chance import class_share, majority
from mtkd.evaluate.importance import electrode_importance
from mtkd.evaluate.predictions import Predictions
from mtkd.evaluate.report import console_table, write_report
from mtkd.evaluate.results import SCHEMA, build_results
from mtkd.evaluate.subsets import subset_answers, subset_table
from mtkd.files import read_json, slug, write_json
from mtkd.seeds import of_teachers, seeded
from mtkd.shards.labels import UNLABELLED
from mtkd.signals.splits import Fold
from mtkd.study import variants
from mtkd.training.fold import fold_data, folds_of, quiet_libraries
from mtkd.workspace import Unit, make_unit, versions

STAGE = "evaluate"
VERSION = 16
RESULTS, REPORT = "results.json", "report.html"
TEACHERS: dict[str, TeacherName] = {"temporal teacher": "temporal", "spatial teacher": "spatial"}


def run(study: Study) -> Unit:
    """Score all models unless that stands; print the table and name the report."""
    folds = folds_of(study)
    unit = unit_of(study, folds)
    if unit.stands():
        say(STAGE, f"reused {unit.folder}")
    else:
        quiet_libraries()
        with unit.build() as (folder, measured):
            _score(study, folds, unit, folder)
            measured["date"] = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    console.print(console_table(read_json(unit.folder / RESULTS)))
    say(STAGE, f"results {unit.folder / RESULTS}")
    say(STAGE, f"report  {unit.folder / REPORT}")
    return unit


def unit_of(study: Study, folds: list[Fold]) -> Unit:
    """The unit of the evaluation; its inputs hold the digests of all models.

    Raises:
        MtkdError: a model does not stand yet.
    """
    inputs = {
        "stage": STAGE,
        "version": VERSION,
        "name": study.name,
        "classes": study.class_names,
        "settings": study.evaluate.model_dump(),
        "simulate": study.data.simulated.model_dump() if study.data.simulated else None,
        "modalities": list(study.signals.modalities),
        "told": _told(study),
        "baselines": _baselines(study),
        "models": _digests(study, folds),
    }
    return make_unit(study, STAGE, study.name, inputs)


def _digests(study: Study, folds: list[Fold]) -> dict[str, list[str]]:
    digests = {}
    for label, teacher in TEACHERS.items():
        taught = [(own, fold, teacher) for own in of_teachers(study) for fold in folds]
        digests[label] = [teacher_unit(*one).manifest().digest for one in taught]
        digests[f"{label}, cache"] = [cache_unit(*one).manifest().digest for one in taught]
    for label, (teacher, variant) in beside(study).items():
        taught = [(own, fold, teacher) for own in of_teachers(variant) for fold in folds]
        digests[label] = [cache_unit(*one).manifest().digest for one in taught]
    for name in study.evaluate.students:
        units = [student_unit(*one) for one in _trained(study, folds, name)]
        digests[name] = [unit.manifest().digest for unit in units]
    return digests


def beside(study: Study) -> dict[str, tuple[TeacherName, Study]]:
    """The teachers that teach nobody, by the names of their rows."""
    return {
        f"{label}, {name}": (teacher, own)
        for label, teacher in TEACHERS.items()
        for name, own in variants(study, teacher).items()
        if name
    }


def _score(study: Study, folds: list[Fold], unit: Unit, folder: Path) -> None:
    say(STAGE, f"{len(folds)} folds, {len(study.evaluate.students)} students")
    if study.data.simulated is not None and not is_known(study):
        say(STAGE, "what is possible is known for thresholds of 5 and whole trials only, so no row tells it")
    predictions, kinds = _predictions(study, folds)
    facts = {
        "name": study.name,
        "class_names": study.class_names,
        "n_bins": study.evaluate.n_bins,
        "baseline": study.evaluate.baseline,
        "baselines": _baselines(study),
        "alone": _alone(study),
        "beside": {
            name: label for label in TEACHERS for name, own in beside(study).items() if TEACHERS[label] == own[0]
        },
        "unheard": {
            name: int((rows.of_seed(rows.seeds[0]).confidence == 0).sum())
            for name, rows in predictions.items()
            if kinds[name] != "possible"
        },
        "untested": _untested(folds, predictions[study.evaluate.baseline]),
        **_told(study),
    }
    say(STAGE, f"measures of {len(predictions)} models, and tests over subjects")
    results = build_results(
        facts,
        predictions,
        kinds,
        expected(study) if is_known(study) else {},
        _subsets(study, folds),
        [_fold_facts(study, fold) for fold in folds],
        _provenance(study, unit),
    )
    write_json(folder / RESULTS, results)
    shutil.copyfile(SCHEMA, folder / SCHEMA.name)
    say(STAGE, "what the spatial teacher looks at, and the report")
    write_report(results, predictions, electrode_importance(study, folds), folder)
    for name, rows in predictions.items():
        np.savez_compressed(folder / f"predictions-{slug(name)}.npz", **vars(rows))


def _told(study: Study) -> dict[str, Any]:
    """What the study file says that results tell of."""
    return {
        "ratings": list(study.labels),
        "hop_s": study.windows.hop_s,
        "transductive": study.signals.transductive,
        "crossfit": study.splits.crossfit,
        "n_labelled": study.splits.n_labelled,
        "disjoint_stimuli": study.splits.disjoint_stimuli,
        "centred": [name for name in study.evaluate.students if _is_centred(base_settings(study, name))],
        "kept_last": _kept_last(study),
        **_heard(study),
    }


def _untested(folds: list[Fold], rows: Predictions) -> list[str]:
    """Test subjects that no figure is of: without a rated trial as long as a window."""
    rated = set(rows.labelled().subject.tolist())
    return sorted(name for fold in folds for name in fold.test if name not in rated)


def _alone(study: Study) -> list[str]:
    """The students from labels alone."""
    return [name for name in study.evaluate.students if not base_settings(study, name).teachers]


def _is_centred(settings: Distill) -> bool:
    return bool(settings.teachers) and settings.centre is not None


def _kept_last(study: Study) -> list[str]:
    """The models whose epoch no validation subject chose."""
    settings = {label: getattr(study, name).optim for label, name in TEACHERS.items()}
    settings |= {label: getattr(own, name).optim for label, (name, own) in beside(study).items()}
    settings |= {name: base_settings(study, name).optim for name in study.evaluate.students}
    return [name for name, optim in settings.items() if optim.keep == "last"]


def _heard(study: Study) -> dict[str, list[str]]:
    """The students that hear of training subjects what teachers say that were trained on them, and that do not."""
    found: dict[str, list[str]] = {"plain": [], "crossed": []}
    for name in study.evaluate.students:
        settings = base_settings(study, name)
        if settings.teachers:
            found["crossed" if study.splits.crossfit > 1 and settings.crossfit else "plain"].append(name)
    return found


def _baselines(study: Study) -> dict[str, str]:
    """Whom each swept student is compared with: one from labels alone that was swept too."""
    swept = [name for name in study.evaluate.students if is_swept(base_settings(study, name))]
    alone = [name for name in swept if name in _alone(study)]
    return {name: alone[0] for name in swept if alone and name not in alone}


def _predictions(study: Study, folds: list[Fold]) -> tuple[dict[str, Predictions], dict[str, str]]:
    """Answers by model and the kind of each, in the order of the tables."""
    taught = {label: _of_teacher(study, folds, teacher) for label, teacher in TEACHERS.items()}
    untaught = {label: _of_teacher(own, folds, teacher) for label, (teacher, own) in beside(study).items()}
    students = {
        name: Predictions.concatenate(
            [student_answers(*one, student_unit(*one)) for one in _trained(study, folds, name)]
        )
        for name in study.evaluate.students
    }
    rows = next(iter(students.values())).of_seed(study.seed).labelled()
    labels = {fold.index: np.array(_labels(study, fold, fold.train)) for fold in folds}
    trivial = {"majority": majority(labels, rows), "class share": class_share(labels, rows)}
    best = best_predictions(study, rows) if is_known(study) else {}
    kinds = dict.fromkeys(trivial, "trivial") | dict.fromkeys(taught, "teacher") | dict.fromkeys(untaught, "beside")
    kinds |= dict.fromkeys(students, "student") | dict.fromkeys(best, "possible")
    return trivial | taught | untaught | students | best, kinds


def _of_teacher(study: Study, folds: list[Fold], teacher: TeacherName) -> Predictions:
    return Predictions.concatenate(
        [teacher_answers(own, fold, teacher) for own in of_teachers(study) for fold in folds]
    )


def _subsets(study: Study, folds: list[Fold]) -> dict[str, Any]:
    """The tables of the baseline and of the first student with teachers, where they hear several modalities."""
    taught = [name for name in study.evaluate.students if name not in _alone(study)]
    found = {}
    for name in [study.evaluate.baseline, *taught[:1]]:
        if len(base_settings(study, name).modalities) > 1:
            parts = [subset_answers(*one, student_unit(*one)) for one in _trained(study, folds, name)]
            whole = {subset: Predictions.concatenate([part[subset] for part in parts]) for subset in parts[0]}
            found[name] = subset_table(whole, study.evaluate.n_bins)
    return found


def _trained(study: Study, folds: list[Fold], name: str) -> list[tuple[Study, Fold, Distill]]:
    """A student's trainings, with each seed on every fold; its settings are swept with the first."""
    chosen = [(fold, settings_of(study, name, fold)) for fold in folds]
    return [(own, fold, settings) for own in seeded(study) for fold, settings in chosen]


def _labels(study: Study, fold: Fold, subjects: list[str]) -> list[int]:
    data = fold_data(study, fold, [], study.windows)
    return [label for label in data.labels(subjects) if label != UNLABELLED]


def _fold_facts(study: Study, fold: Fold) -> dict[str, Any]:
    sides = {"train": fold.train, "val": fold.val, "test": fold.test}
    shares = {
        side: (np.bincount(labels, minlength=study.n_classes) / max(1, len(labels))).tolist()
        for side, labels in ((side, _labels(study, fold, subjects)) for side, subjects in sides.items())
    }
    told = {"hidden": fold.hidden, "stimuli": fold.stimuli, "class_shares": shares}
    return {"fold": fold.index, **sides, **told}


def _commit() -> str | None:
    """The checkout this code stands in, "-dirty" where it has changed since; None outside one or without git."""
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--abbrev=40", "--dirty"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def _provenance(study: Study, unit: Unit) -> dict[str, Any]:
    return {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "commit": _commit(),
        "seeds": [own.seed for own in seeded(study)],
        "teacher_seeds": [own.seed for own in of_teachers(study)],
        "fingerprint": unit.fingerprint,
        "models": unit.inputs["models"],
        "versions": versions(),
        "study": study.model_dump(),
    }
