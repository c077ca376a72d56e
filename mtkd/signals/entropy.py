"""Band-wise differential entropy of whole trials, for shards; ``mtkd.layers.spectrum`` has it inside a model."""

import numpy as np
from jaxtyping import Float

from mtkd.config import Entropy

_FLOOR = 1e-30  # volt squared, as in ``mtkd.layers.spectrum``


def differential_entropy(
    data: Float[np.ndarray, "n_chans n_times"], sfreq: float, settings: Entropy
) -> Float[np.ndarray, "n_chans n_bands n_windows"]:
    """Differential entropy of a Gaussian with each band's variance, in nats, window by window (Shi et al., EMBC 2013).

    Each window's level is taken off and a Hann window laid on; the variance inside [low, high) hertz is that of its
    periodogram.
    """
    n_times = round(settings.window_s * sfreq)
    n_windows = data.shape[1] // n_times
    pieces = data[:, : n_windows * n_times].reshape(len(data), n_windows, n_times).astype(np.float32)
    pieces -= pieces.mean(axis=-1, keepdims=True)
    taper = (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(n_times) / n_times)).astype(np.float32)
    spectrum = np.fft.rfft(pieces * taper)
    power = spectrum.real**2 + spectrum.imag**2
    freqs = np.fft.rfftfreq(n_times, 1 / sfreq)
    chosen = np.stack([(freqs >= low) & (freqs < high) for low, high in settings.bands], axis=1)
    weights = (chosen * 2 / (n_times * np.square(taper, dtype=float).sum())).astype(np.float64)
    variance = np.maximum(power @ weights, _FLOOR)
    return (0.5 * np.log(2 * np.pi * np.e * variance)).transpose(0, 2, 1).astype(np.float32)
