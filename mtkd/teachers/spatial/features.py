"""What a node carries: differential entropies, of fixed bands or of what learned filters let through."""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mtkd.config import Spatial
from mtkd.errors import MtkdError
from mtkd.layers.spectrum import differential_entropy, gaussian_entropy, periodogram


def make_features(settings: Spatial, sfreq: float) -> "Entropies | Filters":
    """The node features ``spatial.features`` of EEG at a rate in hertz.

    Raises:
        MtkdError: the rate does not hold a band, or is too low for the filters.
    """
    return Entropies(settings, sfreq) if settings.features == "entropy" else Filters(settings, sfreq)


class Entropies(nn.Module):
    """Differential entropy of each band of ``spatial.bands``."""

    def __init__(self, settings: Spatial, sfreq: float) -> None:
        super().__init__()
        for low, high in settings.bands:
            if not 0 <= low < high <= sfreq / 2:
                raise MtkdError(f"spatial.bands: {low:g} to {high:g} Hz is no band of EEG at {sfreq:g} Hz")
        self.sfreq, self.bands, self.n_features = sfreq, settings.bands, len(settings.bands)

    def forward(self, signal: Float[Tensor, "*batch time"]) -> Float[Tensor, "*batch feature"]:
        """Nats, of windows in volt."""
        return differential_entropy(signal, self.sfreq, self.bands)


class Filters(nn.Module):
    """Differential entropy of what learned temporal filters let through, the same filters at every electrode.

    A filter's output enters by its variance alone, and that is its response times the window's spectrum, so that no
    convolution along time is needed. They begin as band-passes at equal steps of pitch, and only the shape of their
    responses is learned: a gain would be taken off by the standardisation.
    """

    def __init__(self, settings: Spatial, sfreq: float) -> None:
        super().__init__()
        self.n_features = settings.n_filters
        n_taps = round(settings.filter_s * sfreq)
        lowest, highest = 2 / settings.filter_s, 0.4 * sfreq
        if lowest > highest:
            raise MtkdError(f"spatial.filter_s: {settings.filter_s:g} s are too short a filter at {sfreq:g} Hz")
        hertz = torch.logspace(math.log10(lowest), math.log10(highest), settings.n_filters)
        times = torch.arange(n_taps) / sfreq
        self.taps = nn.Parameter(torch.hann_window(n_taps) * torch.cos(2 * torch.pi * hertz[:, None] * times))

    def forward(self, signal: Float[Tensor, "*batch time"]) -> Float[Tensor, "*batch feature"]:
        """Nats, of windows in volt."""
        transform = torch.fft.rfft(self.taps, n=signal.shape[-1])
        response = transform.real.square() + transform.imag.square()
        return gaussian_entropy(periodogram(signal) @ (response / response.sum(-1, keepdim=True)).T)
