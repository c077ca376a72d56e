"""How the channels of a window go together, band by band: logarithms of covariance matrices at their mean."""

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from mtkd.layers.standardize import Standardize

_SHRUNK = 1e-4  # of the mean power, that is added to all: what is far below it is a sensor's noise
_FLOOR = 1e-12  # of a flat window's power, to keep logarithms finite
Valid = Bool[Tensor, "n chan"]
Matrices = Float[Tensor, "n band chan chan"]


class LogCovariance(nn.Module):
    """Matrix logarithm of a window's covariance in each band, in units of the training windows' mean.

    That is the tangent space at a mean (Barachant et al., IEEE TBME 2012, who take the geometric one; this is the plain
    one), in which a linear model tells classes apart. Each covariance has a mean power of 1, so that how large a signal
    is does not matter; a rotation of the channels does not change how far windows lie apart. The mean is a buffer,
    fitted as those of ``Standardize`` are. Channels that are not valid have rows and columns of 0, and do not touch the
    others'. Nothing is differentiated.

    Args:
        n_chans: channels of a window.
        sfreq: their rate, hertz.
        bands: each [low, high) in hertz.
    """

    mean: Tensor

    def __init__(self, n_chans: int, sfreq: float, bands: Sequence[tuple[float, float]]) -> None:
        super().__init__()
        self.sfreq, self.bands = sfreq, bands
        self.register_buffer("mean", torch.eye(n_chans).repeat(len(bands), 1, 1))
        self._sums: Tensor | None = None

    def update(self, signal: Float[Tensor, "n chan time"], valid: Valid) -> None:
        """Take in some training windows."""
        pairs = _pairs(valid)[:, None].double()
        covariance = self._covariance(signal, valid).double()
        own = torch.stack([(covariance * pairs).sum(0), pairs.sum(0).expand(covariance.shape[1:])]).cpu()
        self._sums = own if self._sums is None else self._sums + own

    def finish(self, total: Callable[[Tensor], Tensor]) -> None:
        """Settle the mean; ``total`` sums over all ranks, each of which took in its share."""
        sums = torch.zeros(2, *self.mean.shape, dtype=torch.float64) if self._sums is None else self._sums
        covariance, count = total(sums)
        mean, unit = covariance / count.clamp_min(1), torch.eye(self.mean.shape[-1], dtype=torch.float64)
        # what was never valid together is taken for independent, and a channel that never was for one like others
        mean = torch.where(count > 0, mean, unit)
        self.mean.copy_(mean)
        self._sums = None

    @torch.no_grad()
    def forward(self, signal: Float[Tensor, "n chan time"], valid: Valid) -> Matrices:
        """The logarithms, symmetric."""
        covariance = self._covariance(signal, valid)
        whitened = self._whitening(valid)
        found = whitened @ covariance @ whitened
        unit = torch.eye(found.shape[-1], dtype=found.dtype, device=found.device)
        found = found + (_SHRUNK * _mean_power(found, valid)).clamp_min(_FLOOR) * unit
        pairs = _pairs(valid)[:, None]
        return torch.where(pairs, _of_spectrum(torch.where(pairs, found, unit), torch.log), 0.0)

    def _covariance(self, signal: Float[Tensor, "n chan time"], valid: Valid) -> Matrices:
        """Of each band, with a mean power of 1 over the valid channels."""
        spectrum = _spectrum(torch.where(valid[..., None], signal, 0.0))
        freqs = torch.fft.rfftfreq(signal.shape[-1], 1 / self.sfreq, device=signal.device)
        chosen = [spectrum[..., (freqs >= low) & (freqs < high)] for low, high in self.bands]
        found = torch.stack([(each @ each.mH).real for each in chosen], 1)
        power = _mean_power(found, valid)
        return found / torch.where(power > 0, power, 1.0)

    def _whitening(self, valid: Valid) -> Matrices:
        """The inverse root of the mean of the channels that are valid, one a window.

        Directions that training had no power in are left out. An average reference and interpolated electrodes make
        such; as large as others they would be rounding noise, whose logarithm is anything.
        """
        patterns, number = valid.unique(dim=0, return_inverse=True)
        pairs, unit = _pairs(patterns)[:, None], torch.eye(valid.shape[1], device=valid.device)
        return _of_spectrum(torch.where(pairs, self.mean, unit), _inverse_root)[number]


class Pairs(nn.Module):
    """The log-covariance of each band as one vector, standardised: each pair of channels once, 0 where it is not known.

    Off the diagonal an entry stands for two, but each has its own scale anyway. ``n_features`` numbers a window.
    """

    def __init__(self, n_chans: int, sfreq: float, bands: Sequence[tuple[float, float]]) -> None:
        super().__init__()
        self.reference = LogCovariance(n_chans, sfreq, bands)
        self.n_features = len(bands) * n_chans * (n_chans + 1) // 2
        self.scale = Standardize((self.n_features,))

    def found(
        self, signal: Float[Tensor, "n chan time"], valid: Valid
    ) -> tuple[Float[Tensor, "n feature"], Bool[Tensor, "n feature"]]:
        """As they are, and which are of two channels that are both valid."""
        row, column = torch.triu_indices(valid.shape[1], valid.shape[1], device=valid.device)
        known = _pairs(valid)[:, row, column].repeat(1, len(self.reference.bands))
        return self.reference(signal, valid)[:, :, row, column].flatten(1), known

    def forward(self, signal: Float[Tensor, "n chan time"], valid: Valid) -> Float[Tensor, "n feature"]:
        """Standardised."""
        found, known = self.found(signal, valid)
        return self.scale(found) * known


def _spectrum(signal: Float[Tensor, "n chan time"]) -> Tensor:
    """Complex, of windows tapered by Hann's, without their level."""
    n_times = signal.shape[-1]
    if not signal.numel():  # no window at all, which MKL's transform does not take
        return signal.new_zeros(*signal.shape[:-1], n_times // 2 + 1, dtype=torch.complex64)
    taper = torch.hann_window(n_times, device=signal.device, dtype=signal.dtype)
    centred = signal - signal.mean(-1, keepdim=True)
    largest = centred.abs().amax((-2, -1), keepdim=True)  # squares of volts would leave single precision
    return torch.fft.rfft(centred / torch.where(largest > 0, largest, 1.0) * taper)


def _pairs(valid: Valid) -> Bool[Tensor, "n chan chan"]:
    return valid[:, :, None] & valid[:, None, :]


def _mean_power(covariance: Matrices, valid: Valid) -> Float[Tensor, "n band 1 1"]:
    power = covariance.diagonal(dim1=-2, dim2=-1).sum(-1) / valid.sum(-1).clamp_min(1)[:, None]
    return power[..., None, None]


def _inverse_root(values: Tensor) -> Tensor:
    return torch.where(values > _SHRUNK, values.rsqrt(), 0.0)


def _of_spectrum(matrices: Matrices, function: Callable[[Tensor], Tensor]) -> Matrices:
    """A function of symmetric matrices, by that of their eigenvalues, none of which counts as less than nothing."""
    values, vectors = torch.linalg.eigh(matrices)
    return (vectors * function(values.clamp_min(_FLOOR))[..., None, :]) @ vectors.mT
