"""The content of ``results.json``: every number of a study's tables, made from the models' predictions."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from mtkd.errors import MtkdError
from mtkd.evaluate.chance import chance_level
from mtkd.evaluate.metrics import summary
from mtkd.evaluate.predictions import Predictions
from mtkd.evaluate.statistics import compare, gap_closed, holm, is_clear, share_of_possible

SCHEMA = Path(__file__).with_name("results.schema.json")
VERSION = 3
"""Of the schema."""
KINDS = ("trivial", "teacher", "beside", "student", "possible")
COMPARED = ("balanced_accuracy", "auroc", "auroc_among_all")
ALPHA = 0.05


def build_results(
    study: dict[str, Any],
    predictions: dict[str, Predictions],
    kinds: dict[str, str],
    expected: dict[str, Any],
    subsets: dict[str, Any],
    folds: list[dict[str, Any]],
    provenance: dict[str, Any],
) -> dict[str, Any]:
    """Everything that is reported, as plain JSON (what is not defined is null).

    Args:
        study: as the schema has it.
        predictions: model name: its predictions by window, in the tables' order. Unlabelled rows are left out.
        kinds: model name: ``trivial``, ``teacher``, ``beside`` for one that teaches nobody, ``student``, or
            ``possible`` for the best there can be, which is known where data are simulated.
        expected: of each model of the last kind, ``{name: {level: {"balanced_accuracy", "auroc"}}}``, what it reaches
            on average over studies, for the joint classes.
        subsets: of students that hear several modalities the ``subset_table``, for the joint classes.
        folds: as the schema has them.
        provenance: fingerprints, seeds, versions, commit, date; any JSON.

    Returns:
        What ``results.schema.json`` describes, key by key.

    Raises:
        MtkdError: a model has no kind, the baseline is no student, class names do not fit, a subject was predicted in a
            fold that does not test it or whose training or validation holds it, or models disagree about a label.
    """
    labelled = {name: rows.labelled() for name, rows in predictions.items()}
    _check_study(study, labelled, kinds)
    _check_folds(labelled, folds)
    models = [{"name": name, "kind": kinds[name]} for name in predictions]
    labels = _trial_labels(labelled)
    levels = _levels(study, labelled, models, list(labels.values()), expected)
    protocol = {
        "n_subjects": len({subject for subject, _ in labels}),
        "n_trials": len(labels),
        "n_folds": len(folds),
        "n_seeds": max(len(rows.seeds) for name, rows in labelled.items() if kinds[name] == "student"),
        "n_teacher_seeds": max([len(rows.seeds) for name, rows in labelled.items() if kinds[name] == "teacher"] or [0]),
        "alpha": ALPHA,
    }
    results = {"schema": VERSION, "study": study, "protocol": protocol, "models": models, "levels": levels}
    return _plain(results | {"subsets": subsets, "folds": folds, "provenance": provenance})


def _levels(
    study: dict[str, Any],
    predictions: dict[str, Predictions],
    models: list[dict[str, str]],
    trial_labels: list[int],
    expected: dict[str, Any],
) -> dict[str, dict[str, Any]]:
    levels: dict[str, dict[str, Any]] = {"window": {}, "trial": {}}
    for target, class_names, bit in _targets(study):
        windows = {name: rows if bit is None else rows.marginal(bit) for name, rows in predictions.items()}
        rows = {"window": windows, "trial": {name: answers.per_trial() for name, answers in windows.items()}}
        true = [label if bit is None else label >> bit & 1 for label in trial_labels]
        counts = [true.count(index) for index in range(len(class_names))]
        for level, blocks in levels.items():
            means = {name: best[level] for name, best in expected.items()} if bit is None else {}
            blocks[target] = _block(study, rows[level], models, class_names, counts, means)
    return levels


def _targets(study: dict[str, Any]) -> list[tuple[str, list[str], int | None]]:
    targets: list[tuple[str, list[str], int | None]] = [("joint", list(study["class_names"]), None)]
    if len(study["ratings"]) > 1:
        targets += [(name, [f"low {name}", f"high {name}"], bit) for bit, name in enumerate(study["ratings"])]
    return targets


def _check_study(study: dict[str, Any], predictions: dict[str, Predictions], kinds: dict[str, str]) -> None:
    for key in ("name", "class_names", "ratings", "n_bins", "baseline"):
        if key not in study:
            raise MtkdError(f"results: the study has no {key}")
    if "joint" in study["ratings"]:
        raise MtkdError("results: no rating can be named joint, the name of all classes together")
    for name, rows in predictions.items():
        if kinds.get(name) not in KINDS:
            raise MtkdError(f"results: model {name!r} has kind {kinds.get(name)!r}, expected one of {', '.join(KINDS)}")
        if rows.n_classes != len(study["class_names"]):
            raise MtkdError(f"results: {name} tells {rows.n_classes} classes, the study {len(study['class_names'])}")
        if not len(rows):
            raise MtkdError(f"results: {name} has no row with a label")
    if kinds.get(study["baseline"]) != "student" or study["baseline"] not in predictions:
        raise MtkdError(f"results: the baseline {study['baseline']!r} is no student with predictions")


def _check_folds(predictions: dict[str, Predictions], folds: list[dict[str, Any]]) -> None:
    by_fold = {fold["fold"]: fold for fold in folds}
    for name, rows in predictions.items():
        for number, subject in sorted({(int(f), str(s)) for f, s in zip(rows.fold, rows.subject, strict=True)}):
            fold = by_fold.get(number)
            if fold is None or subject not in fold["test"]:
                raise MtkdError(f"results: {name} predicts subject {subject} in fold {number}, which does not test it")
            if any(subject in fold.get(side, []) for side in ("train", "val", "hidden")):
                raise MtkdError(f"results: fold {number} tests subject {subject}, on which it was trained or chosen")


def _trial_labels(predictions: dict[str, Predictions]) -> dict[tuple[str, str], int]:
    """The label of each (subject, trial) that any model answered."""
    labels: dict[tuple[str, str], int] = {}
    for rows in predictions.values():
        for subject, trial, label in zip(rows.subject, rows.trial, rows.label, strict=True):
            known = labels.setdefault((str(subject), str(trial)), int(label))
            if known != label:
                raise MtkdError(f"results: models disagree whether trial {trial} of {subject} is {known} or {label}")
    return labels


def _block(
    study: dict[str, Any],
    rows: dict[str, Predictions],
    models: list[dict[str, str]],
    class_names: list[str],
    n_trials_per_class: list[int],
    expected: dict[str, Any],
) -> dict[str, Any]:
    chance = {"balanced_accuracy": _chance(next(iter(rows.values()))), "auroc": 0.5, "auroc_among_all": 0.5}
    table: dict[str, Any] = {name: summary(answers, study["n_bins"]) for name, answers in rows.items()}
    best = {model["name"]: table[model["name"]]["mean"] for model in models if model["kind"] == "possible"}
    for entry in table.values():
        entry["share_of_possible"] = _shares(entry["mean"], chance, best)
    alone = study.get("alone", [])
    limits = {"limit": chance_level(n_trials_per_class, ALPHA), "n_trials_per_class": n_trials_per_class}
    return {
        "class_names": class_names,
        "chance": chance | limits,
        "expected": expected,
        "models": table,
        "comparisons": _comparisons(table, _baselines(study, models)),
        "beside": _comparisons(table, study.get("beside", {})),
        **_gaps(table, models, {name: own for name, own in _baselines(study, models).items() if name not in alone}),
    }


def _chance(rows: Predictions) -> float:
    """What a constant answer is expected to reach: one over a subject's number of classes, mean over subjects.

    A subject who lacks a class is scored over the others. Subjects with one class have no balanced accuracy.
    """
    present = [len(np.unique(rows.label[rows.subject == subject])) for subject in np.unique(rows.subject)]
    return float(np.mean([1 / n for n in present if n > 1] or [1 / rows.n_classes]))


def _shares(mean: dict[str, float], chance: dict[str, float], best: dict[str, dict[str, float]]) -> dict[str, Any]:
    return {
        name: {metric: share_of_possible(mean[metric], chance[metric], limit[metric]) for metric in COMPARED}
        for name, limit in best.items()
    }


def _baselines(study: dict[str, Any], models: list[dict[str, str]]) -> dict[str, str]:
    """Each student that is compared with another one, and that other one."""
    students = [model["name"] for model in models if model["kind"] == "student" and model["name"] != study["baseline"]]
    return {name: study.get("baselines", {}).get(name, study["baseline"]) for name in students}


def _comparisons(table: dict[str, Any], baselines: dict[str, str]) -> list[dict[str, Any]]:
    tests = {
        (name, metric): compare(_column(table[name], metric), _column(table[baseline], metric))
        for name, baseline in baselines.items()
        for metric in COMPARED
    }
    corrected = holm({key: test["p"] if test["n"] else float("nan") for key, test in tests.items()})
    return [
        {"model": name, "baseline": baselines[name], "metric": metric, "p_holm": corrected[name, metric], **test}
        for (name, metric), test in tests.items()
    ]


def _column(entry: dict[str, Any], metric: str) -> dict[str, float]:
    return {subject: values[metric] for subject, values in entry["subjects"].items()}


def _gaps(table: dict[str, Any], models: list[dict[str, str]], baselines: dict[str, str]) -> dict[str, Any]:
    """How much of its teacher's lead a student gains, where that lead is clear: else the share is noise over noise."""
    mean = {name: entry["mean"] for name, entry in table.items()}
    teachers = [model["name"] for model in models if model["kind"] == "teacher"]
    best: dict[str, str] = {}
    for metric in COMPARED:
        if known := [name for name in teachers if not math.isnan(mean[name][metric])]:
            best[metric] = max(known, key=lambda name, by=metric: mean[name][by])  # type: ignore[misc]
    gaps = {
        name: {
            metric: gap_closed(mean[name][metric], mean[baseline][metric], mean[teacher][metric])
            if is_clear(_column(table[teacher], metric), _column(table[baseline], metric))
            else None
            for metric, teacher in best.items()
        }
        for name, baseline in baselines.items()
    }
    return {"best_teacher": best, "gap_closed": gaps}


def _plain(value: Any) -> Any:
    """JSON's types only: numpy scalars become Python's, tuples lists, keys strings, nan and infinity null."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if hasattr(value, "tolist"):
        return _plain(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if value is None or isinstance(value, str | bool | int | float):
        return value
    return str(value)
