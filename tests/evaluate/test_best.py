"""The best possible predictor on the trials of a simulated study, in the rows of the tables."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from mtkd.config import Study
from mtkd.errors import MtkdError
from mtkd.evaluate.best import NO_EEG, WITH_EEG, best_predictions, expected, is_known
from mtkd.evaluate.metrics import summary
from mtkd.evaluate.predictions import Predictions
from mtkd.signals.possible import best_answers
from mtkd.study import RESERVED, read_study


@pytest.fixture(scope="module")
def study(repo: Any) -> Study:
    return read_study(repo / "configs/study/simulated.yaml", ["data.simulate.n_trials=20"])


@pytest.fixture(scope="module")
def rows(study: Study) -> Predictions:
    """Identities and classes of all windows, as a model's answers have them, in an order of their own."""
    assert study.data.simulate
    subject, trial, window = (part.ravel() for part in np.indices((12, 20, 10)))
    labels = np.stack(
        [best_answers(study.data.simulate, ["eda"], list(study.labels), 1 + s, 6.0, 6.0)[0] for s in range(12)]
    )
    every = Predictions(
        subject=np.array([f"s{index + 1:02d}" for index in subject]),
        trial=np.array([f"s{s + 1:02d}_t{t + 1:02d}" for s, t in zip(subject, trial, strict=True)]),
        window=window,
        fold=subject % 3,
        label=labels[subject, trial],
        probs=np.full((len(subject), 4), 0.25),
        confidence=np.full(len(subject), 0.5),
        seed=np.zeros(len(subject)),
    )
    return every.rows(np.random.default_rng(0).permutation(len(every))[:2000])


def test_every_row_is_answered_from_its_own_trial_and_what_was_seen_of_it(study: Study, rows: Predictions) -> None:
    assert study.data.simulate
    found = best_predictions(study, rows)
    assert list(found) == [WITH_EEG, NO_EEG]
    used = {WITH_EEG: list(study.signals.modalities), NO_EEG: ["emg", "eda", "resp", "ppg"]}
    for name, answers in found.items():
        assert np.array_equal(answers.label, rows.label)
        for row in range(0, len(rows), 97):
            number = int(answers.subject[row][1:])
            _, said = best_answers(study.data.simulate, used[name], list(study.labels), number, 6.0, 6.0)
            trial = int(answers.trial[row].split("_t")[1])
            assert answers.probs[row] == pytest.approx(said[trial - 1, rows.window[row]])


def test_a_trials_answer_is_that_of_its_last_window(study: Study, rows: Predictions) -> None:
    answers = best_predictions(study, rows)[NO_EEG]
    last = answers.rows(answers.window == 9)
    trials = answers.per_trial()
    for row in range(len(last)):
        (same,) = np.flatnonzero((trials.subject == last.subject[row]) & (trials.trial == last.trial[row]))
        assert trials.probs[same] == pytest.approx(last.probs[row])


def test_eeg_helps_and_both_are_near_their_expectation(study: Study, rows: Predictions) -> None:
    average = expected(study)
    found = {name: summary(answers, 10)["pooled"] for name, answers in best_predictions(study, rows).items()}
    assert found[WITH_EEG]["balanced_accuracy"] > found[NO_EEG]["balanced_accuracy"] + 0.03
    for name, values in found.items():
        assert values["balanced_accuracy"] == pytest.approx(average[name]["window"]["balanced_accuracy"], abs=0.08)


def test_trials_of_another_study_are_refused(study: Study, rows: Predictions) -> None:
    with pytest.raises(MtkdError, match=r"the classes of s01 are not those that data\.simulate draws"):
        best_predictions(study, replace(rows, label=3 - rows.label))
    with pytest.raises(MtkdError, match="trial 01_rest is none of the simulated study"):
        best_predictions(study, replace(rows.rows([0]), trial=np.array(["01_rest"])))


def test_the_bound_is_known_for_the_simulations_own_classes_only(
    study: Study, repo: Any, make_study: Callable[..., Study]
) -> None:
    assert is_known(study)
    assert not is_known(study.model_copy(update={"labels": {"valence": 4.0, "arousal": 5.0}}))
    assert not is_known(study.model_copy(update={"labels": {"liking": 5.0}}))
    assert not is_known(make_study())  # its recordings come from a folder, which may hold anything
    assert not is_known(read_study(repo / "configs/study/eegmat.yaml"))


def test_no_student_can_take_their_names() -> None:
    assert {WITH_EEG, NO_EEG} <= RESERVED
