"""What a node carries: differential entropies, of fixed bands or of what learned filters let through, or how it goes
together with each other node.
"""

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from mtkd.config import Spatial
from mtkd.errors import MtkdError
from mtkd.layers.covariance import LogCovariance
from mtkd.layers.spectrum import differential_entropy, gaussian_entropy, periodogram


def make_features(settings: Spatial, n_chans: int, sfreq: float) -> "Entropies | Filters | Covariances":
    """The node features ``spatial.features`` of EEG at a rate in hertz.

    Each tells its ``n_features``, and which of them mean anything in windows with such ``valid`` electrodes.

    Raises:
        MtkdError: the rate does not hold a band, or is too low for the filters.
    """
    if settings.features == "learned":
        return Filters(settings, sfreq)
    for low, high in settings.bands:
        if not 0 <= low < high <= sfreq / 2:
            raise MtkdError(f"spatial.bands: {low:g} to {high:g} Hz is no band of EEG at {sfreq:g} Hz")
    return Entropies(settings, sfreq) if settings.features == "entropy" else Covariances(settings, n_chans, sfreq)


class OfElectrodes(nn.Module):
    """Features that each electrode has by itself."""

    n_features: int

    def known(self, valid: Bool[Tensor, "*batch chan"]) -> Bool[Tensor, "*batch chan feature"]:
        """Those of electrodes that are valid."""
        return valid[..., None].expand(*valid.shape, self.n_features)


class Entropies(OfElectrodes):
    """Differential entropy of each band of ``spatial.bands``."""

    def __init__(self, settings: Spatial, sfreq: float) -> None:
        super().__init__()
        self.sfreq, self.bands, self.n_features = sfreq, settings.bands, len(settings.bands)

    def forward(
        self, signal: Float[Tensor, "*batch chan time"], valid: Bool[Tensor, "*batch chan"]
    ) -> Float[Tensor, "*batch chan feature"]:
        """Nats, of windows in volt."""
        return differential_entropy(signal, self.sfreq, self.bands)


class Covariances(nn.Module):
    """How an electrode goes together with each other one: its row of the log-covariance of each band, itself included.

    What it takes for the mean is fitted before the scale of the features is.
    """

    def __init__(self, settings: Spatial, n_chans: int, sfreq: float) -> None:
        super().__init__()
        self.reference = LogCovariance(n_chans, sfreq, settings.bands)
        self.n_features = len(settings.bands) * n_chans

    def known(self, valid: Bool[Tensor, "*batch chan"]) -> Bool[Tensor, "*batch chan feature"]:
        """Those of pairs of electrodes that are both valid."""
        return (valid[..., :, None] & valid[..., None, :]).repeat(*[1] * valid.dim(), len(self.reference.bands))

    def forward(
        self, signal: Float[Tensor, "*batch chan time"], valid: Bool[Tensor, "*batch chan"]
    ) -> Float[Tensor, "*batch chan feature"]:
        """Of windows in volt, without a unit."""
        n_chans, n_times = signal.shape[-2:]
        found = self.reference(signal.reshape(-1, n_chans, n_times), valid.reshape(-1, n_chans))
        return found.transpose(1, 2).reshape(*valid.shape, self.n_features)


class Filters(OfElectrodes):
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

    def forward(
        self, signal: Float[Tensor, "*batch chan time"], valid: Bool[Tensor, "*batch chan"]
    ) -> Float[Tensor, "*batch chan feature"]:
        """Nats, of windows in volt."""
        transform = torch.fft.rfft(self.taps, n=signal.shape[-1])
        response = transform.real.square() + transform.imag.square()
        return gaussian_entropy(periodogram(signal) @ (response / response.sum(-1, keepdim=True)).T)
