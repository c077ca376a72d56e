"""How long a trial is: no window that fits into it is lost to a rate of which it is no whole number of samples."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mtkd.config import Signals
from mtkd.shards.schema import check_array, decode_array, encode
from mtkd.signals.preprocess import preprocess
from mtkd.signals.recording import Recording, Span, Stream
from mtkd.signals.windows import cut, n_samples, n_windows


def recording(n_times: dict[str, int], span: tuple[float, float], sfreqs: dict[str, float]) -> Recording:
    """Noise, one channel a modality, and one trial."""
    streams = {}
    for kind, n in n_times.items():
        rows = np.random.default_rng(0).normal(size=(1, n))
        streams[kind] = Stream([kind], sfreqs[kind], n, lambda start, stop, rows=rows: rows[:, start:stop])
    return Recording("s1", "s1.dat", streams, [Span("t0", "x", *span)])


RATES = [1.0, 2.0, 4.0, 31.25, 51.2, 62.5, 100.0, 128.0, 2048 / 7, 249.9, 250.0, 500.0]


@st.composite
def some_trial(draw):
    """Rates of three modalities, and a trial of some length that may lie at its file's end."""
    rates = {}
    for kind in ("emg", "eda", "temp"):
        sfreq, phase = draw(st.sampled_from(RATES)), draw(st.sampled_from(["causal", "zero"]))
        to = draw(st.sampled_from(RATES[2:])) if phase == "zero" else sfreq / draw(st.sampled_from([1, 2, 4, 5]))
        rates[kind] = sfreq, to, phase
    lead_s, duration_s = draw(st.sampled_from([0.0, 0.25, 1.3, 3.0])), draw(st.integers(20, 150)) / 10
    before_s, behind_s = draw(st.floats(0, 3)), draw(st.sampled_from([0.0, 0.01, 2.0]))
    return rates, lead_s, duration_s, lead_s + before_s, behind_s


@settings(max_examples=150)
@given(some_trial(), st.sampled_from([(1.0, 1.0), (2.0, 2.0), (2.0, 0.5), (1.6, 0.7)]))
def test_a_trial_holds_the_windows_that_fit_into_it_at_any_rates(trial, windows):
    rates, lead_s, duration_s, start_s, behind_s = trial
    n_native = {kind: round((start_s + duration_s + behind_s) * sfreq) for kind, (sfreq, _, _) in rates.items()}
    file_s = min(n_native[kind] / sfreq for kind, (sfreq, _, _) in rates.items())
    duration_s = min(duration_s, file_s - start_s)
    sfreqs = {kind: sfreq for kind, (sfreq, _, _) in rates.items()}
    given = recording(n_native, (start_s, start_s + duration_s), sfreqs)
    modalities = {kind: {"sfreq": to, "phase": phase} for kind, (_, to, phase) in rates.items()}
    ((span, signals),) = preprocess(given, Signals(modalities=modalities, lead_s=lead_s))
    info, members = encode("s1", span, signals)
    fastest = max(signal.sfreq for signal in signals.values())
    assert -1e-6 / fastest - 1e-9 <= info.duration_s - duration_s <= 0.5 / fastest + 1e-9
    n_steps = n_windows(info.duration_s, *windows)
    assert n_steps >= n_windows(round(duration_s, 9), *windows)
    for kind, signal in signals.items():
        assert signal.data.shape[1] == n_samples(info.duration_s, signal.sfreq)
        check_array(info, f"{kind}.npy", decode_array(members[f"{kind}.npy"]))
        check_array(info, f"{kind}.valid.npy", decode_array(members[f"{kind}.valid.npy"]))
        assert len(cut(signal.data, signal.sfreq, *windows, n_steps)) == n_steps


@pytest.mark.parametrize("phase", ["causal", "zero"])
@pytest.mark.parametrize(("seconds", "to"), [(10.0, 31.25), (5.0, 12.5), (10.0, 62.7)])
def test_ten_seconds_are_five_windows_of_two_where_that_is_no_whole_number_of_samples(phase, seconds, to):
    given = recording({"eda": round(80 * to)}, (3.0, 3.0 + seconds), {"eda": 4 * to})
    ((span, signals),) = preprocess(given, Signals(modalities={"eda": {"sfreq": to, "phase": phase}}, lead_s=3.0))
    info, _ = encode("s1", span, signals)
    assert n_windows(info.duration_s, seconds / 5, seconds / 5) == 5


def test_half_a_sample_that_a_table_rounded_away_costs_no_window():
    """Ten seconds, told to the millisecond by a clock that saw 9.999 s; two samples less are less than ten seconds."""
    for stop_s, n_steps in ((12.997, 5), (12.984, 4)):
        given = recording({"eeg": 2560, "eda": 2560}, (3.0, stop_s), {"eeg": 128.0, "eda": 128.0})
        ((span, signals),) = preprocess(given, Signals(modalities={"eeg": {"sfreq": 128}, "eda": {"sfreq": 16}}))
        assert n_windows(encode("s1", span, signals)[0].duration_s, 2.0, 2.0) == n_steps


@pytest.mark.parametrize("phase", ["causal", "zero"])
@pytest.mark.parametrize("to", [1.0, 2.0, 4.0])
@pytest.mark.parametrize("seconds", [5.1, 5.3, 5.5, 5.6])
def test_a_trial_knows_nothing_of_what_comes_after_it(phase, to, seconds):
    """Neither a gap right behind it nor another level there, where it ends between two samples of a slow sensor."""
    stop = 65 * 128 + math.ceil(seconds * 128 - 1e-6)
    found = []
    for after in (0.0, 1.0, np.nan):
        rows = np.random.default_rng(0).normal(size=(1, 80 * 128))
        rows[:, stop:] += after
        stream = Stream(["EDA"], 128.0, rows.shape[1], lambda start, stop, rows=rows: rows[:, start:stop])
        given = Recording("s1", "s1.dat", {"eda": stream}, [Span("t0", "x", 65.0, 65.0 + seconds)])
        ((_, signals),) = preprocess(given, Signals(modalities={"eda": {"sfreq": to, "phase": phase}}, lead_s=60.0))
        found.append(signals["eda"])
    for other in found[1:]:
        np.testing.assert_array_equal(found[0].data, other.data)
        assert other.valid.all()


@settings(max_examples=300)
@given(
    st.sampled_from([1.0, 31.25, 51.2, 62.5, 128.0, 292.6]),
    st.sampled_from([0.0, 0.6, 1.0, 2.5, 3.0, 5.0]),
    st.integers(0, 400),
    st.floats(2, 8),
    st.sampled_from([0.0, 0.3, 0.5, 0.7]),
)
def test_a_trial_is_made_of_its_own_samples(sfreq, lead_s, first, length_s, off):
    """From the one nearest to its start to the last that begins before its end, each of them that of the recording."""
    start_s = lead_s + (first + 1 + off) / sfreq
    own, past = math.floor(start_s * sfreq + 0.5 + 1e-6), math.ceil((start_s + length_s) * sfreq - 1e-6)
    rows = np.arange(past + 40.0)[None]
    rows[:, past:] = np.nan
    stream = Stream(["EDA"], sfreq, rows.shape[1], lambda start, stop: rows[:, start:stop])
    given = Recording("s1", "s1.dat", {"eda": stream}, [Span("t0", "x", start_s, start_s + length_s)])
    ((_, signals),) = preprocess(given, Signals(modalities={"eda": {"sfreq": sfreq, "steps": []}}, lead_s=lead_s))
    found = signals["eda"].data[0]
    expected = np.minimum(own + np.arange(len(found)), past - 1)  # at most one is beyond it: the last once more
    assert len(found) >= past - own - 1
    np.testing.assert_array_equal(found, expected)
    assert signals["eda"].valid.all()
