"""Heart beats and breaths of a window: how far apart they are, which no convolution learns from twenty subjects."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F

from mtkd.config import Modality

N_FEATURES = 3
_SMOOTH = 0.25  # of the shortest interval, over which the envelope is averaged
_HEIGHT = 0.5  # of the usual height of what is highest around: a beat is no lower
_USUAL = 0.85  # quantile over time: the longest intervals leave a quarter beside a beat, and few spikes are higher
_ODD = 0.25  # difference of logarithms from the median, from which on an interval is a missed or a doubled beat
_STILL_S = 0.005  # added to the deviation of intervals, as no sampling tells less


@dataclass(frozen=True)
class Rhythm:
    """Where beats show and how far apart they can be."""

    band: tuple[float, float]  # hertz
    shortest_s: float
    longest_s: float
    signed: bool  # whether peaks point upwards; the polarity of an ECG's leads is not known


RHYTHMS: dict[Modality, Rhythm] = {
    "ecg": Rhythm((8.0, 20.0), 0.3, 2.0, False),  # the QRS complex (Elgendi et al., 2010)
    "ppg": Rhythm((0.5, 8.0), 0.3, 2.0, True),
    "resp": Rhythm((0.08, 1.0), 1.2, 10.0, True),
}


def rhythm_of(modality: Modality, sfreq: float, window_s: float) -> Rhythm | None:
    """That of a modality, where windows of a length hold three of its beats and the rate holds its band."""
    found = RHYTHMS.get(modality)
    fits = found is not None and window_s >= 2 * found.longest_s and sfreq / 2 >= found.band[1]
    return found if fits else None


@torch.no_grad()
def intervals(
    signal: Float[Tensor, "*batch time"], sfreq: float, rhythm: Rhythm
) -> tuple[Float[Tensor, "*batch feature"], Bool[Tensor, "*batch feature"]]:
    """Of each window the logarithms of the mean interval between beats, and of its deviation (s), and the share of
    intervals that can be one; and which of these are known. Not differentiated.

    A beat is a maximum of the band's envelope within ``shortest_s``, but not at the very ends of a window, where a
    filter rings. Intervals far from their median are left out.
    """
    rows = signal.reshape(-1, signal.shape[-1])
    beats = _beats(_envelope(rows, sfreq, rhythm), round(rhythm.shortest_s * sfreq))
    ends = round(_SMOOTH * rhythm.shortest_s * sfreq)
    beats[:, :ends] = beats[:, beats.shape[1] - ends :] = False
    between = _between(beats, sfreq)
    likely = (between >= rhythm.shortest_s * 0.9) & (between <= rhythm.longest_s)
    median = torch.where(likely, between, torch.nan).nanmedian(-1, keepdim=True).values
    likely &= (between / median).log().abs() < _ODD
    n = likely.sum(-1)
    mean = torch.where(likely, between, 0.0).sum(-1) / n.clamp_min(1)
    variance = torch.where(likely, between - mean[:, None], 0.0).square().sum(-1) / n.clamp_min(1)
    share = n / (between > 0).sum(-1).clamp_min(1)
    known = torch.stack([n >= 1, n >= 2, n >= 0], -1)
    found = torch.stack([mean.clamp_min(_STILL_S).log(), (variance.sqrt() + _STILL_S).log(), share], -1)
    shape = (*signal.shape[:-1], N_FEATURES)
    return found.reshape(shape), known.reshape(shape)


def _envelope(rows: Float[Tensor, "n time"], sfreq: float, rhythm: Rhythm) -> Float[Tensor, "n time"]:
    if not rows.numel():  # no window at all, which MKL's transform does not take
        return rows
    n_times, (low, high) = rows.shape[1], rhythm.band
    freqs = torch.fft.rfftfreq(n_times, 1 / sfreq, device=rows.device)
    spectrum = torch.fft.rfft(rows - rows.mean(-1, keepdim=True)) * ((freqs >= low) & (freqs <= high))
    filtered = torch.fft.irfft(spectrum, n=n_times)
    width = round(_SMOOTH * rhythm.shortest_s * sfreq) | 1
    envelope = filtered.relu() if rhythm.signed else filtered.abs()
    return F.avg_pool1d(envelope[:, None], width, 1, width // 2, count_include_pad=False)[:, 0]


def _beats(envelope: Float[Tensor, "n time"], apart: int) -> Bool[Tensor, "n time"]:
    if not envelope.numel():
        return envelope.bool()
    highest = F.max_pool1d(envelope[:, None], 2 * apart + 1, 1, apart)[:, 0]
    usual = highest.kthvalue(max(1, round(_USUAL * highest.shape[-1])), -1, keepdim=True).values
    enough = _HEIGHT * usual
    return (envelope == highest) & (envelope > enough)


def _between(beats: Bool[Tensor, "n time"], sfreq: float) -> Float[Tensor, "n time"]:
    """At each beat the seconds since the one before, -1 elsewhere."""
    if not beats.numel():
        return beats.float()
    place = torch.arange(beats.shape[1], device=beats.device).expand(beats.shape)
    last = torch.where(beats, place, -1).cummax(-1).values
    before = F.pad(last[:, :-1], (1, 0), value=-1)
    return torch.where(beats & (before >= 0), (place - before) / sfreq, -1.0)
