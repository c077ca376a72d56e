"""A simulated study with a known best possible predictor, written in DEAP's own file format.

``mtkd.signals.latent`` states the latent half of the model (ratings, drives, physiological parameters theta),
``mtkd.signals.possible`` the bound that follows. This half turns theta into waveforms at 128 Hz. Each parameter has a
natural value c(t) (``PARAMETERS``: centre, unit and step), constant over a segment and sliding into the next one
*after* the border, so that no sample tells of a later segment. With n(t) Gaussian noise of unit variance in the stated
band, drawn anew each time::

    EEG    5 uV of noise, 4-45 Hz, power as 1/f**1.5, plus c(t) n(t) for each of ``RHYTHMS``, 30 % of the variance of
           each common to its region; then the common average reference, as in DEAP's preprocessed files
    EOG    hEOG: saccades of c uV that decay within 1 s (AC coupling); vEOG: blinks, which nothing drives
    EMG    c(t) n(t), 10-60 Hz, and 1 uV of noise
    GSR    1e6 / (tonic + responses) ohm, both in uS; the response to an event at t = 0, which come at the rate c_rate:
           c_amplitude (exp(-t / 4 s) - exp(-t / 0.5 s)), scaled to a peak of 1
    Resp   c_depth(t) (sin(phase) + 0.2 sin(2 phase)), phase' = 2 pi c_rate(t)
    Plet   systolic and dicrotic wave of the beat's phase, which advances at c(t) / 60 + 0.025 n(t) beats a second
    Temp   integral of c(t) with a slow drift

A modality's waveform depends on its own parameters only: the heart does not follow the belt's breathing and no eye
movement reaches the EEG, or else the bounds of single modalities would not hold. The bound per window is for causal
preprocessing: a filter of zero phase lets a window see what comes after it.
"""

import pickle
import struct
from collections.abc import Callable, Mapping
from io import BufferedIOBase
from pathlib import Path

import numpy as np
from jaxtyping import Float
from joblib import Parallel, delayed
from numpy import ndarray
from numpy.random import Generator
from scipy import fft, signal

from mtkd.config import Simulation
from mtkd.files import publish_file
from mtkd.signals.channels import GENEVA
from mtkd.signals.latent import BASELINE_S, N_SEGMENTS, PARAMETERS, SEGMENT_S, TRIAL_S, Trials, draw_trials, generator
from mtkd.signals.readers.deap import CHANNELS

SFREQ = 128
BLOCKS_S = (BASELINE_S, *[SEGMENT_S] * N_SEGMENTS)
CH_NAMES = list(CHANNELS)
N_EEG = len(GENEVA)
Course = Mapping[str, ndarray]  # parameter: its natural value (n_times,)
Band = tuple[float, float]  # Hz
Shape = Callable[[ndarray], ndarray]  # amplitude over frequency
WEARABLE = "wearable.edf"
WEARABLE_SUBJECT = 100  # beyond the largest n_subjects
WEARABLE_TRIALS = 3
WEARABLE_UNITS = {"zEMG": "uV", "tEMG": "uV", "GSR": "uS", "Resp": "", "Plet": "", "Temp": "degC"}
COMMON_SHARE = 0.3  # of an EEG source's variance, common to all electrodes of its region
BACKGROUND_UV = 5.0

LEFT_FRONTAL, RIGHT_FRONTAL = ["Fp1", "AF3", "F3", "F7", "FC5"], ["Fp2", "AF4", "F4", "F8", "FC6"]
TEMPORAL = ["T7", "CP5", "P7", "T8", "CP6", "P8"]
FRONTOCENTRAL = ["FC1", "C3", "Fz", "FC2", "Cz", "C4"]
POSTERIOR = ["P3", "Pz", "P4", "PO3", "PO4", "O1", "Oz", "O2"]
REGIONS = (LEFT_FRONTAL, RIGHT_FRONTAL, TEMPORAL, FRONTOCENTRAL, POSTERIOR, ["CP1", "CP2"])
# parameter, electrodes, band, and whether the rhythm grows (1) or weakens (-1) as the parameter grows
RHYTHMS: tuple[tuple[str, list[str], Band, int], ...] = (
    ("frontal_alpha_asymmetry", RIGHT_FRONTAL, (8.0, 13.0), 1),
    ("frontal_alpha_asymmetry", LEFT_FRONTAL, (8.0, 13.0), -1),
    ("temporal_beta", TEMPORAL, (13.0, 30.0), 1),
    ("temporal_gamma", TEMPORAL, (30.0, 45.0), 1),
    ("posterior_alpha", POSTERIOR, (8.0, 13.0), 1),
    ("frontocentral_theta", FRONTOCENTRAL, (4.0, 8.0), 1),
    ("frontocentral_beta", FRONTOCENTRAL, (13.0, 30.0), 1),
)


def write_study(simulation: Simulation, folder: Path, progress: Callable[[str], None] | None = None) -> None:
    """Write ``s01.dat`` and so on (DEAP's format), then ``wearable.edf`` and ``wearable.csv`` to an existing folder.

    The wearable recording is of one more subject, without EEG: WEARABLE_TRIALS trials one after the other, each after
    its baseline; the table holds when each starts and stops and what the subject rated. A trial depends on the seed,
    the noises, and its own and its subject's number only. ``progress`` is told the name of each file once it stands.
    """
    progress = progress or (lambda name: None)
    jobs = (delayed(_write_subject)(simulation, subject, folder) for subject in range(1, simulation.n_subjects + 1))
    for name in Parallel(n_jobs=-1, return_as="generator_unordered")(jobs):
        progress(name)
    _write_wearable(simulation, folder)
    progress(WEARABLE)


def synthesise(
    theta: Float[ndarray, "n_params n_blocks"], blocks_s: tuple[float, ...], constants: ndarray, rng: Generator
) -> Float[ndarray, "40 n_times"]:
    """Waveforms of all CH_NAMES from theta, constant over blocks of ``blocks_s`` seconds, in the units of DEAP's files.

    ``constants``: three N(0, 1) of the subject that no drive touches (tonic conductance, pulse amplitude, temperature).
    """
    course = {
        parameter.name: _course(parameter.natural(row), blocks_s)
        for parameter, row in zip(PARAMETERS, theta, strict=True)
    }
    # a generator for each, so that no modality's course moves what the next one draws
    eeg, eog, emg, eda, resp, ppg, temp = rng.spawn(7)
    electric = (_eeg(course, eeg), _eog(course, eog), _emg(course, emg))
    resistance = 1e6 / _conductance(course, constants[0], eda)
    pulse, temperature = _pulse(course, constants[1], ppg), _temperature(course, constants[2], temp)
    return np.vstack([*electric, resistance, _respiration(course, resp), pulse, temperature])


def trial_data(simulation: Simulation, subject: int, trials: Trials) -> Float[ndarray, "n_trials 40 n_times"]:
    """Baseline and trial of every trial of a subject, as ``data`` of its file."""
    constants = generator(simulation, subject, 0, 1).standard_normal(3)
    data = np.empty((len(trials.theta), len(CH_NAMES), round((BASELINE_S + TRIAL_S) * SFREQ)))
    for index, (rest, theta) in enumerate(zip(trials.rest, trials.theta, strict=True)):
        rng = generator(simulation, subject, index + 1, 1)
        data[index] = synthesise(np.column_stack([rest, theta]), BLOCKS_S, constants, rng)
    return data


def _course(values: Float[ndarray, " n_blocks"], blocks_s: tuple[float, ...]) -> Float[ndarray, " n_times"]:
    """Piecewise constant, each step smoothed over the 0.25 s that follow it."""
    steps = np.repeat(values, np.round(np.array(blocks_s) * SFREQ).astype(int))
    return values[0] + signal.lfilter(np.full(SFREQ // 4, 4 / SFREQ), 1.0, steps - values[0])


def _noise(
    rng: Generator, n_rows: int, n_times: int, band: Band, shape: Shape = np.ones_like
) -> Float[ndarray, "n_rows n_times"]:
    """Gaussian noise of unit variance within ``band``, its amplitude over frequency as ``shape`` has it."""
    freqs = fft.rfftfreq(n_times, 1 / SFREQ)
    inside = np.flatnonzero((freqs >= band[0]) & (freqs < band[1]))
    weight = shape(freqs[inside])
    spectrum = np.zeros((n_rows, len(freqs)), complex)
    spectrum[:, inside] = rng.standard_normal((n_rows, 2 * len(inside))).view(complex) * weight
    spectrum *= n_times / (2 * np.sqrt((weight**2).sum()))
    return fft.irfft(spectrum, n_times, axis=1)


def _bump(low: float, high: float) -> Shape:
    """Amplitude over frequency of a rhythm: its power is Gaussian with an sd of a quarter of the band."""
    return lambda freqs: np.exp(-4 * ((freqs - (low + high) / 2) / (high - low)) ** 2)


def _events(rng: Generator, rate: ndarray) -> tuple[ndarray, ndarray]:
    """Sample numbers of events at ``rate`` (1/s, at most 3), and of each its relative size, 0.7 to 1.3.

    Intervals are gamma distributed with shape 8, more regular than a Poisson process. How many numbers are drawn does
    not depend on the rate, so that a later rate changes nothing now.
    """
    n_most = 4 * len(rate) // SFREQ
    intervals, sizes = rng.gamma(8.0, 1 / 8, n_most), rng.uniform(0.7, 1.3, n_most)
    intervals[0] *= rng.uniform()
    times = np.searchsorted(np.cumsum(rate) / SFREQ, np.cumsum(intervals))
    return times[times < len(rate)], sizes[times < len(rate)]


def _region(rng: Generator, n_chans: int, n_times: int, band: Band, shape: Shape) -> Float[ndarray, "n_chans n_times"]:
    """Noise of unit variance at each electrode of a region, a part of it common to all of them."""
    sources = _noise(rng, n_chans + 1, n_times, band, shape)
    return np.sqrt(1 - COMMON_SHARE) * sources[:-1] + np.sqrt(COMMON_SHARE) * sources[-1]


def _eeg(course: Course, rng: Generator) -> Float[ndarray, "32 n_times"]:
    """Microvolt, average reference."""
    n_times = len(course["posterior_alpha"])
    centre = {each.name: each.centre for each in PARAMETERS}
    eeg = np.empty((N_EEG, n_times))
    for names in REGIONS:
        noise = _region(rng, len(names), n_times, (4.0, 45.0), lambda freqs: freqs**-0.75)
        eeg[[CH_NAMES.index(name) for name in names]] = BACKGROUND_UV * noise
    for parameter, names, band, sign in RHYTHMS:
        amplitude = centre[parameter] * (course[parameter] / centre[parameter]) ** sign
        waves = amplitude * _region(rng, len(names), n_times, band, _bump(*band))
        eeg[[CH_NAMES.index(name) for name in names]] += waves
    return eeg - eeg.mean(axis=0)


def _eog(course: Course, rng: Generator) -> Float[ndarray, "2 n_times"]:
    """hEOG and vEOG, microvolt."""
    amplitude = course["saccades"]
    jumps, blinks = np.zeros((2, len(amplitude)))
    at, sizes = _events(rng, np.full(len(amplitude), 1.5))
    jumps[at] = np.resize([1.0, -1.0], len(at)) * sizes * amplitude[at]  # the eye goes there and back
    at, sizes = _events(rng, np.full(len(amplitude), 0.25))
    blinks[at] = 150 * sizes
    horizontal = signal.lfilter([1.0], [1.0, -np.exp(-1 / SFREQ)], jumps)
    vertical = signal.lfilter(signal.windows.hann(int(0.3 * SFREQ)), 1.0, blinks)
    return np.stack([horizontal, vertical]) + 5 * _noise(rng, 2, len(amplitude), (0.5, 30.0))


def _emg(course: Course, rng: Generator) -> Float[ndarray, "2 n_times"]:
    """zEMG and tEMG, microvolt."""
    amplitude = np.stack([course["zygomatic"], course["trapezius"]])
    return amplitude * _noise(rng, 2, amplitude.shape[1], (10.0, 60.0)) + _noise(
        rng, 2, amplitude.shape[1], (1.0, 60.0)
    )


def _conductance(course: Course, constant: float, rng: Generator) -> Float[ndarray, " n_times"]:
    """Skin conductance, microsiemens: tonic 3 to 5, the rest responses, so that it is positive."""
    n_times = len(course["scr_rate"])
    at, sizes = _events(rng, course["scr_rate"])
    impulses = np.zeros(n_times)
    impulses[at] = course["scr_amplitude"][at] * sizes
    seconds = np.arange(30 * SFREQ) / SFREQ
    response = np.exp(-seconds / 4) - np.exp(-seconds / 0.5)
    phasic = signal.fftconvolve(impulses, response / response.max())[:n_times]
    tonic = (4 + np.tanh(constant)) * (1 + 0.01 * _noise(rng, 1, n_times, (0.015, 0.05))[0])
    return tonic + np.maximum(phasic, 0) + 0.003 * _noise(rng, 1, n_times, (0.1, 50.0))[0]


def _respiration(course: Course, rng: Generator) -> Float[ndarray, " n_times"]:
    """Belt, arbitrary unit."""
    depth = course["respiration_depth"]
    phase = 2 * np.pi * (np.cumsum(course["respiration_rate"]) / SFREQ + rng.uniform())
    noise = _noise(rng, 1, len(depth), (0.02, 5.0))[0]
    return depth * (np.sin(phase) + 0.2 * np.sin(2 * phase)) + 15 * noise


def _pulse(course: Course, constant: float, rng: Generator) -> Float[ndarray, " n_times"]:
    """Plethysmograph, arbitrary unit."""
    n_times = len(course["heart_rate"])
    variability = 0.025 * _noise(rng, 1, n_times, (0.04, 0.4))[0]
    phase = (np.cumsum(course["heart_rate"] / 60 + variability) / SFREQ + rng.uniform()) % 1
    beat = np.exp(-(((phase - 0.3) / 0.08) ** 2) / 2) + 0.35 * np.exp(-(((phase - 0.62) / 0.09) ** 2) / 2)
    wander, noise = _noise(rng, 1, n_times, (0.05, 0.4))[0], _noise(rng, 1, n_times, (0.5, 20.0))[0]
    return 1000 * np.exp(0.2 * constant) * (beat + 0.05 * wander + 0.02 * noise)


def _temperature(course: Course, constant: float, rng: Generator) -> Float[ndarray, " n_times"]:
    """Skin, degree Celsius."""
    slope = course["temperature_slope"]
    drift = 0.01 * _noise(rng, 1, len(slope), (0.015, 0.05))[0]
    return 33 + 0.7 * constant + np.cumsum(slope) / SFREQ + drift + 0.002 * _noise(rng, 1, len(slope), (0.1, 50.0))[0]


def _write_subject(simulation: Simulation, subject: int, folder: Path) -> str:
    name = f"s{subject:02d}.dat"
    trials = draw_trials(simulation, subject)
    arrays = {"labels": trials.ratings, "data": trial_data(simulation, subject, trials)}
    with publish_file(folder / name) as aside, aside.open("wb") as file:
        dump_as_python2(arrays, file)
    return name


def dump_as_python2(arrays: Mapping[str, ndarray], file: BufferedIOBase) -> None:
    """Pickle as Python 2 did, protocol 2, with strings of bytes.

    Python 3's own protocol 2 spells bytes as a call of ``_codecs.encode``, in half as much space again.
    """
    file.write(pickle.PROTO + b"\x02" + pickle.EMPTY_DICT + pickle.MARK)
    for key, array in arrays.items():
        contents = np.ascontiguousarray(array, "<f8")
        # numpy's __reduce__: _reconstruct(ndarray, (0,), "b"), then its state (1, shape, dtype, is_fortran, bytes)
        file.write(_text(key) + b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\n")
        file.write(_int(0) + pickle.TUPLE1 + _text("b") + pickle.TUPLE3 + pickle.REDUCE + pickle.MARK + _int(1))
        file.write(pickle.MARK + b"".join(map(_int, array.shape)) + pickle.TUPLE)
        file.write(b"cnumpy\ndtype\n" + _text("f8") + _int(0) + _int(1) + pickle.TUPLE3 + pickle.REDUCE)
        file.write(pickle.MARK + _int(3) + _text("<") + pickle.NONE * 3 + _int(-1) * 2 + _int(0) + pickle.TUPLE)
        file.write(pickle.BUILD + pickle.NEWFALSE + pickle.BINSTRING + struct.pack("<i", contents.nbytes))
        file.write(contents.data)
        file.write(pickle.TUPLE + pickle.BUILD)
    file.write(pickle.SETITEMS + pickle.STOP)


def _text(text: str) -> bytes:
    return pickle.SHORT_BINSTRING + bytes([len(text)]) + text.encode("ascii")


def _int(value: int) -> bytes:
    return pickle.BININT + struct.pack("<i", value)


def _write_wearable(simulation: Simulation, folder: Path) -> None:
    import edfio

    trials = draw_trials(simulation.model_copy(update={"n_trials": WEARABLE_TRIALS}), WEARABLE_SUBJECT)
    theta = np.concatenate([trials.rest[:, :, None], trials.theta], axis=2)
    constants = generator(simulation, WEARABLE_SUBJECT, 0, 1).standard_normal(3)
    rng = generator(simulation, WEARABLE_SUBJECT, 1, 1)
    data = synthesise(np.hstack(list(theta)), BLOCKS_S * WEARABLE_TRIALS, constants, rng)
    data[CH_NAMES.index("GSR")] = 1e6 / data[CH_NAMES.index("GSR")]  # a wearable tells conductance
    signals = [
        edfio.EdfSignal(data[CH_NAMES.index(name)], SFREQ, label=name, physical_dimension=unit)
        for name, unit in WEARABLE_UNITS.items()
    ]
    starts_s = [index * (BASELINE_S + TRIAL_S) + BASELINE_S for index in range(WEARABLE_TRIALS)]
    rows = zip(starts_s, trials.ratings, strict=True)
    table = [f"{start},{start + TRIAL_S},{valence:.6f},{arousal:.6f}\n" for start, (valence, arousal, *_) in rows]
    with publish_file(folder / WEARABLE) as aside:
        edfio.Edf(signals).write(aside)
    with publish_file(folder / "wearable.csv") as aside:
        aside.write_text("".join(["start_s,stop_s,valence,arousal\n", *table]), encoding="utf-8")
