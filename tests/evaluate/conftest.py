"""A realistic synthetic study: subjects differ, windows of a trial share noise, models differ in what they see."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from mtkd.evaluate.best import NO_EEG, WITH_EEG
from mtkd.evaluate.chance import class_share, majority
from mtkd.evaluate.predictions import Predictions
from mtkd.evaluate.results import build_results

N_FOLDS = 4


def answers(strength: float, seed: int, n_subjects: int, n_trials: int, n_classes: int, n_windows: int) -> Predictions:
    """Predictions whose logits hold ``strength`` times the label beside noise of the trial and of the window."""
    truth, noise = np.random.default_rng(7), np.random.default_rng(seed)
    ability = truth.normal(1, 0.35, n_subjects)
    label = truth.integers(0, n_classes, (n_subjects, n_trials, 1)) + np.zeros(n_windows, int)
    trial_noise = truth.normal(0, 1, (n_subjects, n_trials, 1, n_classes))
    evidence = np.eye(n_classes)[label] * strength * ability[:, None, None, None] + trial_noise
    gain = 0.5 + 0.5 * np.arange(1, n_windows + 1)[:, None] / n_windows
    logits = (evidence + noise.normal(0, 0.8, evidence.shape)) * gain
    probs = np.exp(1.3 * logits)
    probs /= probs.sum(-1, keepdims=True)
    confidence = np.clip(probs.max(-1) + noise.normal(0, 0.05, label.shape), 0.02, 0.98)
    subject, trial, window = np.indices(label.shape)
    return Predictions(
        subject=np.array([f"s{index + 1:02d}" for index in subject.ravel()]),
        trial=np.array([f"t{index + 1:02d}" for index in trial.ravel()]),
        window=window.ravel(),
        fold=subject.ravel() % N_FOLDS,
        label=label.ravel(),
        probs=probs.reshape(-1, n_classes),
        confidence=confidence.ravel(),
        seed=np.zeros(label.size),
    )


@dataclass
class Example:
    """A study's predictions and the rest of ``build_results``'s arguments."""

    predictions: dict[str, Predictions]
    kinds: dict[str, str]
    study: dict[str, Any]
    folds: list[dict[str, Any]]
    expected: dict[str, Any]
    importance: dict[str, Any]

    def results(self, **changes: Any) -> dict[str, Any]:
        given = {
            "study": self.study,
            "predictions": self.predictions,
            "kinds": self.kinds,
            "expected": self.expected,
            "subsets": {},
            "folds": self.folds,
            "provenance": {
                "commit": "0123abc",
                "date": "2026-01-02",
                "versions": {"mtkd": "0.1.0", "numpy": np.__version__},
                "fingerprints": {"shards": "aa11", "teachers": {"temporal": ["bb22", "cc33"]}},
            },
        }
        return build_results(**(given | changes))


def example(ratings: list[str], n_subjects: int = 12, n_trials: int = 24, n_windows: int = 8) -> Example:
    n_classes = 2 ** len(ratings)
    strengths = {"temporal teacher": 1.3, "spatial teacher": 1.1, "labels alone": 0.5, "distilled": 0.75, "swept": 0.8}
    best = {WITH_EEG: 1.9, NO_EEG: 1.2}
    size = (n_subjects, n_trials, n_classes, n_windows)
    models = {name: answers(value, seed, *size) for seed, (name, value) in enumerate((strengths | best).items())}
    rows = models["distilled"]
    train = {fold: rows.rows((rows.fold != fold) & (rows.window == 0)).label for fold in range(N_FOLDS)}
    trivial = {"majority": majority(train, rows), "class share": class_share(train, rows)}
    kinds = {name: "teacher" if "teacher" in name else "student" for name in strengths} | dict.fromkeys(
        best, "possible"
    )
    names = ["low " + ratings[0], "high " + ratings[0]]
    if len(ratings) == 2:
        names = [f"{half}, {word} {ratings[1]}" for word in ("low", "high") for half in names]
    return Example(
        predictions=trivial | models,
        kinds=dict.fromkeys(trivial, "trivial") | kinds,
        study={
            "name": "synthetic",
            "class_names": names,
            "ratings": ratings,
            "n_bins": 10,
            "baseline": "labels alone",
            "hop_s": 4.0,
            "transductive": False,
        },
        folds=[_fold(rows, fold) for fold in range(N_FOLDS)],
        expected={WITH_EEG: _level(0.72, 0.86, 0.86, 0.95), NO_EEG: _level(0.62, 0.79, 0.75, 0.89)},
        importance=_importance(),
    )


def _level(accuracy: float, auroc: float, accuracy_by_trial: float, auroc_by_trial: float) -> dict[str, Any]:
    return {
        "window": {"balanced_accuracy": accuracy, "auroc": auroc},
        "trial": {"balanced_accuracy": accuracy_by_trial, "auroc": auroc_by_trial},
    }


def _fold(rows: Predictions, fold: int) -> dict[str, Any]:
    sides = {"val": (fold + 1) % N_FOLDS, "test": fold}
    subjects = {side: sorted(set(rows.subject[rows.fold == number])) for side, number in sides.items()}
    held = set(subjects["val"]) | set(subjects["test"])
    subjects["train"] = sorted(set(rows.subject) - held)
    shares = {}
    for side, names in subjects.items():
        labels = rows.label[np.isin(rows.subject, names) & (rows.window == 0)]
        shares[side] = (np.bincount(labels, minlength=rows.n_classes) / len(labels)).tolist()
    named = {side: list(map(str, names)) for side, names in subjects.items()}
    return {"fold": fold, "hidden": [], "stimuli": [], "class_shares": shares} | named


def _importance() -> dict[str, Any]:
    names = ["Fp1", "Fp2", "F3", "F4", "F7", "F8", "T3", "T4", "C3", "C4"]
    names += ["T5", "T6", "P3", "P4", "O1", "O2", "Fz", "Cz", "Pz"]
    random = np.random.default_rng(3)
    weights = random.gamma(0.6, 1, (len(names), len(names)))
    values = random.gamma(2, 1, len(names))
    return {
        "ch_names": names,
        "values": (values / values.sum()).tolist(),
        "learned": ((weights + weights.T) / 2).tolist(),
        "title": "mean gradient x input (share of all electrodes)",
    }


@pytest.fixture(scope="session")
def make_example() -> Callable[..., Example]:
    return example


@pytest.fixture(scope="session")
def quadrants() -> Example:
    return example(["valence", "arousal"], n_subjects=7, n_trials=20, n_windows=5)


@pytest.fixture(scope="session")
def binary() -> Example:
    return example(["workload"], n_subjects=8, n_trials=16, n_windows=5)


@pytest.fixture(scope="session")
def quadrant_results(quadrants: Example) -> dict[str, Any]:
    return quadrants.results()


@pytest.fixture(scope="session")
def binary_results(binary: Example) -> dict[str, Any]:
    return binary.results()
