"""The accuracy that no predictor of the simulated study can exceed.

With the model and the names of ``mtkd.signals.latent``, rating - z - theta - waveform is a Markov chain, so nothing
computed from waveforms beats Bayes' rule applied to theta. The mean of theta over the segments seen is sufficient and
jointly Gaussian with r. With G the gains (n_params, 2), k segments seen, c**2 = 1 - label_noise**2 and
w = subject_sd**2 + trial_sd**2 + segment_sd**2 / k::

    S = (I + G'G / w)^-1        E[r | theta] = c S G' mean(theta) / w        cov[r | theta] = c**2 S + label_noise**2 I

The class probabilities are those of the orthants of that Gaussian.

The bound is for a predictor that sees one trial of a subject it never saw and is not told which stimulus it is.
``possible`` is its expectation over studies, stimuli included, around which one study of finite size scatters (with
twelve subjects of 40 trials by some 0.02); ``best_answers`` is what that predictor says of the very trials of a study.
To know which 40 stimuli a study holds, though not which of them is on, is worth less than 0.001 (simulated, 150 studies
of 2000 trials).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from scipy.special import ndtr, ndtri, owens_t
from scipy.stats import qmc, rankdata

from mtkd.config import Simulation
from mtkd.errors import MtkdError
from mtkd.signals.latent import DRIVES, N_SEGMENTS, PARAMETERS, SEGMENT_S, TRIAL_S, draw_trials, gains_of

_LOG2_POINTS = 15
_N_SUBJECTS, _N_TRIALS = 256, 512


@dataclass(frozen=True)
class Possible:
    """What the best possible predictor reaches: balanced accuracy, macro one-versus-rest area under the ROC curve."""

    balanced_accuracy: float
    auroc: float


def possible(
    simulation: Simulation, modalities: Sequence[str], ratings: Sequence[str], window_s: float, hop_s: float
) -> dict[str, Possible]:
    """The best possible figures of a predictor that sees only ``modalities``.

    Classes are all combinations of low and high over ``ratings``; bit i of the index is rating i, split at 5. The
    expectation is over draws of the model: of the balanced accuracy by 2**15 quasi-random points (error about 1e-4), of
    the AUROC, which is taken within a subject and then over subjects, by simulation (error about 0.003).

    Returns:
        "trial": the predictor has seen a whole trial. "window": all windows of all trials counted alike; at a window a
        causal predictor has seen every segment from the trial's start to the window's end. A window that ends inside a
        segment is credited with all of it, so there the figure is an upper bound, if not a sharp one.

    Raises:
        MtkdError: a rating the model does not drive, or a window longer than a trial.
    """
    if not ratings or len(set(ratings)) != len(ratings) or not set(ratings) <= set(DRIVES):
        raise MtkdError(f"ratings {list(ratings)}: the simulation knows {' and '.join(DRIVES)}, each at most once")
    if not (0 < window_s <= TRIAL_S and hop_s > 0):
        raise MtkdError(f"windows of {window_s:g} s every {hop_s:g} s do not fit a simulated trial of {TRIAL_S:g} s")
    n_seen = _segments_seen(window_s, hop_s)
    points = ndtri(qmc.Sobol(len(ratings), rng=0).random_base2(_LOG2_POINTS))
    # All classes are equally frequent in the model, so the balanced accuracy of the likeliest class is the accuracy.
    right = {
        k: float(_probabilities_at(simulation, modalities, ratings, k, points).max(axis=1).mean())
        for k in {*n_seen, N_SEGMENTS}
    }
    return {
        "window": Possible(float(np.mean([right[k] for k in n_seen])), _auroc(simulation, modalities, ratings, n_seen)),
        "trial": Possible(right[N_SEGMENTS], _auroc(simulation, modalities, ratings, [N_SEGMENTS])),
    }


def best_answers(
    simulation: Simulation,
    modalities: Sequence[str],
    ratings: Sequence[str],
    subject: int,
    window_s: float,
    hop_s: float,
) -> tuple[Int[np.ndarray, " n_trials"], Float[np.ndarray, "n_trials n_windows n_classes"]]:
    """A simulated subject's classes, and what the best possible predictor says of every window of its trials.

    Classes and what is seen at a window are those of ``possible``. The last window that fits has seen the whole trial
    before its end; it is the best answer for the trial.
    """
    trials = draw_trials(simulation, subject)
    high = trials.ratings[:, [DRIVES.index(rating) for rating in ratings]] > 5
    answers = [
        class_probabilities(simulation, modalities, ratings, trials.theta[:, :, :n_seen])
        for n_seen in _segments_seen(window_s, hop_s)
    ]
    return (high << np.arange(len(ratings))).sum(axis=1), np.stack(answers, axis=1)


def _segments_seen(window_s: float, hop_s: float) -> list[int]:
    """How many segments a causal predictor has seen, the last one perhaps in part, as each window of a trial ends."""
    stops = window_s + hop_s * np.arange(int((TRIAL_S - window_s) / hop_s + 1e-9) + 1)
    return [int(np.ceil(stop / SEGMENT_S - 1e-9)) for stop in stops]


def class_probabilities(
    simulation: Simulation,
    modalities: Sequence[str],
    ratings: Sequence[str],
    theta: Float[np.ndarray, "n_trials n_params n_seen"],
) -> Float[np.ndarray, "n_trials n_classes"]:
    """Bayes' rule: the probability of every class once ``n_seen`` segments of ``modalities`` have been seen."""
    used = [index for index, parameter in enumerate(PARAMETERS) if parameter.modality in modalities]
    gains = gains_of([PARAMETERS[index] for index in used])
    posterior = _posterior(simulation, modalities, theta.shape[2])
    mean_z = theta[:, used].mean(axis=2) @ gains @ posterior / _noise(simulation, theta.shape[2])
    mean = np.sqrt(1 - simulation.label_noise**2) * mean_z[:, [DRIVES.index(rating) for rating in ratings]]
    return _orthants(mean, np.eye(len(ratings)) - _explained(simulation, modalities, ratings, theta.shape[2]))


def _noise(simulation: Simulation, n_seen: int) -> float:
    """Variance of a parameter's mean over ``n_seen`` segments; not quite 0, so that no noise needs no other code."""
    return max(simulation.subject_sd**2 + simulation.trial_sd**2 + simulation.segment_sd**2 / n_seen, 1e-9)


def _posterior(simulation: Simulation, modalities: Sequence[str], n_seen: int) -> Float[np.ndarray, "2 2"]:
    gains = gains_of([parameter for parameter in PARAMETERS if parameter.modality in modalities])
    return np.linalg.inv(np.eye(2) + gains.T @ gains / _noise(simulation, n_seen))


def _explained(
    simulation: Simulation, modalities: Sequence[str], ratings: Sequence[str], n_seen: int
) -> Float[np.ndarray, "n_ratings n_ratings"]:
    """Covariance of E[r | theta]; what is left to the identity, r's own, is the covariance of r given theta."""
    chosen = [DRIVES.index(rating) for rating in ratings]
    explained = np.eye(2) - _posterior(simulation, modalities, n_seen)
    return (1 - simulation.label_noise**2) * explained[np.ix_(chosen, chosen)]


def _probabilities_at(
    simulation: Simulation, modalities: Sequence[str], ratings: Sequence[str], n_seen: int, points: np.ndarray
) -> Float[np.ndarray, "n_points n_classes"]:
    explained = _explained(simulation, modalities, ratings, n_seen)
    values, vectors = np.linalg.eigh(explained)
    root = vectors * np.sqrt(np.maximum(values, 0))  # Cholesky would refuse a singular matrix, as of one modality alone
    return _orthants(points @ root.T, np.eye(len(ratings)) - explained)


def _orthants(mean: np.ndarray, covariance: np.ndarray) -> Float[np.ndarray, "n_points n_classes"]:
    """Probability of each combination of signs of one or two Gaussian variables, by Owen's T (Owen, 1956)."""
    sd = np.sqrt(np.maximum(np.diag(covariance), 1e-12))
    high = ndtr(mean / sd)
    if high.shape[1] == 1:
        return np.hstack([1 - high, high])
    rho = covariance[0, 1] / sd.prod()
    # Owen's formula divides by the means, and the orthants do not notice so small a step
    first, second = (np.where(np.abs(column) < 1e-12, 1e-12, column) for column in (mean / sd).T)
    across = np.sqrt(max(1 - rho**2, 1e-12))
    both = (
        (high[:, 0] + high[:, 1]) / 2
        - owens_t(first, (second / first - rho) / across)
        - owens_t(second, (first / second - rho) / across)
        - np.where(first * second < 0, 0.5, 0.0)
    )
    orthants = np.stack([1 - high.sum(axis=1) + both, high[:, 0] - both, high[:, 1] - both, both], axis=1)
    return np.clip(orthants, 0, 1)


def _auroc(simulation: Simulation, modalities: Sequence[str], ratings: Sequence[str], n_seen: list[int]) -> float:
    """Area under the ROC curve within a subject, as the tables give it: macro one against rest, mean over subjects.

    Within a subject its offset shifts all answers alike and costs little, so pooling subjects would bound too low. The
    best predictor does not know the offset. Drawn with the same points for every set of modalities; error about 0.003.
    """
    draw = np.random.default_rng(0)
    drives = draw.standard_normal((_N_SUBJECTS, _N_TRIALS, 2))
    offset = draw.standard_normal((_N_SUBJECTS, 1, 2))
    level, segments, felt = (draw.standard_normal((_N_SUBJECTS, _N_TRIALS, 2)) for _ in range(3))
    chosen = [DRIVES.index(rating) for rating in ratings]
    reported = np.sqrt(1 - simulation.label_noise**2) * drives + simulation.label_noise * felt
    label = ((reported[..., chosen] > 0) << np.arange(len(chosen))).sum(axis=-1)
    gains = gains_of([parameter for parameter in PARAMETERS if parameter.modality in modalities])
    eigenvalues, vectors = np.linalg.eigh(gains.T @ gains)
    # what the parameters' noise does to the two drives; one root for all n, or a subject's offset would be another in
    # each of its windows
    root = (vectors * np.sqrt(np.maximum(eigenvalues, 0))) @ vectors.T
    scores = []
    for n in n_seen:
        shrunk = _posterior(simulation, modalities, n) / _noise(simulation, n)
        noise = simulation.subject_sd * offset + simulation.trial_sd * level + simulation.segment_sd / n**0.5 * segments
        heard = (drives @ gains.T @ gains + noise @ root) @ shrunk
        mean = np.sqrt(1 - simulation.label_noise**2) * heard[..., chosen]
        left = np.eye(len(ratings)) - _explained(simulation, modalities, ratings, n)
        scores.append(_orthants(mean.reshape(-1, len(chosen)), left).reshape(*label.shape, -1))
    score, label = np.concatenate(scores, axis=1), np.tile(label, len(n_seen))  # all windows of a subject together
    return float(np.mean([_within(score[..., index], label == index) for index in range(score.shape[-1])]))


def _within(score: Float[np.ndarray, "subject trial"], member: np.ndarray) -> float:
    """Mean over subjects of the chance that a member outscores a non-member."""
    ranks = rankdata(score, axis=1)
    n_members, n_others = member.sum(axis=1), (~member).sum(axis=1)
    both = (n_members > 0) & (n_others > 0)
    wins = (ranks * member).sum(axis=1) - n_members * (n_members + 1) / 2
    return float(np.mean(wins[both] / (n_members * n_others)[both]))
