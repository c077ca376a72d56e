"""Beats: found at any rate a heart has, whatever the signal's size and the lead's polarity, and not invented."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from mtkd.config import Modality
from mtkd.layers.encoder import WindowEncoder, fit_scales
from mtkd.layers.rhythm import RHYTHMS, Rhythm, intervals, rhythm_of
from mtkd.shards.batch import Batch
from mtkd.shards.schema import Layout

SFREQ = 125.0
HEART, BREATH = RHYTHMS["ecg"], RHYTHMS["resp"]


def heart(beats_s: np.ndarray, seconds: float, sfreq: float = SFREQ) -> Tensor:
    """An ECG with a QRS complex of 80 ms and a T wave of a third of its height at each beat."""
    times = np.arange(round(seconds * sfreq)) / sfreq
    since = times - beats_s[:, None]
    qrs = np.exp(-((since / 0.012) ** 2)) - 0.25 * np.exp(-(((since - 0.03) / 0.012) ** 2))
    wave = qrs + 0.33 * np.exp(-(((since - 0.25) / 0.05) ** 2))
    return torch.tensor(1e-3 * wave.sum(0), dtype=torch.float32)


def wave(seconds: float, period_s: float, sfreq: float) -> Tensor:
    return torch.sin(2 * torch.pi * torch.arange(round(seconds * sfreq)) / sfreq / period_s)


@given(st.floats(0.35, 1.9), st.floats(0, 1), st.sampled_from([64.0, 125.0, 250.0, 500.0]))
def test_the_interval_is_found_at_the_rates_of_a_heart(interval_s: float, start: float, sfreq: float) -> None:
    beats = np.arange(0.15 + start * interval_s, 9.85, interval_s)  # at the very ends the filter rings
    found, known = intervals(heart(beats, 10, sfreq), sfreq, HEART)
    assert known.all()
    assert math.exp(found[0]) == pytest.approx(interval_s, abs=1.5 / sfreq)
    assert math.exp(found[1]) < 0.005 + 3 / sfreq
    assert found[2] >= 0.8


@given(st.integers(0, 1000), st.floats(0.01, 0.05))  # of more, some intervals would count as odd
def test_its_deviation_is_that_of_the_beats(seed: int, deviation_s: float) -> None:
    random = np.random.default_rng(seed)
    beats = 0.4 + np.cumsum(0.8 + deviation_s * random.uniform(-1.7, 1.7, 12))
    whole = beats[beats < 9.85]
    found, _ = intervals(heart(whole, 10), SFREQ, HEART)
    assert math.exp(found[1]) == pytest.approx(np.diff(whole).std() + 0.005, abs=0.02)


@given(st.integers(0, 1000), st.floats(1e-6, 1e6), st.booleans())
def test_neither_size_nor_polarity_nor_level_matters(seed: int, scale: float, flipped: bool) -> None:
    random = np.random.default_rng(seed)
    signal = (
        heart(np.cumsum(random.uniform(0.6, 1.1, 9)), 10) + 2e-5 * torch.tensor(random.standard_normal(1250)).float()
    )
    found, known = intervals(signal, SFREQ, HEART)
    other, also = intervals(scale * (-1 if flipped else 1) * (signal + 1e-3), SFREQ, HEART)
    assert torch.equal(known, also)
    torch.testing.assert_close(other, found, rtol=1e-3, atol=0.03)  # a maximum may move by a sample


@given(st.floats(1.5, 9.0), st.floats(0.1, 1.0))
def test_breaths_too(period_s: float, scale: float) -> None:
    found, _ = intervals(scale * wave(30, period_s, 16.0), 16.0, BREATH)
    assert math.exp(found[0]) == pytest.approx(period_s, rel=0.05, abs=0.1)


def test_a_missed_beat_does_not_make_a_slow_heart() -> None:
    beats = np.delete(np.arange(0.3, 10, 0.8), 5)
    found, _ = intervals(heart(beats, 10), SFREQ, HEART)
    assert math.exp(found[0]) == pytest.approx(0.8, abs=0.01)
    assert found[2] == pytest.approx(10 / 11)


def test_of_a_flat_line_and_of_a_single_beat_nothing_is_known() -> None:
    signals = torch.stack([torch.zeros(1250), heart(np.array([5.0]), 10)])
    found, known = intervals(signals, SFREQ, HEART)
    assert known.tolist() == [[False, False, True]] * 2
    assert found.isfinite().all()


@pytest.mark.parametrize(
    ("modality", "sfreq", "window_s", "expected"),
    [("ecg", 125.0, 4.0, HEART), ("ecg", 125.0, 3.9, None), ("ecg", 32.0, 10.0, None), ("eda", 125.0, 60.0, None)],
)
def test_only_where_window_and_rate_hold_it(
    modality: Modality, sfreq: float, window_s: float, expected: Rhythm | None
) -> None:
    assert rhythm_of(modality, sfreq, window_s) == expected


def test_no_window_has_no_rhythm() -> None:
    found, known = intervals(torch.zeros(0, 2, 1250), SFREQ, HEART)
    assert found.shape == known.shape == (0, 2, 3)


def test_an_encoder_fits_it_where_it_is_known() -> None:
    encoder = WindowEncoder("ecg", Layout(ch_names=["a", "b"], sfreq=SFREQ), 10.0, 8, 16)
    slow, fast = (heart(np.arange(0.3, 10, each), 10) for each in (1.0, 0.8))
    signal = torch.stack([slow, fast])[:, None].expand(2, 2, -1)
    valid = torch.tensor([[True, True], [True, False]])
    steps = torch.ones(1, 2, dtype=torch.bool)
    batch = Batch({"ecg": signal[None]}, {"ecg": valid[None]}, steps, torch.tensor([0]), ["k"])
    fit_scales({"ecg": encoder}, lambda: [batch], lambda sums: sums)
    mean = encoder.rhythm_scale.mean[:, 0].exp()
    assert mean.tolist() == pytest.approx([math.sqrt(0.8), 1.0], abs=0.02)  # of the fast window channel b is off
    said = encoder.eval()(signal, valid)
    with torch.no_grad():
        assert not torch.allclose(said[0], said[1])
