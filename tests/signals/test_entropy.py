"""Differential entropy of trials: that of the models, window by window."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mtkd.config import Entropy
from mtkd.layers import spectrum
from mtkd.signals.entropy import differential_entropy
from mtkd.signals.windows import n_samples

BANDS = [(1.0, 4.0), (4.0, 8.0), (8.0, 13.0), (13.0, 30.0), (30.0, 45.0)]


@given(st.integers(1, 5), st.sampled_from([0.5, 1.0, 2.0]), st.floats(1e-7, 1e-3), st.integers(0, 9))
def test_it_is_what_the_models_compute(n_chans, window_s, scale, seed):
    settings = Entropy(bands=BANDS[1:], window_s=window_s)
    data = scale * np.random.default_rng(seed).normal(1, 1, (n_chans, 700)).astype(np.float32)
    found = differential_entropy(data, 128.0, 700 / 128, settings)
    n_times = round(window_s * 128)
    n_windows = 700 // n_times
    assert found.shape == (n_chans, 4, n_windows)
    windows = torch.from_numpy(data[:, : n_windows * n_times].reshape(n_chans, n_windows, n_times))
    expected = spectrum.differential_entropy(windows.double(), 128.0, settings.bands)
    np.testing.assert_allclose(found, expected.numpy().transpose(0, 2, 1), atol=2e-3)


@pytest.mark.parametrize(("low", "high"), BANDS)
def test_twice_the_amplitude_is_the_logarithm_of_two_more(low, high):
    times = np.arange(1280) / 128
    wave = np.sin(2 * np.pi * (low + high) / 2 * times)[None] * 1e-5
    one, two = (differential_entropy(wave * factor, 128.0, 10.0, Entropy(bands=[(low, high)])) for factor in (1, 2))
    np.testing.assert_allclose(two - one, np.log(2), atol=1e-3)


def test_silence_is_finite():
    assert np.isfinite(differential_entropy(np.zeros((2, 256)), 128.0, 2.0, Entropy())).all()


@given(st.integers(1, 12), st.sampled_from([31.25, 62.5, 62.7, 125.0]), st.sampled_from([0.5, 1.0, 2.0]))
def test_there_are_as_many_windows_as_fit_at_any_rate(n_secs, sfreq, window_s):
    data = np.random.default_rng(0).normal(size=(2, n_samples(n_secs, sfreq)))
    found = differential_entropy(data, sfreq, n_secs, Entropy(bands=[(4.0, 8.0)], window_s=window_s))
    assert found.shape == (2, 1, int(n_secs / window_s))
