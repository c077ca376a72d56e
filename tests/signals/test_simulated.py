"""The simulated study's files and waveforms: DEAP's format, no leak, and theta readable from the signals."""

import csv
import pickle
import pickletools

import edfio
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import signal
from scipy.stats import spearmanr
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

from mtkd.config import Simulation
from mtkd.signals.channels import GENEVA
from mtkd.signals.latent import DRIVES, N_SEGMENTS, PARAMETERS, draw_trials, generator
from mtkd.signals.possible import possible
from mtkd.signals.simulated import (
    BASELINE_S,
    BLOCKS_S,
    CH_NAMES,
    FRONTOCENTRAL,
    LEFT_FRONTAL,
    POSTERIOR,
    RIGHT_FRONTAL,
    SFREQ,
    TEMPORAL,
    WEARABLE_SUBJECT,
    synthesise,
    trial_data,
    write_study,
)

N_TIMES = 8064
START, SEGMENT = 384, 768  # samples
ROWS = {
    "eeg": range(32),
    "eog": range(32, 34),
    "emg": range(34, 36),
    "eda": [36],
    "resp": [37],
    "ppg": [38],
    "temp": [39],
}
PERIPHERALS = [name for name in ROWS if name != "eeg"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path, told = tmp_path_factory.mktemp("study"), []
    write_study(Simulation(n_subjects=2, n_trials=3, seed=5), path, told.append)
    assert sorted(told) == ["s01.dat", "s02.dat", "wearable.edf"]
    return path


def _load(path):
    with path.open("rb") as file:
        return pickle.load(file, encoding="latin1")


def test_files_are_whole(folder):
    assert sorted(file.name for file in folder.iterdir()) == ["s01.dat", "s02.dat", "wearable.csv", "wearable.edf"]


def test_format_is_that_of_deap(folder):
    content = _load(folder / "s01.dat")
    assert set(content) == {"data", "labels"}
    assert all(type(key) is str for key in content)
    assert content["data"].shape == (3, 40, N_TIMES)
    assert content["data"].dtype == np.float64
    assert content["labels"].shape == (3, 4)
    assert content["labels"].dtype == np.float64
    assert content["labels"].min() >= 1
    assert content["labels"].max() <= 9
    assert np.isfinite(content["data"]).all()
    assert [*GENEVA, "hEOG", "vEOG", "zEMG", "tEMG", "GSR", "Resp", "Plet", "Temp"] == CH_NAMES


def test_pickle_is_that_of_python_2(folder):
    names, protocols = set(), set()
    for opcode, argument, _ in pickletools.genops((folder / "s01.dat").read_bytes()):
        protocols.add(opcode.proto)
        assert opcode.name not in {"BINUNICODE", "BINBYTES", "SHORT_BINBYTES"}
        if opcode.name == "GLOBAL":
            names.add(argument)
    assert max(protocols) == 2
    assert names == {"numpy.core.multiarray _reconstruct", "numpy ndarray", "numpy dtype"}
    assert (folder / "s01.dat").stat().st_size < 3 * 40 * N_TIMES * 8 + 1000


def test_a_subject_depends_on_nothing_but_seed_and_number(folder):
    alone = Simulation(n_subjects=9, n_trials=2, seed=5)
    for subject in (1, 2):
        trials = draw_trials(alone, subject)
        content = _load(folder / f"s{subject:02d}.dat")
        np.testing.assert_array_equal(content["data"][:2], trial_data(alone, subject, trials))
        np.testing.assert_array_equal(content["labels"][:2], trials.ratings)
    assert not np.allclose(_load(folder / "s01.dat")["data"], _load(folder / "s02.dat")["data"])


def test_units_and_ranges_are_those_of_a_body():
    simulation = Simulation(n_trials=10, seed=3)
    data = np.concatenate([trial_data(simulation, subject, draw_trials(simulation, subject)) for subject in (1, 2, 3)])
    conductance = 1e6 / data[:, CH_NAMES.index("GSR")]
    assert conductance.min() > 2
    assert conductance.max() < 12
    eeg_sd = data[:, :32].std(axis=2)
    assert eeg_sd.min() > 4
    assert eeg_sd.max() < 30
    np.testing.assert_allclose(data[:, :32].mean(axis=1), 0, atol=1e-9)
    temperature = data[:, CH_NAMES.index("Temp")]
    assert temperature.min() > 28
    assert temperature.max() < 38
    freqs, power = signal.welch(data[:, :32], SFREQ, nperseg=512)
    assert power[..., freqs < 3].sum() < 1e-3 * power.sum()


def test_wearable_is_a_recording_without_eeg(folder):
    recording = edfio.read_edf(folder / "wearable.edf")
    units = {each.label: each.physical_dimension for each in recording.signals}
    assert units == {"zEMG": "uV", "tEMG": "uV", "GSR": "uS", "Resp": "", "Plet": "", "Temp": "degC"}
    assert recording.duration == 189
    assert all(each.sampling_frequency == SFREQ for each in recording.signals)
    conductance = recording.get_signal("GSR").data
    assert conductance.min() > 2
    assert conductance.max() < 12
    assert np.ptp(conductance) > 0.1
    with (folder / "wearable.csv").open(newline="") as file:
        rows = [{key: float(value) for key, value in row.items()} for row in csv.DictReader(file)]
    assert [(row["start_s"], row["stop_s"]) for row in rows] == [(3, 63), (66, 126), (129, 189)]
    ratings = draw_trials(Simulation(n_trials=3, seed=5), WEARABLE_SUBJECT).ratings
    np.testing.assert_allclose([[row["valence"], row["arousal"]] for row in rows], ratings[:, :2], atol=1e-6)


def test_wearable_signals_follow_the_trials_theta(folder):
    emg = edfio.read_edf(folder / "wearable.edf").get_signal("zEMG").data
    trials = draw_trials(Simulation(n_trials=3, seed=5), WEARABLE_SUBJECT)
    index = [parameter.name for parameter in PARAMETERS].index("zygomatic")
    sd = [emg[(63 * trial + 3) * SFREQ :][: 60 * SFREQ].reshape(N_SEGMENTS, -1).std(axis=1) for trial in range(3)]
    assert spearmanr(np.ravel(sd), trials.theta[:, index].ravel()).statistic > 0.95


def _trial(theta):
    return synthesise(theta, BLOCKS_S, np.zeros(3), np.random.default_rng(1))


@settings(max_examples=8, deadline=None)
@given(st.integers(1, N_SEGMENTS), st.integers(0, 2**32))
def test_no_sample_tells_of_a_later_segment(block, seed):
    rng = np.random.default_rng(seed)
    theta = rng.standard_normal((len(PARAMETERS), N_SEGMENTS + 1)) * 2
    later = theta.copy()
    later[:, block:] = 2 * rng.standard_normal(later[:, block:].shape)
    border = round((BASELINE_S + 6 * (block - 1)) * SFREQ)
    before, after = _trial(theta), _trial(later)
    np.testing.assert_allclose(before[:, :border], after[:, :border], rtol=1e-7, atol=1e-7)
    assert (np.abs(before[:, border:] - after[:, border:]).max(axis=1) > 1e-3)[[0, 32, 34, 35, 36, 37, 38, 39]].all()


@pytest.mark.parametrize("parameter", PARAMETERS, ids=lambda parameter: parameter.name)
def test_a_parameter_shows_in_its_own_modality_only(parameter):
    theta = np.zeros((len(PARAMETERS), N_SEGMENTS + 1))
    moved = theta.copy()
    moved[PARAMETERS.index(parameter)] = 1
    changed = np.abs(_trial(theta) - _trial(moved)).max(axis=1) > 1e-9
    assert changed[list(ROWS[parameter.modality])].any()
    assert not np.delete(changed, list(ROWS[parameter.modality])).any()


# Features as a careful analyst would take them, one value a segment; shape (n_trials, N_SEGMENTS) each.


def _segments(values):
    return values[..., START:].reshape(*values.shape[:-1], N_SEGMENTS, SEGMENT)


def _low(values, cutoff):
    return signal.sosfiltfilt(signal.butter(2, cutoff, fs=SFREQ, output="sos"), values)


def _log_power(data, names, band):
    eeg = data[:, [CH_NAMES.index(name) for name in names]]
    filtered = signal.sosfiltfilt(signal.butter(4, band, "bandpass", fs=SFREQ, output="sos"), eeg)
    return np.log(_segments(filtered**2).mean(axis=(1, 3)))


def _eeg_features(data):
    return {
        "frontal_alpha_asymmetry": _log_power(data, RIGHT_FRONTAL, (8, 13)) - _log_power(data, LEFT_FRONTAL, (8, 13)),
        "temporal_beta": _log_power(data, TEMPORAL, (14, 29)),
        "temporal_gamma": _log_power(data, TEMPORAL, (31, 44)),
        "posterior_alpha": _log_power(data, POSTERIOR, (8, 13)),
        "frontocentral_theta": _log_power(data, FRONTOCENTRAL, (4.5, 7.5)),
        "frontocentral_beta": _log_power(data, FRONTOCENTRAL, (14, 29)),
    }


def _skin_responses(conductance):
    """Number of steep rises in each segment, and the mean logarithm of their steepness."""
    rise = np.gradient(_low(conductance, 3)) * SFREQ
    peaks, _ = signal.find_peaks(rise, height=0.03, prominence=0.03)
    segment = (peaks - START) // SEGMENT
    counts = np.array([(segment == index).sum() for index in range(N_SEGMENTS)])
    sums = np.array([np.log(rise[peaks[segment == index]]).sum() for index in range(N_SEGMENTS)])
    return counts, np.where(counts > 0, sums / np.maximum(counts, 1), np.log(rise[peaks]).mean() if len(peaks) else -3)


def _heart_rate(pulse):
    band = signal.butter(2, (0.5, 6), "bandpass", fs=SFREQ, output="sos")
    peaks, _ = signal.find_peaks(signal.sosfiltfilt(band, pulse), distance=45, prominence=0.4 * np.ptp(pulse))
    rate = np.interp(np.arange(len(pulse)), (peaks[1:] + peaks[:-1]) / 2, 60 * SFREQ / np.diff(peaks))
    return _segments(rate).mean(axis=-1)


def _features(data):
    """(n_trials, n_params, N_SEGMENTS), in the order of PARAMETERS."""
    heog, _, zygomatic, trapezius, gsr, resp, pulse, temperature = data[:, 32:].swapaxes(0, 1)
    band = signal.butter(2, (0.05, 1), "bandpass", fs=SFREQ, output="sos")
    breath = signal.hilbert(signal.sosfiltfilt(band, resp))
    responses = np.array([_skin_responses(each) for each in 1e6 / gsr])
    found = _eeg_features(data) | {
        "saccades": np.log(np.quantile(_segments(np.abs(np.gradient(_low(heog, 20), axis=1))), 0.97, axis=-1)),
        "zygomatic": np.log(_segments(zygomatic**2).mean(axis=-1)),
        "trapezius": np.log(_segments(trapezius**2).mean(axis=-1)),
        "scr_rate": responses[:, 0],
        "scr_amplitude": responses[:, 1],
        "respiration_rate": _segments(np.gradient(np.unwrap(np.angle(breath)), axis=1)).mean(axis=-1),
        "respiration_depth": np.log(_segments(np.abs(breath)).mean(axis=-1)),
        "heart_rate": np.array([_heart_rate(each) for each in pulse]),
        "temperature_slope": np.diff(temperature[:, START - 1 :: SEGMENT], axis=1),
    }
    return np.stack([found[parameter.name] for parameter in PARAMETERS], axis=1)


@pytest.mark.parametrize("parameter", PARAMETERS, ids=lambda parameter: parameter.name)
def test_theta_is_readable_where_there_is_no_other_noise(parameter):
    index, levels = PARAMETERS.index(parameter), np.linspace(-2.5, 2.5, 11)
    theta = np.zeros((len(levels), len(PARAMETERS), N_SEGMENTS + 1))
    theta[:, index, 1:] = levels[:, None]
    data = np.stack([synthesise(each, BLOCKS_S, np.zeros(3), generator(Simulation(), 1, 9, 9)) for each in theta])
    measured = _features(data)[:, index].mean(axis=1)
    assert spearmanr(levels, measured).statistic > 0.98
    # a step of one is far above what the estimate scatters
    assert measured[-1] - measured[0] > 5 * np.std(measured - np.polyval(np.polyfit(levels, measured, 3), levels))


@pytest.fixture(scope="module")
def measured():
    """Features, subject and class of 12 subjects' trials of the default model."""
    simulation, found = Simulation(n_trials=30), []
    for subject in range(1, 13):
        trials = draw_trials(simulation, subject)
        features = _features(trial_data(simulation, subject, trials))
        found.append((features, trials.theta, (trials.ratings[:, :2] > 5) @ [1, 2], np.full(30, subject)))
    return [np.concatenate(each) for each in zip(*found, strict=True)]


def test_features_follow_theta(measured):
    features, theta, _, _ = measured
    for index, parameter in enumerate(PARAMETERS):
        trial = np.corrcoef(features[:, index].mean(axis=1), theta[:, index].mean(axis=1))[0, 1]
        segment = np.corrcoef(features[:, index].ravel(), theta[:, index].ravel())[0, 1]
        assert trial > 0.93, parameter.name
        assert segment > 0.7, parameter.name


@pytest.mark.parametrize(("names", "floor"), [([*ROWS], 0.55), (PERIPHERALS, 0.38)])
def test_plain_features_come_near_the_bound_but_not_above(measured, names, floor):
    features, _, true, subject = measured
    used = features[:, [parameter.modality in names for parameter in PARAMETERS]].mean(axis=2)
    predicted = np.empty_like(true)
    for fold in range(4):
        test = subject % 4 == fold
        predicted[test] = LinearDiscriminantAnalysis().fit(used[~test], true[~test]).predict(used[test])
    accuracy = np.mean([(predicted[true == index] == index).mean() for index in range(4)])
    bound = possible(Simulation(), names, DRIVES, 6.0, 6.0)["trial"].balanced_accuracy
    assert floor < accuracy < bound + 3 * np.sqrt(bound * (1 - bound) / len(true))


def test_baseline_features_do_not_know_the_class():
    simulation = Simulation(n_trials=40)
    baseline, drives = [], []
    for subject in (21, 22, 23):
        trials = draw_trials(simulation, subject)
        data = trial_data(simulation, subject, trials)[:, :, :START]
        baseline.append(np.hstack([np.log(data.std(axis=2)), data[:, 36:].mean(axis=2)]))
        drives.append(trials.drives)
    every = np.hstack([np.concatenate(baseline), np.concatenate(drives)])
    assert np.abs(np.corrcoef(every.T)[:-2, -2:]).max() < 4.5 / np.sqrt(len(every))
