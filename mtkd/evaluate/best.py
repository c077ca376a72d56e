"""The best possible predictor of the simulated study: what it reaches on average, and what it says of these trials.

One study scatters around the expectation, and so do all models on it together: the same trials are easy or hard for
each. What the best predictor says of the very trials that the models were tested on takes that luck out.
"""

import re
from dataclasses import replace
from typing import Any

import numpy as np

from mtkd.config import Deap, Modality, Study
from mtkd.errors import MtkdError
from mtkd.evaluate.predictions import Predictions
from mtkd.signals.latent import BASELINE_S, DRIVES
from mtkd.signals.possible import best_answers, possible

WITH_EEG, NO_EEG = "possible, with EEG", "possible, no EEG"
_KEY = re.compile(r"s(\d+)_t(\d+)")


def is_known(study: Study) -> bool:
    """Whether the study is simulated, its classes are those of the model, and its trials are whole."""
    rated = set(study.labels) <= set(DRIVES) and set(study.labels.values()) == {5.0}
    return isinstance(study.data, Deap) and bool(study.data.simulated) and rated and study.data.baseline_s == BASELINE_S


def expected(study: Study) -> dict[str, dict[str, Any]]:
    """``{name: {"window" | "trial": {"balanced_accuracy", "auroc"}}}``, over all studies that could have been drawn."""
    assert study.data.simulated is not None
    windows = (study.windows.window_s, study.windows.hop_s)
    return {
        name: {level: vars(best) for level, best in found.items()}
        for name, used in _seen(study).items()
        for found in [possible(study.data.simulated, used, list(study.labels), *windows)]
    }


def best_predictions(study: Study, rows: Predictions) -> dict[str, Predictions]:
    """What the best possible predictors say where the models answered ``rows``.

    A trial's answer is that of its last window, which has seen all of it, so no other has a confidence to weigh.

    Raises:
        MtkdError: the trials are not those that the study simulates.
    """
    return {name: _answers(study, used, rows) for name, used in _seen(study).items()}


def _seen(study: Study) -> dict[str, list[Modality]]:
    every = list(study.signals.modalities)
    return {WITH_EEG: every, NO_EEG: [modality for modality in every if modality != "eeg"]}


def _answers(study: Study, modalities: list[Modality], rows: Predictions) -> Predictions:
    assert study.data.simulated is not None
    windows = (study.windows.window_s, study.windows.hop_s)
    probs, last = np.empty_like(rows.probs), np.zeros(len(rows), bool)
    for subject in np.unique(rows.subject):
        mine = np.flatnonzero(rows.subject == subject)
        numbers = [_numbers(str(trial)) for trial in rows.trial[mine]]
        trial = np.array([number for _, number in numbers]) - 1
        label, said = best_answers(study.data.simulated, modalities, list(study.labels), numbers[0][0], *windows)
        if not np.array_equal(label[trial], rows.label[mine]):
            raise MtkdError(f"evaluate: the classes of {subject} are not those that data.simulate draws")
        probs[mine] = said[trial, rows.window[mine]]
        last[mine] = rows.window[mine] == said.shape[1] - 1
    return replace(rows, probs=probs, confidence=last)


def _numbers(key: str) -> tuple[int, int]:
    """Of subject and trial, both from 1."""
    found = _KEY.fullmatch(key)
    if found is None:
        raise MtkdError(f"evaluate: trial {key} is none of the simulated study")
    return int(found[1]), int(found[2])
