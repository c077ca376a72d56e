"""Band power and differential entropy against closed forms."""

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy import signal

from mtkd.layers.spectrum import band_power, differential_entropy, octaves

BANDS = [(1.0, 4.0), (4.0, 8.0), (8.0, 13.0), (13.0, 30.0), (30.0, 45.0)]
SFREQ, SECONDS = 128, 6


def sine(hertz: float, amplitude: float, phase: float = 0.0, sfreq: float = SFREQ) -> torch.Tensor:
    times = torch.arange(SECONDS * sfreq, dtype=torch.float64) / sfreq
    return amplitude * torch.sin(2 * math.pi * hertz * times + phase)


@given(st.integers(0, 4), st.floats(0.2, 0.8), st.floats(1e-6, 1e3), st.floats(0, 6.28), st.floats(-1e3, 1e3))
def test_a_sine_has_half_its_squared_amplitude_in_its_band_and_little_elsewhere(band, place, amplitude, phase, level):
    low, high = BANDS[band]
    hertz = low + place * (high - low)
    assume(min(hertz - low, high - hertz) > 0.5)  # three bins: beyond, a Hann window leaks next to nothing
    power = band_power(sine(hertz, amplitude, phase) + level * amplitude, SFREQ, BANDS)
    assert power[band] == pytest.approx(amplitude**2 / 2, rel=0.02)
    assert power.sum() - power[band] < 0.005 * power[band]


def test_a_level_has_no_power():
    bands = [(1 / SECONDS, 1.0), *BANDS]  # the taper spreads a level into the lowest frequency
    assert band_power(torch.full((768,), 5e-6, dtype=torch.float64), SFREQ, bands).max() < 1e-30


def test_band_power_is_scipys_periodogram():
    x = np.random.default_rng(0).normal(size=(3, 2, 768))
    freqs, density = signal.periodogram(x, SFREQ, window=signal.get_window("hann", 768), detrend="constant")
    found = band_power(torch.from_numpy(x), SFREQ, BANDS).numpy()
    for index, (low, high) in enumerate(BANDS):
        chosen = (freqs >= low) & (freqs < high)
        expected = density[..., chosen].sum(-1) * (freqs[1] - freqs[0])
        np.testing.assert_allclose(found[..., index], expected, rtol=1e-6)


def test_bands_that_tile_the_spectrum_share_out_the_variance():
    x = torch.randn(200, 768, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    power = band_power(x, SFREQ, [(0.0, 20.0), (20.0, 40.0), (40.0, 65.0)]).sum(-1).mean()
    assert float(power) == pytest.approx(1, rel=0.02)


def test_differential_entropy_of_white_noise_is_the_gaussians():
    sd = 1e-5  # volt
    x = sd * torch.randn(400, 768, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    for (low, high), found in zip(BANDS, differential_entropy(x, SFREQ, BANDS).mean(0), strict=True):
        variance = sd**2 * (high - low) / (SFREQ / 2)
        expected = 0.5 * math.log(2 * math.pi * math.e * variance)
        assert float(found) == pytest.approx(expected, abs=0.06)  # the mean of a logarithm lies a little lower


@given(st.floats(1e-3, 1e3))
def test_an_amplification_adds_its_logarithm(gain):
    x = torch.randn(768, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    added = differential_entropy(gain * x, SFREQ, BANDS) - differential_entropy(x, SFREQ, BANDS)
    np.testing.assert_allclose(added, math.log(gain), atol=1e-6)


def test_silence_has_a_finite_entropy_and_a_finite_gradient():
    x = torch.zeros(768, requires_grad=True)
    entropy = differential_entropy(x, SFREQ, BANDS)
    entropy.sum().backward()
    assert torch.isfinite(entropy).all()
    assert torch.isfinite(x.grad).all()


def test_single_precision_is_enough_for_microvolts():
    x = 1e-6 * torch.randn(4, 768, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    whole, single = differential_entropy(x, SFREQ, BANDS), differential_entropy(x.float(), SFREQ, BANDS)
    np.testing.assert_allclose(single, whole, atol=1e-4)


def bins(sfreq: int, seconds: int) -> np.ndarray:
    """The frequencies between none and Nyquist's."""
    return np.fft.rfftfreq(sfreq * seconds, 1 / sfreq)[1 : (sfreq * seconds + 1) // 2]


@given(st.integers(4, 600), st.integers(1, 60), st.integers(1, 4))
def test_octaves_cover_every_frequency_once_and_none_is_empty(sfreq, seconds, per_octave):
    bands = octaves(sfreq, seconds, per_octave)
    inside = np.array([[low <= freq < high for low, high in bands] for freq in bins(sfreq, seconds) + 1e-9])
    assert inside.any(axis=0).all()
    assert (inside.sum(axis=1) == 1).all()
    assert all(high == start for (_, high), (start, _) in itertools.pairwise(bands))
    assert bands[0][0] == 1 / seconds
    assert bands[-1][1] <= sfreq / 2


@given(st.sampled_from([8, 16, 32, 64, 100, 125, 128]), st.integers(1, 12))
def test_white_noise_has_power_in_every_octave(sfreq, seconds):
    x = torch.randn(sfreq * seconds, generator=torch.Generator().manual_seed(0))
    assert (band_power(x, sfreq, octaves(sfreq, seconds)) > 0).all()
