"""One window of one modality to one vector: the front of the temporal teacher and of the student."""

from collections.abc import Callable, Iterable, Mapping, Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from mtkd.config import Modality
from mtkd.layers.covariance import Pairs
from mtkd.layers.rhythm import N_FEATURES, intervals, rhythm_of
from mtkd.layers.spectrum import band_power, octaves
from mtkd.layers.standardize import Standardize
from mtkd.shards.batch import Batch
from mtkd.shards.schema import Layout

_LOG_FLOOR = 1e-4  # of a standardised signal's variance


class WindowEncoder(nn.Module):
    """Strided convolutions over the raw samples beside each channel's log spectrum, level and, if it has one, rhythm;
    and, where bands are given for it, how the channels go together.

    Nothing outside the window is seen, so a sequence of windows stays causal. Channels that are not valid enter as
    their training mean and are told apart by their mask.

    Args:
        modality: whose windows these are.
        layout: its channels and rate (hertz).
        window_s: length of a window, seconds.
        width: channels of the convolutions.
        n_features: size of the vector.
        pair_bands: [low, high) in hertz of the log-covariances beside; none without.
        pair_dropout: share of these that is left out in training, as there may be many more than training windows.
        dropout: share of all else that the vector is made of which is left out in training.
    """

    def __init__(
        self,
        modality: Modality,
        layout: Layout,
        window_s: float,
        width: int,
        n_features: int,
        pair_bands: Sequence[tuple[float, float]] = (),
        pair_dropout: float = 0.0,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.layout, n_chans = layout, len(layout.ch_names)
        self.bands = octaves(layout.sfreq, window_s)
        self.scale = Standardize((n_chans,))
        self.spectrum_scale = Standardize((n_chans, len(self.bands)))
        self.rhythm = rhythm_of(modality, layout.sfreq, window_s)
        self.rhythm_scale = Standardize((n_chans, N_FEATURES if self.rhythm else 0))
        self.pairs = Pairs(n_chans, layout.sfreq, pair_bands) if pair_bands else None
        self.drop_pairs, self.drop = nn.Dropout(pair_dropout), nn.Dropout(dropout)
        # along time, but in two dimensions: with channels last those take half the time of nn.Conv1d on a CPU
        self.convolutions = nn.Sequential(
            nn.Conv2d(n_chans, width, (1, 9), stride=(1, 4), padding=(0, 4)),
            nn.GroupNorm(1, width),
            nn.GELU(),
            nn.Conv2d(width, width, (1, 5), stride=(1, 2), padding=(0, 2)),
            nn.GELU(),
            # dilated, to span the time between two heart beats
            nn.Conv2d(width, width, (1, 5), padding=(0, 8), dilation=(1, 4)),
            nn.GELU(),
        )
        n_fixed = self.rhythm_scale.mean.numel() + (self.pairs.n_features if self.pairs else 0)
        n_inputs = 2 * width + n_chans * (len(self.bands) + 2) + n_fixed
        self.project = nn.Sequential(nn.Linear(n_inputs, n_features), nn.LayerNorm(n_features))

    def scaled(
        self, signal: Float[Tensor, "n chan time"], valid: Bool[Tensor, "n chan"]
    ) -> Float[Tensor, "n chan time"]:
        """Windows in units of the training deviation, 0 where a channel is not valid."""
        return (signal - self.scale.mean[:, None]) / self.scale.std[:, None] * valid[..., None]

    def log_spectrum(self, scaled: Float[Tensor, "n chan time"]) -> Float[Tensor, "n chan band"]:
        """Logarithm of the power in each band of scaled windows."""
        return torch.log(band_power(scaled, self.layout.sfreq, self.bands) + _LOG_FLOOR)

    def beats(
        self, signal: Float[Tensor, "n chan time"], valid: Bool[Tensor, "n chan"]
    ) -> tuple[Float[Tensor, "n chan feature"], Bool[Tensor, "n chan feature"]]:
        """What there is of a rhythm, see ``intervals``, and where it is known."""
        if self.rhythm is None:
            return signal[..., :0], valid[..., None].expand(*valid.shape, 0)
        found, known = intervals(signal, self.layout.sfreq, self.rhythm)
        return found, known & valid[..., None]

    def forward(
        self, signal: Float[Tensor, "n chan time"], valid: Bool[Tensor, "n chan"]
    ) -> Float[Tensor, "n feature"]:
        """Vectors of windows; ``signal`` in SI units."""
        scaled = self.scaled(signal, valid)
        spectrum = self.spectrum_scale(self.log_spectrum(scaled)) * valid[..., None]
        rhythm, known = self.beats(signal, valid)
        beats = self.rhythm_scale(rhythm) * known
        waves = self.convolutions(scaled[:, :, None].contiguous(memory_format=torch.channels_last))
        waves = waves.squeeze(2).transpose(1, 2)  # as it lies in memory, and so does its gradient
        mean = waves.mean(dim=1)
        variance = (waves - mean[:, None]).square().mean(dim=1)  # torch.var takes twenty times as long on a CPU
        pooled = torch.cat([mean, torch.log(variance + _LOG_FLOOR)], dim=-1)
        found = self.drop(torch.cat([pooled, spectrum.flatten(1), beats.flatten(1), scaled.mean(-1)], dim=-1))
        vectors = [found, valid.to(found.dtype)]
        if self.pairs is not None:
            vectors.append(self.drop_pairs(self.pairs(signal, valid)))
        return self.project(torch.cat(vectors, dim=-1))

    def fit_first(self, signal: Float[Tensor, "n chan time"], valid: Bool[Tensor, "n chan"]) -> None:
        """Take in training windows for all that is asked of signals as they are."""
        self.rhythm_scale.update(*self.beats(signal, valid))
        rows = signal.transpose(1, 2)
        self.scale.update(rows.flatten(0, 1), valid[:, None].expand(rows.shape).flatten(0, 1))
        if self.pairs is not None:
            self.pairs.reference.update(signal, valid)

    def fit_second(self, signal: Float[Tensor, "n chan time"], valid: Bool[Tensor, "n chan"]) -> None:
        """The same for what needs the first to be settled."""
        spectrum = self.log_spectrum(self.scaled(signal, valid))
        self.spectrum_scale.update(spectrum, valid[..., None].expand(spectrum.shape))
        if self.pairs is not None:
            self.pairs.scale.update(*self.pairs.found(signal, valid))


def fit_scales(
    encoders: Mapping[Modality, WindowEncoder],
    batches: Callable[[], Iterable[Batch]],
    total: Callable[[Tensor], Tensor],
) -> None:
    """Fit all encoders' statistics on training trials in two passes: the signals' scales, then those of their spectra.

    ``batches`` starts a pass over this rank's share; ``total`` sums over ranks.
    """
    for batch in batches():
        for name, encoder in encoders.items():
            encoder.fit_first(batch.signals[name][batch.steps], batch.valid[name][batch.steps])
    for encoder in encoders.values():
        encoder.scale.finish(total)
        encoder.rhythm_scale.finish(total)
        if encoder.pairs is not None:
            encoder.pairs.reference.finish(total)
    for batch in batches():
        for name, encoder in encoders.items():
            encoder.fit_second(batch.signals[name][batch.steps], batch.valid[name][batch.steps])
    for encoder in encoders.values():
        encoder.spectrum_scale.finish(total)
        if encoder.pairs is not None:
            encoder.pairs.scale.finish(total)
