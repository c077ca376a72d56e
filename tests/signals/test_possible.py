"""The bound of the simulated study against closed forms, SciPy and the model's own draws."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import multivariate_normal
from sklearn.metrics import roc_auc_score

from mtkd.config import Simulation
from mtkd.errors import MtkdError
from mtkd.signals import possible as module
from mtkd.signals.latent import DRIVES, N_SEGMENTS, PARAMETERS, draw_trials
from mtkd.signals.possible import best_answers, class_probabilities, possible

PERIPHERALS = ["eog", "emg", "eda", "resp", "ppg", "temp"]
ALL = ["eeg", *PERIPHERALS]
QMC_ERROR = 3e-4
AREA_ERROR = 1e-3  # between areas from the same draws

noises = st.floats(0.05, 2.0)
simulations = st.builds(
    lambda subject, trial, segment, label: Simulation(
        subject_sd=subject, trial_sd=trial, segment_sd=segment, label_noise=label
    ),
    noises,
    noises,
    noises,
    st.floats(0.0, 0.9),
)
modalities = st.lists(st.sampled_from(ALL), unique=True)


def _correlation(simulation: Simulation, names: list[str], drive: str, n_seen: int) -> float:
    """Of the rating's drive with its best linear estimate, from the whole covariance of theta."""
    gains = np.array([[p.valence, p.arousal] for p in PARAMETERS if p.modality in names])
    noise = simulation.subject_sd**2 + simulation.trial_sd**2 + simulation.segment_sd**2 / n_seen
    covariance = gains @ gains.T + noise * np.eye(len(gains))
    shared = np.sqrt(1 - simulation.label_noise**2) * gains[:, DRIVES.index(drive)]
    return float(np.sqrt(shared @ np.linalg.solve(covariance, shared)))


@pytest.mark.parametrize("names", [ALL, PERIPHERALS, ["ppg"], ["eda", "temp"]])
@pytest.mark.parametrize("drive", DRIVES)
def test_one_rating_has_a_closed_form(names, drive):
    simulation = Simulation(subject_sd=0.4, trial_sd=0.8, segment_sd=1.5, label_noise=0.2)
    found = possible(simulation, names, [drive], 6.0, 6.0)
    accuracy = [0.5 + np.arcsin(_correlation(simulation, names, drive, k)) / np.pi for k in range(1, N_SEGMENTS + 1)]
    assert found["trial"].balanced_accuracy == pytest.approx(accuracy[-1], abs=QMC_ERROR)
    assert found["window"].balanced_accuracy == pytest.approx(np.mean(accuracy), abs=QMC_ERROR)


def test_windows_that_end_inside_a_segment_are_credited_all_of_it():
    simulation = Simulation()
    seen = np.ceil(np.arange(4, 61, 4) / 6).astype(int)
    accuracy = [0.5 + np.arcsin(_correlation(simulation, ALL, "arousal", k)) / np.pi for k in seen]
    found = possible(simulation, ALL, ["arousal"], 4.0, 4.0)["window"].balanced_accuracy
    assert found == pytest.approx(np.mean(accuracy), abs=QMC_ERROR)


@settings(max_examples=60, deadline=None)
@given(st.floats(-6, 6), st.floats(-6, 6), st.floats(-0.999, 0.999), st.floats(0.1, 3), st.floats(0.1, 3))
def test_orthants_agree_with_scipy(first, second, rho, sd_first, sd_second):
    covariance = np.array([[sd_first**2, rho * sd_first * sd_second], [rho * sd_first * sd_second, sd_second**2]])
    found = module._orthants(np.array([[first, second]]), covariance)[0]
    for index in range(4):
        signs = np.array([1 if index >> bit & 1 else -1 for bit in range(2)])
        turned = covariance * np.outer(signs, signs)
        assert found[index] == pytest.approx(multivariate_normal.cdf(signs * [first, second], cov=turned), abs=1e-6)
    assert found.sum() == pytest.approx(1)


@settings(max_examples=8, deadline=None)
@given(simulations, modalities, modalities, st.permutations(DRIVES), st.integers(1, 2))
def test_more_modalities_never_lower_it_and_a_trial_beats_its_windows(simulation, some, more, ratings, n_ratings):
    ratings = ratings[:n_ratings]
    small, large = (possible(simulation, names, ratings, 6.0, 6.0) for names in (some, [*some, *more]))
    for key in ("window", "trial"):
        assert small[key].balanced_accuracy <= large[key].balanced_accuracy + QMC_ERROR
        assert small[key].auroc <= large[key].auroc + AREA_ERROR
        assert 2.0**-n_ratings - 1e-9 <= small[key].balanced_accuracy <= 1
        assert 0.5 - AREA_ERROR <= small[key].auroc <= 1
    assert large["window"].balanced_accuracy <= large["trial"].balanced_accuracy + QMC_ERROR
    assert large["window"].auroc <= large["trial"].auroc + AREA_ERROR


@settings(max_examples=5, deadline=None)
@given(simulations, st.sampled_from(["subject_sd", "trial_sd", "segment_sd", "label_noise"]), st.floats(0.01, 0.09))
def test_more_noise_never_raises_it(simulation, noise, step):
    noisier = simulation.model_copy(update={noise: getattr(simulation, noise) + step})
    for names in (ALL, PERIPHERALS):
        quiet, loud = (possible(each, names, ["arousal"], 6.0, 6.0)["window"] for each in (simulation, noisier))
        assert loud.balanced_accuracy <= quiet.balanced_accuracy + QMC_ERROR
        assert loud.auroc <= quiet.auroc + AREA_ERROR


def test_a_subject_has_one_offset_in_all_its_windows():
    """It costs nothing within a subject, however large it is beside the rest."""
    areas = [
        possible(Simulation(subject_sd=sd, trial_sd=0.75, label_noise=0.0), ALL, ["arousal"], 6.0, 6.0)["window"].auroc
        for sd in (1.5, 1.75, 1.8, 1.83, 1.85, 2.0)
    ]
    assert max(areas) - min(areas) < 2 * AREA_ERROR


def test_limits():
    silent = Simulation(subject_sd=0.0, trial_sd=0.0, segment_sd=0.0, label_noise=0.0)
    perfect = possible(silent, ALL, DRIVES, 6.0, 6.0)["window"]
    assert perfect.balanced_accuracy == pytest.approx(1, abs=1e-3)
    assert perfect.auroc == pytest.approx(1, abs=1e-6)
    noisy_labels = silent.model_copy(update={"label_noise": 0.5})
    limit = 0.5 + np.arcsin(np.sqrt(0.75)) / np.pi
    assert possible(noisy_labels, ALL, DRIVES, 6.0, 6.0)["trial"].balanced_accuracy == pytest.approx(limit**2, abs=1e-3)
    nothing = possible(Simulation(), [], DRIVES, 6.0, 6.0)["trial"]
    assert nothing.balanced_accuracy == pytest.approx(0.25)
    assert nothing.auroc == pytest.approx(0.5)
    # what nothing simulates helps nobody
    assert possible(Simulation(), ["ecg"], DRIVES, 6.0, 6.0)["trial"] == nothing


def test_the_default_study_is_hard_but_not_hopeless_and_eeg_carries_most():
    every, eeg, rest = (possible(Simulation(), names, DRIVES, 6.0, 6.0) for names in (ALL, ["eeg"], PERIPHERALS))
    assert 0.62 < every["trial"].balanced_accuracy < 0.70
    assert 0.45 < rest["trial"].balanced_accuracy < 0.52
    assert rest["trial"].balanced_accuracy + 0.1 < eeg["trial"].balanced_accuracy


@pytest.mark.parametrize("names", [ALL, PERIPHERALS])
@pytest.mark.parametrize("n_seen", [1, N_SEGMENTS])
def test_bayes_rule_on_drawn_theta_reaches_it(names, n_seen):
    # a study of its own for each subject, since the stimuli of one study are shared
    trials = [draw_trials(Simulation(seed=seed), 1) for seed in range(400)]
    high = np.concatenate([each.ratings[:, :2] for each in trials]) > 5
    true = high @ [1, 2]
    probabilities = class_probabilities(
        Simulation(), names, DRIVES, np.concatenate([each.theta for each in trials])[:, :, :n_seen]
    )
    hits = (probabilities.argmax(axis=1) == true).reshape(len(trials), -1).mean(axis=1)
    error = 4 * hits.std() / np.sqrt(len(hits))
    # one window of n_seen segments in which the whole trial before its end is seen
    expected = possible(Simulation(), names, DRIVES, 6.0 * n_seen, 60.0)["window"]
    assert error < 0.02
    assert hits.mean() == pytest.approx(expected.balanced_accuracy, abs=error)
    # within a subject, as the tables give it: each of these studies has one, of few trials, with all classes or not
    by_subject = zip(probabilities.reshape(len(trials), -1, 4), true.reshape(len(trials), -1), strict=True)
    auroc = [
        [
            roc_auc_score(label == index, score[:, index])
            for index in range(4)
            if 0 < (label == index).sum() < len(label)
        ]
        for score, label in by_subject
    ]
    assert np.mean(np.concatenate(auroc)) == pytest.approx(expected.auroc, abs=0.012)
    # calibrated: the probabilities given are the rates found
    assert probabilities.mean(axis=0) == pytest.approx(np.bincount(true) / len(true), abs=0.02)


def test_the_best_answers_are_bayes_rule_on_what_each_window_has_seen():
    trials = draw_trials(Simulation(n_trials=7), 3)
    label, said = best_answers(Simulation(n_trials=7), PERIPHERALS, DRIVES, 3, 9.0, 6.0)
    assert label.tolist() == ((trials.ratings[:, :2] > 5) @ [1, 2]).tolist()
    assert said.shape == (7, 9, 4)  # windows end after 9, 15, ... 57 s
    for window, n_seen in ((0, 2), (1, 3), (8, 10)):
        seen = class_probabilities(Simulation(), PERIPHERALS, DRIVES, trials.theta[:, :, :n_seen])
        np.testing.assert_allclose(said[:, window], seen)


def test_the_best_answers_reach_the_expectation_by_window():
    simulation = Simulation(n_trials=40, label_noise=0.7)
    every = [
        best_answers(simulation.model_copy(update={"seed": seed}), ALL, DRIVES, 1, 6.0, 6.0) for seed in range(300)
    ]
    hits = [(said.argmax(axis=2) == label[:, None]).mean() for label, said in every]
    expected = possible(simulation, ALL, DRIVES, 6.0, 6.0)["window"]
    assert np.mean(hits) == pytest.approx(expected.balanced_accuracy, abs=4 * np.std(hits) / np.sqrt(len(hits)))
    # all windows of a subject together, as the tables have it
    areas = [
        np.mean([roc_auc_score(np.tile(label == index, 10), said[..., index].T.ravel()) for index in np.unique(label)])
        for label, said in every
    ]
    assert np.mean(areas) == pytest.approx(expected.auroc, abs=4 * np.std(areas) / np.sqrt(len(areas)))


def test_the_windows_of_a_subject_are_ranked_together():
    """Where only segments differ, later windows know more, and to pool them costs more than the mean of each place."""
    simulation = Simulation(subject_sd=0.0, trial_sd=0.0, segment_sd=2.0, label_noise=0.0, n_trials=99)
    every = [best_answers(simulation, ALL, DRIVES, subject, 6.0, 6.0) for subject in range(1, 60)]
    areas = [
        np.mean([roc_auc_score(np.tile(label == index, 10), said[..., index].T.ravel()) for index in range(4)])
        for label, said in every
    ]
    found = possible(simulation, ALL, DRIVES, 6.0, 6.0)["window"].auroc
    assert np.mean(areas) == pytest.approx(found, abs=0.003)


def test_the_order_of_the_ratings_is_the_order_of_the_bits():
    theta = draw_trials(Simulation(), 1).theta
    one, other = (class_probabilities(Simulation(), ALL, order, theta) for order in (DRIVES, DRIVES[::-1]))
    np.testing.assert_allclose(one[:, [0, 2, 1, 3]], other, atol=1e-12)
    valence = class_probabilities(Simulation(), ALL, ["valence"], theta)
    np.testing.assert_allclose(one[:, 1] + one[:, 3], valence[:, 1], atol=1e-12)


@pytest.mark.parametrize(
    ("ratings", "window_s", "hop_s"),
    [
        (["liking"], 6.0, 6.0),
        ([], 6.0, 6.0),
        (["valence", "valence"], 6.0, 6.0),
        (DRIVES, 61.0, 6.0),
        (DRIVES, 0.0, 6.0),
        (DRIVES, 6.0, 0.0),
    ],
)
def test_what_the_model_does_not_know_is_refused(ratings, window_s, hop_s):
    with pytest.raises(MtkdError):
        possible(Simulation(), ALL, ratings, window_s, hop_s)
