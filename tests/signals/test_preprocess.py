"""From recordings to the arrays of trials: what filters may see, what masks must say, what a cut holds."""

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mtkd.config import ModalitySignals, Signals
from mtkd.errors import MtkdError
from mtkd.signals.preprocess import Signal, preprocess

SFREQ = 128.0


def noise(n_chans: int = 2, seconds: float = 8, seed: int = 0, sfreq: float = SFREQ) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n_chans, round(seconds * sfreq)))


def sine(hertz: float, seconds: float = 20, sfreq: float = SFREQ) -> np.ndarray:
    return np.sin(2 * np.pi * hertz * np.arange(round(seconds * sfreq)) / sfreq)[None]


def middle(signal: Signal) -> np.ndarray:
    """Its first channel without the first and the last quarter, where filters swing in."""
    n_times = signal.data.shape[1]
    return signal.data[0, n_times // 4 : -n_times // 4].astype(float)


bands = st.sampled_from([(None, None), (1.0, 30.0), (None, 5.0), (10.0, None)])


@settings(max_examples=40)
@given(bands, st.sampled_from([128.0, 64.0, 16.0]), st.integers(1, 1000), st.floats(-1e3, 1e3))
def test_what_a_causal_filter_gives_does_not_know_what_comes_next(one, band, to, at, jump):
    if band[0] is not None and band[0] >= 0.4 * to:
        band = (None, None)
    rows = noise()
    changed = rows.copy()
    changed[:, at:] += jump
    before, after = (one(each, band=band, phase="causal", to=to)[0].data for each in (rows, changed))
    n_past = -(-at * round(to) // round(SFREQ))  # samples whose time lies before the change
    np.testing.assert_array_equal(before[:, :n_past], after[:, :n_past])


def test_what_a_zero_phase_filter_gives_does_know(one):
    rows = noise()
    changed = rows.copy()
    changed[:, 500:] += 10
    before, after = (one(each, band=(1.0, 30.0), phase="zero")[0].data for each in (rows, changed))
    assert not np.array_equal(before[:, :500], after[:, :500])


@pytest.mark.parametrize("to", [128.0, 64.0, 100.0, 256.0])
@pytest.mark.parametrize("hertz", [3.0, 10.0, 20.0])
def test_a_zero_phase_filter_does_not_delay(one, hertz, to):
    found = middle(one(sine(hertz), band=(1.0, 30.0), phase="zero", to=to)[0])
    expected = middle(Signal(sine(hertz, sfreq=to), np.ones((1, 20), bool), to, ["x"]))
    gain = found @ expected / (expected @ expected)
    assert gain > 0.9
    np.testing.assert_allclose(found, gain * expected, atol=0.02)  # in phase: nothing is left beside the gain


def test_a_causal_filter_delays_and_passes_its_band(one):
    found, expected = middle(one(sine(10.0), band=(1.0, 30.0), phase="causal")[0]), sine(10.0)[0, 640:-640]
    lags = range(30)
    overlap = [found[lag:] @ expected[: len(expected) - lag] for lag in lags]
    assert int(np.argmax(overlap)) > 0
    assert np.std(found) / np.std(expected) == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize("phase", ["causal", "zero"])
@pytest.mark.parametrize("hertz", [0.1, 60.0])
def test_what_lies_outside_the_band_is_gone(one, phase, hertz):
    assert np.std(middle(one(sine(hertz, seconds=60), band=(1.0, 15.0), phase=phase)[0])) < 0.01


@pytest.mark.parametrize("to", [127.99, 128 / np.pi, 300.0])
def test_any_rate_can_be_reached_without_phase(one, to):
    (signal,) = one(sine(2.0), phase="zero", to=to)
    expected = np.sin(2 * np.pi * 2.0 * np.arange(signal.data.shape[1]) / to)
    assert np.abs(signal.data[0] - expected)[64:-64].max() < 0.01


def test_resampling_takes_no_longer_where_lengths_have_no_factor_in_common(one):
    """MNE made a filter of forty times the trial's length of it, at a rate that was not quite the one asked for."""
    started = time.process_time()
    (signal,) = one(sine(2.0, seconds=1_000_003 / 500, sfreq=500.0), sfreq=500.0, phase="zero", to=SFREQ)
    assert time.process_time() - started < 5
    expected = np.sin(2 * np.pi * 2.0 * np.arange(signal.data.shape[1]) / SFREQ)
    assert np.abs(signal.data[0] - expected)[128:-128].max() < 0.01


@pytest.mark.parametrize("hertz", [10.0, 12.0, 16.0, 20.0, 40.0])
def test_a_tone_above_the_new_nyquist_is_gone_after_resampling_without_phase(one, hertz):
    assert np.std(middle(one(sine(hertz), phase="zero", to=16.0)[0])) < 0.02


@pytest.mark.parametrize(("to", "high"), [(16.0, 5.0), (16.0, 2.0), (32.0, 8.0)], ids=["as eda", "as resp", "as ppg"])
@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_no_tone_above_the_new_nyquist_is_folded_into_a_causal_pass_band(one, to, high, share):
    folded = to - high + share * high  # appears between 0 and high
    found = np.std(middle(one(sine(folded), band=(None, high), phase="causal", to=to)[0]))
    assert found < 0.05 * np.std(sine(folded))


@pytest.mark.parametrize("hertz", [8.1, 9.0, 10.0, 12.0, 16.0, 20.0, 40.0])
def test_a_tone_above_the_new_nyquist_is_gone_after_a_causal_filter_without_a_band(one, hertz):
    assert np.std(middle(one(sine(hertz), phase="causal", to=16.0)[0])) < 0.002


@pytest.mark.parametrize("hertz", [0.5, 2.0, 4.0, 6.3])
def test_a_tone_well_below_the_new_nyquist_passes_a_causal_filter_without_a_band(one, hertz):
    found = np.std(middle(one(sine(hertz), phase="causal", to=16.0)[0]))
    assert found == pytest.approx(np.std(sine(hertz)), rel=0.03)


@pytest.mark.parametrize("phase", ["causal", "zero"])
@pytest.mark.parametrize("to", [128.0, 16.0])
def test_a_level_stays_from_the_first_sample_on(one, phase, to):
    level = 5e-6 + 1e-8 * noise(1)
    found = one(level, "eda", band=(None, 5.0), phase=phase, to=to)[0].data
    np.testing.assert_allclose(found, 5e-6, rtol=0.02)


@pytest.mark.parametrize(
    ("sfreq", "to"), [(128.0, 100.0), (512.0, 125.0), (100.0, 200.0), (250.5, 100.0), (64.0, 63.0)]
)
def test_a_causal_filter_cannot_reach_a_rate_that_is_no_whole_fraction(one, sfreq, to):
    with pytest.raises(MtkdError, match=rf"^s1\.dat: signals\.modalities\.emg\.sfreq = {to:g} Hz .* {sfreq:g} Hz"):
        one(noise(sfreq=sfreq), sfreq=sfreq, phase="causal", to=to)


@pytest.mark.parametrize("band", [(1.0, 64.0), (None, 70.0)])
def test_a_band_that_the_recording_does_not_hold_is_refused(one, band):
    with pytest.raises(
        MtkdError, match=rf"^s1\.dat: signals\.modalities\.emg\.steps: bandpass to {band[1]:g} Hz.* 64 Hz$"
    ):
        one(noise(), band=band)


@pytest.mark.parametrize("settings", [{"band": (30.0, 1.0)}, {"band": (5.0, 5.0)}, {"band": (10.0, 60.0), "to": 16.0}])
def test_a_band_that_passes_nothing_is_refused_and_not_taken_for_one_to_stop(one, settings):
    with pytest.raises(MtkdError, match=r"^s1\.dat: signals\.modalities\.emg.* nothing passes"):
        one(noise(), **settings)


def test_a_filter_that_cannot_be_made_is_refused_by_its_key(one):
    with pytest.raises(MtkdError, match=r"signals\.modalities\.emg"):
        one(noise(), band=(1e-7, None))


def test_preprocessing_leaves_the_recording_alone(recording):
    kinds = {"eeg": noise(3), "eda": noise(1), "emg": noise(2), "ecg": noise(1)}
    given = recording(kinds, [(1.0, 8.0)])
    untouched = {kind: rows.copy() for kind, rows in kinds.items()}
    steps = [{"notch": [50]}, {"bandpass": [1, 20]}, {"reference": "average"}, {"baseline": 1}, {"reject": 5}]
    eda = [{"bandpass": [None, 5]}, "resample", "split"]
    modalities = {
        "eeg": {"sfreq": 64, "steps": steps},
        "eda": {"sfreq": 16, "steps": eda},
        "emg": {"sfreq": SFREQ, "steps": [{"reject": 5}]},
        "ecg": {"sfreq": SFREQ, "phase": "zero", "steps": ["rate"]},
    }
    assert list(preprocess(given, Signals(modalities=modalities, lead_s=1)))
    for kind, rows in kinds.items():
        np.testing.assert_array_equal(rows, untouched[kind])


def test_only_modalities_of_the_study_that_the_recording_has_come_out(recording):
    given = recording({"eeg": noise(2), "eda": noise(1), "temp": noise(1)})
    signals = Signals(
        modalities={
            "eda": ModalitySignals(sfreq=16),
            "eeg": ModalitySignals(sfreq=128),
            "ppg": ModalitySignals(sfreq=32),
        }
    )
    ((_, trial),) = preprocess(given, signals)
    assert {name: (len(each.data), each.sfreq) for name, each in trial.items()} == {"eda": (1, 16), "eeg": (2, 128)}
    assert trial["eeg"].data.dtype == np.float32
    assert trial["eeg"].ch_names == ["eeg0", "eeg1"]


@given(st.integers(0, 700), st.integers(2, 300), st.sampled_from([100, 125, 128, 250]))
def test_a_cut_holds_exactly_its_samples(one, start, length, sfreq):
    rows = np.arange(1, 1025, dtype=float)[None]
    spans = [(start / sfreq, start / sfreq + length / sfreq)]  # numbers that floats only come near to
    (found,) = one(rows, spans=spans, sfreq=float(sfreq))
    np.testing.assert_array_equal(found.data[0], rows[0, start : start + length])
    assert found.valid.shape == (1, -(-length // sfreq))
    assert found.valid.all()


def test_streams_of_different_rates_are_cut_at_the_same_seconds(recording):
    rows = {"emg": noise(1), "temp": noise(1, sfreq=4.0)}
    given = recording(rows, [(2.0, 5.5)], {"emg": SFREQ, "temp": 4.0})
    signals = Signals(modalities={"emg": {"sfreq": SFREQ}, "temp": {"sfreq": 4}})
    ((_, trial),) = preprocess(given, signals)
    np.testing.assert_allclose(trial["emg"].data, rows["emg"][:, 256:704], atol=1e-6)
    np.testing.assert_allclose(trial["temp"].data, rows["temp"][:, 8:22], atol=1e-6)
    assert trial["emg"].valid.shape == trial["temp"].valid.shape == (1, 4)


def test_all_trials_of_a_recording_come_out_in_their_order(recording):
    spans = [(4.0, 6.0), (0.0, 3.0), (2.5, 3.5)]
    rows = noise(1)
    given = recording({"emg": rows}, spans)
    found = preprocess(given, Signals(modalities={"emg": ModalitySignals(sfreq=SFREQ)}))
    assert [(span.start_s, span.stop_s) for span, _ in found] == spans
    for span, trial in found:
        edges = slice(round(span.start_s * SFREQ), round(span.stop_s * SFREQ))
        np.testing.assert_allclose(trial["emg"].data[0], rows[0, edges], atol=1e-6)


@given(st.integers(0, 600), st.integers(2, 400), st.lists(st.integers(0, 1023), max_size=4))
def test_a_trials_second_is_valid_where_all_its_samples_are(one, start, length, damaged):
    rows = noise(1)
    rows[0, damaged] = np.nan
    (found,) = one(rows, spans=[(start / SFREQ, (start + length) / SFREQ)])
    trial = rows[0, start : start + length]
    for second, valid in enumerate(found.valid[0]):
        own = trial[128 * second : 128 * (second + 1)]
        assert valid == np.isfinite(own).all() or np.isfinite(trial).sum() < 2  # one sample alone is flat
        if valid:
            np.testing.assert_allclose(found.data[0, 128 * second : 128 * (second + 1)], own, atol=1e-6)


@pytest.mark.parametrize("phase", ["causal", "zero"])
@pytest.mark.parametrize("lead_s", [0.0, 0.5, 2.0])
def test_a_trial_does_not_know_how_much_recording_there_was_before_its_lead(one, lead_s, phase):
    """Else where a trial lies in its file, and so perhaps its class, could be read from how settled its filters are."""
    rows, duration_s = noise(3, seconds=10), 4.0
    n_lead = round(lead_s * SFREQ)
    settings = {"band": (1.0, 30.0), "phase": phase, "lead_s": lead_s, "to": 64.0, "reference": "average"}
    cut_off = rows[:, 640 - n_lead :]
    (late,) = one(rows, "eeg", spans=[(5.0, 5.0 + duration_s)], **settings)
    (early,) = one(cut_off, "eeg", spans=[(lead_s, lead_s + duration_s)], **settings)
    np.testing.assert_array_equal(late.data, early.data)
    np.testing.assert_array_equal(late.valid, early.valid)
    assert late.data.shape == (3, 256)


def test_a_lead_lets_a_filter_settle(one):
    rows = sine(10.0) + 5.0 * sine(0.05)
    settled, cold = (one(rows, spans=[(8.0, 9.0)], band=(1.0, 30.0), lead_s=lead_s)[0] for lead_s in (4.0, 0.0))
    whole = one(rows, band=(1.0, 30.0))[0].data[:, 1024:1152]
    assert np.abs(settled.data - whole).max() < 0.05 < np.abs(cold.data - whole).max()


def test_a_trial_without_its_lead_is_refused(one):
    with pytest.raises(MtkdError, match=r"^s1\.dat: the trial t1 starts 1\.5 s into .* signals\.lead_s = 2 s"):
        one(noise(), spans=[(2.0, 4.0), (1.5, 3.0)], lead_s=2.0)


@given(st.integers(3000, 9000), st.sampled_from([(250.0, 250.0), (500.0, 250.0), (512.0, 128.0), (256.0, 16.0)]))
def test_a_trial_has_as_many_samples_as_its_duration_wherever_it_starts(one, start_ms, rates):
    sfreq, to = rates
    start_s = start_ms / 1000
    (signal,) = one(noise(1, 26, sfreq=sfreq), sfreq=sfreq, to=to, spans=[(start_s, start_s + 16)], lead_s=3.0)
    assert signal.data.shape[1] == 16 * to
    (last,) = one(noise(1, 26, sfreq=sfreq), sfreq=sfreq, to=to, spans=[(10 - 1e-7, 26 - 1e-7)], lead_s=3.0)
    assert last.data.shape[1] == 16 * to


@pytest.mark.parametrize(("lead_s", "duration_s"), [(3.0, 10.0), (2.5, 60.0), (0.0, 11.0)])
def test_a_slow_sensor_is_as_long_as_the_trial(one, lead_s, duration_s):
    """Half of one of its samples lies behind the trial's end, and a whole one would be missing without it."""
    edges = [(lead_s, lead_s + duration_s)]
    (signal,) = one(noise(1, 80, sfreq=0.5), "temp", edges, sfreq=0.5, to=4.0, lead_s=lead_s, phase="zero")
    assert signal.data.shape[1] == round(duration_s * 4)


def test_a_trial_beyond_a_signals_end_is_refused_by_it(recording):
    given = recording({"emg": noise(1, 10), "temp": noise(1, 9, sfreq=4.0)}, [(1.0, 9.13)], {"emg": SFREQ, "temp": 4.0})
    signals = Signals(modalities={"emg": {"sfreq": SFREQ}, "temp": {"sfreq": 4}})
    with pytest.raises(MtkdError, match=r"^s1\.dat: the trial t0 ends at 9\.13 s, but temp at 9 s$"):
        list(preprocess(given, signals))
