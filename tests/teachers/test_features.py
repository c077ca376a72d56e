"""What nodes carry."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mtkd.config import Spatial
from mtkd.errors import MtkdError
from mtkd.teachers.spatial.features import Filters, make_features

SFREQ, N_TIMES = 128.0, 768
ALL = torch.ones(2, dtype=torch.bool)


def sine(hertz: float, amplitude: float = 1e-5) -> torch.Tensor:
    return amplitude * torch.sin(2 * math.pi * hertz * torch.arange(N_TIMES) / SFREQ)


@given(st.integers(0, 2**31), st.integers(1, 6))
def test_a_filters_feature_is_the_entropy_of_its_output(seed: int, n_filters: int) -> None:
    random = torch.Generator().manual_seed(seed)
    filters = Filters(Spatial(n_filters=n_filters), SFREQ)
    taps = torch.randn(filters.taps.shape, generator=random)
    taps[:, -2:] = 0
    # nothing at zero and at the highest frequency: a one-sided periodogram counts both twice
    filters.taps.data = taps - taps.roll(2, dims=1)
    signal = 1e-5 * torch.randn(2, N_TIMES, generator=random)
    taper = torch.hann_window(N_TIMES, dtype=torch.float64).numpy()
    tapered = (signal - signal.mean(-1, keepdim=True)).double().numpy() * taper / np.sqrt(np.mean(taper**2))
    for row, taps in enumerate(filters.taps.detach().double().numpy()):
        spectrum = np.abs(np.fft.rfft(taps, N_TIMES)) ** 2
        kernel = taps / np.sqrt(spectrum.sum())
        padded = np.concatenate([tapered, tapered], axis=-1)  # a circle in time
        output = np.stack([np.convolve(each, kernel)[N_TIMES : 2 * N_TIMES] for each in padded])
        expected = 0.5 * np.log(2 * math.pi * math.e * (output**2).mean(-1))
        np.testing.assert_allclose(filters(signal, ALL).detach()[:, row], expected, atol=1e-4)


def test_filters_begin_as_band_passes_from_slow_to_fast() -> None:
    filters = Filters(Spatial(n_filters=8), SFREQ)
    loudest = [int(filters(sine(hertz)[None], ALL[:1]).argmax()) for hertz in (2, 3, 8, 20, 51)]
    assert loudest == sorted(loudest)
    assert (loudest[0], loudest[-1]) == (0, 7)


@given(st.floats(1e-3, 1e3))
def test_a_gain_of_the_filters_changes_nothing(gain: float) -> None:
    noise = 1e-5 * torch.randn(2, N_TIMES, generator=torch.Generator().manual_seed(0))
    filters = Filters(Spatial(), SFREQ)
    before = filters(noise, ALL).detach()
    filters.taps.data *= gain
    torch.testing.assert_close(filters(noise, ALL).detach(), before)


def test_a_filter_too_short_for_the_rate_is_refused() -> None:
    with pytest.raises(MtkdError, match=r"spatial\.filter_s: 0\.01 s are too short a filter at 128 Hz"):
        make_features(Spatial(features="learned", filter_s=0.01), 4, SFREQ)
