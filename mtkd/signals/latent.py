"""The latent half of the simulated study: drives, ratings and the physiological parameters they move.

A trial has two latent drives, for the ratings valence (v) and arousal (a), both N(0, 1) and independent. Part of a
drive belongs to the stimulus and is the same for all subjects, the rest is personal::

    z        = sqrt(STIMULUS_SHARE) z_stimulus + sqrt(1 - STIMULUS_SHARE) z_personal
    r        = sqrt(1 - label_noise**2) z + label_noise N(0, 1)
    rating   = 5 + 2 r, clipped to 1 .. 9; the class is high where rating > 5, that is where r > 0
    theta_jk = gain_vj z_v + gain_aj z_a + N(0, subject_sd) + N(0, trial_sd) + N(0, segment_sd)

``theta_jk`` is physiological parameter j (``PARAMETERS``) in segment k of ``SEGMENT_S``; the three noises are
independent over parameters and drawn per subject, per trial and per segment. In the baseline before a trial theta is
N(0, segment_sd), drawn anew: it holds neither the drives nor the offsets of subject and trial, so to see it is no
advantage.

``mtkd.signals.simulated`` turns theta into waveforms, ``mtkd.signals.possible`` tells how much of the ratings can be
known from them.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from mtkd.config import Modality, Simulation

BASELINE_S = 3.0
SEGMENT_S = 6.0
N_SEGMENTS = 10
TRIAL_S = SEGMENT_S * N_SEGMENTS
DRIVES = ("valence", "arousal")
STIMULUS_SHARE = 0.2  # of a drive's variance
SQUASH = 4.0  # theta saturates here, in its own unit, so that no waveform leaves what a body can do


@dataclass(frozen=True)
class Parameter:
    """One physiological parameter: what drives it (gains per sd of a drive) and how it looks in nature.

    At theta = 0 it is ``centre`` (in ``unit``); a unit of theta adds ``step`` to it, or to its logarithm if ``is_log``.
    """

    name: str
    modality: Modality
    valence: float
    arousal: float
    centre: float
    unit: str
    step: float
    is_log: bool = True

    def natural(self, theta: Float[np.ndarray, "..."]) -> Float[np.ndarray, "..."]:
        """Theta to the natural scale; strictly increasing, so no information is lost."""
        moved = self.step * SQUASH * np.tanh(theta / SQUASH)
        return self.centre * np.exp(moved) if self.is_log else self.centre + moved


PARAMETERS = (
    Parameter("frontal_alpha_asymmetry", "eeg", 1.10, 0.00, 6.0, "uV right, left inverse", 0.3),
    Parameter("temporal_beta", "eeg", 1.05, 0.00, 5.0, "uV", 0.3),
    Parameter("temporal_gamma", "eeg", 1.00, 0.20, 3.0, "uV", 0.3),
    Parameter("posterior_alpha", "eeg", 0.00, -1.10, 8.0, "uV", 0.3),
    Parameter("frontocentral_theta", "eeg", 0.20, 1.05, 6.0, "uV", 0.3),
    Parameter("frontocentral_beta", "eeg", 0.00, 1.00, 5.0, "uV", 0.3),
    Parameter("saccades", "eog", 0.00, 0.20, 60.0, "uV", 0.3),
    Parameter("zygomatic", "emg", 0.60, 0.00, 10.0, "uV", 0.35),
    Parameter("trapezius", "emg", -0.10, 0.20, 8.0, "uV", 0.3),
    Parameter("scr_rate", "eda", 0.00, 0.45, 0.4, "1/s", 0.3),
    Parameter("scr_amplitude", "eda", 0.00, 0.40, 0.25, "uS", 0.3),
    Parameter("respiration_rate", "resp", 0.00, 0.35, 0.25, "Hz", 0.04, is_log=False),
    Parameter("respiration_depth", "resp", 0.45, 0.00, 400.0, "a.u.", 0.25),
    Parameter("heart_rate", "ppg", 0.20, 0.50, 70.0, "1/min", 6.0, is_log=False),
    Parameter("temperature_slope", "temp", 0.20, -0.15, 0.0, "degC/s", 0.004, is_log=False),
)


@dataclass(frozen=True)
class Trials:
    """The latent half of one subject's trials.

    ``drives``: z of valence and arousal. ``theta``: the parameters in each segment, ``rest``: in the baseline.
    ``ratings``: valence, arousal, dominance and liking, 1 to 9; the last two have to do with nothing else.
    """

    drives: Float[np.ndarray, "n_trials 2"]
    theta: Float[np.ndarray, "n_trials n_params n_segments"]
    rest: Float[np.ndarray, "n_trials n_params"]
    ratings: Float[np.ndarray, "n_trials 4"]


def generator(simulation: Simulation, subject: int, trial: int, stream: int) -> np.random.Generator:
    """A generator of its own for every (seed, subject, trial, stream), whatever else is drawn.

    ``subject`` 0 stands for all subjects and ``trial`` 0 for the subject itself. Streams 0 and 1 are used here.
    """
    return np.random.default_rng([simulation.seed % 2**64, subject, trial, stream])


def draw_trials(simulation: Simulation, subject: int) -> Trials:
    """Draw a subject's trials from the model. ``subject`` counts from 1 and may exceed ``simulation.n_subjects``."""
    n_params, n_trials = len(PARAMETERS), simulation.n_trials
    numbers = range(1, n_trials + 1)
    offset = simulation.subject_sd * generator(simulation, subject, 0, 0).standard_normal(n_params)
    stimulus = np.stack([generator(simulation, 0, trial, 0).standard_normal(2) for trial in numbers])
    size = 2 + 4 + n_params * (1 + 1 + N_SEGMENTS)
    drawn = np.stack([generator(simulation, subject, trial, 0).standard_normal(size) for trial in numbers])
    personal, noise, rest, trial_noise, segment_noise = np.split(drawn, np.cumsum([2, 4, n_params, n_params]), axis=1)
    drives = np.sqrt(STIMULUS_SHARE) * stimulus + np.sqrt(1 - STIMULUS_SHARE) * personal
    level = drives @ gains_of(PARAMETERS).T + offset + simulation.trial_sd * trial_noise
    theta = level[:, :, None] + simulation.segment_sd * segment_noise.reshape(n_trials, n_params, N_SEGMENTS)
    signal = np.sqrt(1 - simulation.label_noise**2) * drives
    felt = np.hstack([signal + simulation.label_noise * noise[:, :2], noise[:, 2:]])
    return Trials(drives, theta, simulation.segment_sd * rest, np.clip(5 + 2 * felt, 1, 9))


def gains_of(parameters: Sequence[Parameter]) -> Float[np.ndarray, "n_params 2"]:
    """What a sd of valence (first column) and of arousal adds to each parameter."""
    return np.array([[parameter.valence, parameter.arousal] for parameter in parameters]).reshape(-1, 2)
