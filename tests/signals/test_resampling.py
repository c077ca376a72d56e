"""To another rate: levels and slopes stay what they are, any two rates will do, and rounding is no difference."""

import re
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mtkd.config import ModalitySignals
from mtkd.errors import MtkdError
from mtkd.signals.steps.filters import bandpass, resample
from mtkd.signals.steps.piece import Piece

RATES = st.sampled_from([4.0, 10.0, 16.0, 100.0, 128.0, 250.0, 256.0, 499.907, 512.0])
NEAR = st.sampled_from([1 - 1e-3, 1 - 4e-6, 1 - 1e-7, 1 + 1e-7, 1 + 4e-6, 1 + 1e-3])


def resampled(rows: np.ndarray, sfreq: float, to: float, phase: str = "zero") -> np.ndarray:
    """What (n_chans, n_times) become, in double precision."""
    modality = ModalitySignals.model_validate({"sfreq": to, "phase": phase})
    n_secs = int(np.ceil(rows.shape[1] / sfreq))
    names = [f"c{row}" for row in range(len(rows))]
    piece = Piece(rows, np.ones((len(rows), n_secs), bool), sfreq, names, "temp", 0.0, modality, "s1.dat")
    found = resample(piece)
    assert found.sfreq == to
    return found.data


def noise(n_times: int, n_chans: int = 1) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(n_chans, n_times))


@settings(max_examples=60)
@given(RATES, RATES, st.integers(1, 400), st.floats(-1e6, 1e6))
def test_a_constant_stays_one_to_the_last_digit(sfreq, to, n_times, level):
    found = resampled(np.full((2, n_times), level), sfreq, to)
    assert found.shape == (2, round(n_times * to / sfreq))
    np.testing.assert_array_equal(found, level)


@settings(max_examples=60)
@given(RATES, RATES, st.floats(-1e6, 1e6))
def test_a_level_adds_nothing_but_itself(sfreq, to, level):
    """Each new sample is made of other taps in turn: 30 mV under an electrode would be a tone of some microvolts."""
    rows = noise(400)
    late = np.where(np.arange(400) < 100, 0.0, level)  # it is not the first sample's
    plain, found = resampled(rows, sfreq, to), resampled(rows + late, sfreq, to)
    times = np.arange(found.shape[1]) / to * sfreq  # in samples of the old rate
    reach = 11 * max(1, sfreq / to)
    behind = (times > 100 + reach) & (times < 400 - reach)
    np.testing.assert_allclose((found - plain)[:, behind], level, rtol=1e-9, atol=1e-9)


@settings(max_examples=60)
@given(RATES, RATES, st.integers(2, 400), st.floats(-100, 100))
def test_a_slope_is_the_same_up_to_both_ends(sfreq, to, n_times, level):
    found = resampled(level + np.arange(n_times)[None] / sfreq, sfreq, to)
    error = found - level - np.arange(found.shape[1]) / to
    assert np.abs(error).max(initial=0) < 0.02 / min(sfreq, to)


@given(RATES, RATES, st.data())
def test_no_channel_hears_another(sfreq, to, data):
    rows = noise(300, 3)
    row = data.draw(st.integers(0, 2))
    np.testing.assert_array_equal(resampled(rows[row : row + 1], sfreq, to)[0], resampled(rows, sfreq, to)[row])


@pytest.mark.parametrize(
    ("sfreq", "to", "seconds"), [(31.98765, 256.0, 70), (1.0000321, 64.0, 70), (499.907, 128.0, 60), (1.0001, 16, 60)]
)
def test_rates_that_have_hardly_a_factor_in_common_take_no_longer(sfreq, to, seconds):
    """Their filters had millions of taps, and were made anew for each trial."""
    hertz = 0.1 * min(sfreq, to)
    started = time.process_time()
    for trial in range(5):
        rows = np.sin(2 * np.pi * hertz * np.arange(round(seconds * sfreq) - trial)[None] / sfreq)
        found = resampled(rows, sfreq, to)
    assert time.process_time() - started < 5
    expected = np.sin(2 * np.pi * hertz * np.arange(found.shape[1]) / to)
    inner = slice(round(12 * to / min(sfreq, to)), -round(12 * to / min(sfreq, to)))
    np.testing.assert_allclose(found[0, inner], expected[inner], atol=0.01)


@settings(max_examples=30)
@given(NEAR, st.sampled_from([(1, 1), (1, 2), (2, 1), (2, 3)]), st.integers(1, 150_000))
def test_rates_that_are_nearly_simple_give_as_many_samples_as_they_must(near, ratio, n_times):
    sfreq, to = 256.0 * near, 256.0 * ratio[0] / ratio[1]
    found = resampled(np.arange(n_times, dtype=float)[None], sfreq, to)
    assert found.shape == (1, round(n_times * to / sfreq))
    np.testing.assert_allclose(found[0], np.arange(found.shape[1]) * sfreq / to, atol=1.5)


@pytest.mark.parametrize(("sfreq", "to"), [(1e6, 1.0), (1.0, 1e6), (2e5, 1.0), (1.0, 2e5)])
def test_rates_that_are_too_far_apart_are_refused(sfreq, to):
    told = re.escape(f"s1.dat: signals.modalities.temp: {to:g} Hz cannot be made of {sfreq:g} Hz")
    with pytest.raises(MtkdError, match=f"^{told}$"):
        resampled(noise(10), sfreq, to)


@pytest.mark.parametrize("phase", ["causal", "zero"])
@settings(max_examples=40)
@given(st.integers(1, 16), st.sampled_from([4.0, 50.0, 128.0, 250.0, 1000 / 3]), st.floats(-4e-10, 4e-10))
def test_rates_that_differ_by_rounding_are_the_same(phase, step, to, rounding):
    """A record of 0.7 s with 175 samples has 250.00000000000003 Hz, if one divides."""
    rows = noise(50 * step)
    found = resampled(rows, step * to * (1 + rounding), to, phase)
    np.testing.assert_allclose(found, resampled(rows, step * to, to, phase), atol=1e-6)


@pytest.mark.parametrize(("step", "to"), [(2, 128.0), (4, 125.0), (25, 20.0), (125, 4.0)])
@settings(max_examples=20)
@given(st.floats(-1e3, 1e3), st.floats(-1e3, 1e3))
def test_a_slow_change_passes_a_causal_filter_as_a_level_does(step, to, start, height):
    """By the ripple of the filter, it would have lost a hundredth of its height, and a level nothing."""
    rows = np.full((1, round(30 * step * to)), start)
    rows[:, round(10 * step * to) :] += height
    found = resampled(rows, step * to, to, "causal")
    np.testing.assert_allclose(found[0, -round(2 * to) :], start + height, rtol=1e-6, atol=1e-3 * abs(height) + 1e-9)


@pytest.mark.parametrize(("phase", "passes"), [("causal", 0.4), ("zero", 0.45)])
@pytest.mark.parametrize(("sfreq", "to"), [(256.0, 128.0), (1000.0, 125.0), (512.0, 16.0)])
def test_a_band_is_refused_where_resampling_leaves_nothing_of_it(phase, passes, sfreq, to):
    modality = ModalitySignals.model_validate({"sfreq": to, "phase": phase})
    times = np.arange(round(20 * sfreq)) / sfreq
    piece = Piece(
        np.sin(2 * np.pi * 0.99 * passes * to * times)[None],
        np.ones((1, 20), bool),
        sfreq,
        ["c"],
        "emg",
        0.0,
        modality,
        "s1",
    )
    found = resample(bandpass(piece, (passes - 0.02) * to, None)).data[0]
    assert np.std(found[len(found) // 4 : -len(found) // 4]) * np.sqrt(2) > 0.5
    with pytest.raises(MtkdError, match="nothing passes"):
        bandpass(piece, passes * to, None)


@pytest.mark.parametrize(
    ("step", "to", "late_s"), [(4, 125.0, 0.014), (25, 20.0, 0.1), (125, 4.0, 0.5), (512, 1.0, 1.9)]
)
def test_a_causal_filter_is_as_late_as_the_readme_says(step, to, late_s):
    rows = np.zeros((1, round(40 * step * to)))
    rows[:, rows.shape[1] // 2 :] = 1.0
    found = resampled(rows, step * to, to, "causal")[0]
    after = int(np.argmax(found >= 0.5))
    crossed = after - (found[after] - 0.5) / (found[after] - found[after - 1])
    assert crossed / to - 20 == pytest.approx(late_s, rel=0.08)
    assert 1.5 < crossed - 20 * to < 2
