"""The simulated study's drives, ratings and parameters: who shares what, and with which moments."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mtkd.config import Simulation
from mtkd.signals.latent import PARAMETERS, STIMULUS_SHARE, draw_trials


def test_a_trial_depends_on_nothing_but_its_own_numbers():
    few, many = (draw_trials(Simulation(n_subjects=n, n_trials=n), 3) for n in (5, 9))
    for name in ("drives", "theta", "rest", "ratings"):
        np.testing.assert_array_equal(getattr(few, name), getattr(many, name)[:5])
    other_subject, other_seed = draw_trials(Simulation(n_trials=5), 4), draw_trials(Simulation(n_trials=5, seed=1), 3)
    assert not np.isclose(few.theta, other_subject.theta).any()
    assert not np.isclose(few.theta, other_seed.theta).any()
    draw_trials(Simulation(seed=-1), 1)


def test_the_draws_have_the_stated_moments():
    simulation = Simulation(subject_sd=0.5, trial_sd=0.8, segment_sd=1.2)
    trials = [draw_trials(simulation.model_copy(update={"seed": seed}), 2) for seed in range(300)]
    drives, theta, rest = (np.concatenate([getattr(t, name) for t in trials]) for name in ("drives", "theta", "rest"))
    np.testing.assert_allclose(np.cov(drives.T), np.eye(2), atol=0.05)
    gains = np.array([[p.valence, p.arousal] for p in PARAMETERS])
    between = gains @ gains.T + (0.5**2 + 0.8**2) * np.eye(len(gains))
    np.testing.assert_allclose(np.cov(theta[:, :, 0].T), between + 1.2**2 * np.eye(len(gains)), atol=0.2)
    first, second = theta[:, :, 0] - theta[:, :, 0].mean(axis=0), theta[:, :, 1] - theta[:, :, 1].mean(axis=0)
    np.testing.assert_allclose(first.T @ second / len(first), between, atol=0.2)
    # the baseline knows neither the drives nor the offsets
    every = np.hstack([rest, drives, theta.mean(axis=2)])
    correlation = np.corrcoef(every.T)[: len(gains), len(gains) :]
    assert np.abs(correlation).max() < 4.5 / np.sqrt(len(every))


def test_subjects_share_stimuli_and_nothing_else():
    simulation = Simulation(n_trials=99)
    one, other = (np.concatenate([draw_trials(simulation, s).drives for s in subjects]) for subjects in ((1,), (2,)))
    pairs = [
        np.corrcoef(draw_trials(simulation, s).drives.ravel(), draw_trials(simulation, s + 1).drives.ravel())[0, 1]
        for s in range(1, 41, 2)
    ]
    assert np.mean(pairs) == pytest.approx(STIMULUS_SHARE, abs=0.08)
    assert not np.isclose(one, other).any()


@given(st.sampled_from(PARAMETERS), st.lists(st.floats(-8, 8), min_size=2, max_size=2, unique=True))
def test_the_natural_scale_is_increasing_and_bounded(parameter, theta):
    low, high = parameter.natural(np.sort(theta))
    assert low <= high
    if np.ptp(theta) > 1e-3:
        assert low < high
    assert parameter.name == "temperature_slope" or low > 0
    assert parameter.name != "heart_rate" or 45 < low < high + 1e-9 < 95
