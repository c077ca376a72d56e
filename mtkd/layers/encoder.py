"""One window of one modality to one vector: the front of the temporal teacher and of the student."""

from collections.abc import Callable, Iterable

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from mtkd.config import Modality
from mtkd.layers.spectrum import band_power, octaves
from mtkd.layers.standardize import Standardize
from mtkd.shards.batch import Batch
from mtkd.shards.schema import Layout

_LOG_FLOOR = 1e-4  # of a standardised signal's variance


class WindowEncoder(nn.Module):
    """Strided convolutions over the raw samples beside the log spectrum and the level of each channel.

    Nothing outside the window is seen, so a sequence of windows stays causal. Channels that are not valid enter as
    their training mean and are told apart by their mask.

    Args:
        layout: channels and rate (hertz) of the modality.
        window_s: length of a window, seconds.
        width: channels of the convolutions.
        n_features: size of the vector.
    """

    def __init__(self, layout: Layout, window_s: float, width: int, n_features: int) -> None:
        super().__init__()
        self.layout, n_chans = layout, len(layout.ch_names)
        self.bands = octaves(layout.sfreq, window_s)
        self.scale = Standardize((n_chans,))
        self.spectrum_scale = Standardize((n_chans, len(self.bands)))
        self.convolutions = nn.Sequential(
            nn.Conv1d(n_chans, width, 9, stride=4, padding=4),
            nn.GroupNorm(1, width),
            nn.GELU(),
            nn.Conv1d(width, width, 5, stride=2, padding=2),
            nn.GELU(),
            # dilated, to span the time between two heart beats
            nn.Conv1d(width, width, 5, padding="same", dilation=4),
            nn.GELU(),
        )
        n_inputs = 2 * width + n_chans * (len(self.bands) + 2)
        self.project = nn.Sequential(nn.Linear(n_inputs, n_features), nn.LayerNorm(n_features))

    def fit(self, windows: Callable[[], Iterable[tuple[Tensor, Tensor]]], total: Callable[[Tensor], Tensor]) -> None:
        """Fit both scales on pairs (n, chan, time), (n, chan) of training windows; ``windows`` starts a pass."""
        self.scale.fit((_samples(x, valid) for x, valid in windows()), total)
        n_bands = len(self.bands)
        spectra = (
            (self._log_spectrum(self._scaled(x, valid)), valid[..., None].expand(*valid.shape, n_bands))
            for x, valid in windows()
        )
        self.spectrum_scale.fit(spectra, total)

    def _scaled(self, signal: Tensor, valid: Tensor) -> Tensor:
        return (signal - self.scale.mean[:, None]) / self.scale.std[:, None] * valid[..., None]

    def _log_spectrum(self, scaled: Tensor) -> Tensor:
        return torch.log(band_power(scaled, self.layout.sfreq, self.bands) + _LOG_FLOOR)

    def forward(
        self, signal: Float[Tensor, "n chan time"], valid: Bool[Tensor, "n chan"]
    ) -> Float[Tensor, "n feature"]:
        """Vectors of windows; ``signal`` in SI units."""
        scaled = self._scaled(signal, valid)
        spectrum = self.spectrum_scale(self._log_spectrum(scaled)) * valid[..., None]
        waves = self.convolutions(scaled)
        pooled = torch.cat([waves.mean(-1), torch.log(waves.var(-1) + _LOG_FLOOR)], dim=-1)
        return self.project(torch.cat([pooled, spectrum.flatten(1), scaled.mean(-1), valid.to(pooled.dtype)], dim=-1))


def _samples(signal: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
    """Every sample of every window as a row (n * time, chan)."""
    rows = signal.transpose(1, 2)
    return rows.flatten(0, 1), valid[:, None].expand(rows.shape).flatten(0, 1)


def training_windows(
    batches: Callable[[], Iterable[Batch]], modality: Modality
) -> Callable[[], Iterable[tuple[Tensor, Tensor]]]:
    """The real windows of one modality as pairs (n, chan, time), (n, chan), for fitting statistics."""

    def start() -> Iterable[tuple[Tensor, Tensor]]:
        for batch in batches():
            yield batch.signals[modality][batch.steps], batch.valid[modality][batch.steps]

    return start
