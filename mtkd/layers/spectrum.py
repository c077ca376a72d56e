"""Band-wise power and differential entropy of windows, vectorised and differentiable."""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

_FLOOR = 1e-30  # volt squared: far below any amplifier's noise, only keeps the logarithm finite


def periodogram(signal: Float[Tensor, "*batch time"]) -> Float[Tensor, "*batch freq"]:
    """Variance of the signal at each frequency of ``torch.fft.rfft``, from a Hann-windowed periodogram.

    The window's level is taken off first. Units are those of the signal, squared.
    """
    n_times = signal.shape[-1]
    if not signal.numel():  # no window at all, which MKL's transform does not take
        return signal.new_zeros(*signal.shape[:-1], n_times // 2 + 1)
    taper = torch.hann_window(n_times, device=signal.device, dtype=signal.dtype)
    spectrum = torch.fft.rfft((signal - signal.mean(-1, keepdim=True)) * taper)
    return 2 * (spectrum.real.square() + spectrum.imag.square()) / (n_times * taper.square().sum())


def band_power(
    signal: Float[Tensor, "*batch time"], sfreq: float, bands: Sequence[tuple[float, float]]
) -> Float[Tensor, "*batch band"]:
    """Variance of the signal inside each band [low, high) in hertz, see ``periodogram``."""
    freqs = torch.fft.rfftfreq(signal.shape[-1], 1 / sfreq, device=signal.device)
    chosen = torch.stack([(freqs >= low) & (freqs < high) for low, high in bands], dim=1)
    return periodogram(signal) @ chosen.to(signal.dtype)


def gaussian_entropy(variance: Float[Tensor, "*batch"]) -> Float[Tensor, "*batch"]:
    """Differential entropy of a Gaussian of a variance in volt squared, in nats."""
    return 0.5 * torch.log(2 * math.pi * math.e * variance.clamp_min(_FLOOR))


def differential_entropy(
    signal: Float[Tensor, "*batch time"], sfreq: float, bands: Sequence[tuple[float, float]]
) -> Float[Tensor, "*batch band"]:
    """Differential entropy of a Gaussian with each band's variance, in nats (Shi et al., EMBC 2013)."""
    return gaussian_entropy(band_power(signal, sfreq, bands))


def octaves(sfreq: float, window_s: float, per_octave: int = 2) -> list[tuple[float, float]]:
    """Bands of equal width on a logarithmic axis, from one period a window up to the Nyquist frequency, none empty."""
    low, high = 1 / window_s, sfreq / 2
    edges = [low * 2 ** (index / per_octave) for index in range(int(math.log2(high / low) * per_octave) + 1)]
    edges[-1] = high
    bands: list[tuple[float, float]] = []
    start = edges[0]
    for edge in edges[1:]:
        if math.floor(edge * window_s - 1e-9) >= math.ceil(start * window_s - 1e-9):
            bands.append((start, edge))
            start = edge
    return bands
