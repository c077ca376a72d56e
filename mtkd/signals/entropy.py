"""Band-wise differential entropy of whole trials, for shards; ``mtkd.layers.spectrum`` has it inside a model."""

import numpy as np
from jaxtyping import Float

from mtkd.config import Entropy
from mtkd.signals.windows import cut, n_windows

_FLOOR = 1e-30  # volt squared, as in ``mtkd.layers.spectrum``


def differential_entropy(
    data: Float[np.ndarray, "n_chans n_times"], sfreq: float, duration_s: float, settings: Entropy
) -> Float[np.ndarray, "n_chans n_bands n_windows"]:
    """Differential entropy of a Gaussian with each band's variance, in nats, window by window (Shi et al., EMBC 2013).

    Windows are those that ``cut`` finds in ``duration_s``, one behind the other. Each one's level is taken off and a
    Hann window laid on; the variance inside [low, high) hertz is that of its periodogram.
    """
    import scipy.fft  # which takes a tenth of a second, and most studies write no entropy

    n_times = round(settings.window_s * sfreq)
    n_steps = n_windows(duration_s, settings.window_s, settings.window_s)
    pieces = (
        cut(data, sfreq, settings.window_s, settings.window_s, n_steps).swapaxes(0, 1).astype(np.float32, order="C")
    )
    pieces -= pieces.mean(axis=-1, keepdims=True)
    taper = (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(n_times) / n_times)).astype(np.float32)
    pieces *= taper
    spectrum = scipy.fft.rfft(pieces, overwrite_x=True)
    freqs = scipy.fft.rfftfreq(n_times, 1 / sfreq)
    edges = np.searchsorted(freqs, settings.bands)
    both = spectrum.view(np.float32)  # real and imaginary parts side by side, whose squares add up alike
    power = np.stack([np.square(both[..., 2 * low : 2 * high]).sum(-1, dtype=float) for low, high in edges], axis=1)
    variance = np.maximum(power * (2 / (n_times * np.square(taper, dtype=float).sum())), _FLOOR)
    return (0.5 * np.log(2 * np.pi * np.e * variance)).astype(np.float32)
