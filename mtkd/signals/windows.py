"""Windows of a trial: where they lie, and cutting them out of an array."""

import math

import numpy as np
from jaxtyping import Bool, Float


def n_windows(duration_s: float, window_s: float, hop_s: float) -> int:
    """How many whole windows fit into ``duration_s``; 0 where none does."""
    return max(0, int(np.floor((duration_s - window_s) / hop_s + 1e-9)) + 1)


def n_samples(duration_s: float, sfreq: float) -> int:
    """How many samples begin within ``duration_s``: with as many, ``cut`` finds every window that fits."""
    return math.ceil(duration_s * sfreq - 1e-6)


def nearest(n: float) -> int:
    """The whole number nearest to one, of two the upper one, where it is half but for rounding in its last digits too.

    Python's own takes the even one, so that a start and a length could round in different directions.
    """
    return math.floor(n + 0.5 + 1e-6)


def cut(
    data: Float[np.ndarray, "chan n_times"], sfreq: float, window_s: float, hop_s: float, n_steps: int
) -> Float[np.ndarray, "step chan time"]:
    """The first ``n_steps`` windows: ``round(window_s * sfreq)`` samples each, window k from sample
    ``round(k * hop_s * sfreq)`` on.

    A view of ``data`` where the hop is a whole number of samples, copies otherwise.

    Raises:
        ValueError: there are fewer samples than in one window.
    """
    n_times, hop = round(window_s * sfreq), hop_s * sfreq
    if hop.is_integer() and (n_steps - 1) * hop + n_times <= data.shape[1]:
        chan, time = data.strides
        shape, strides = (n_steps, len(data), n_times), (int(hop) * time, chan, time)
        return np.lib.stride_tricks.as_strided(data, shape, strides, writeable=False)
    if n_steps == 0:
        return np.empty((0, len(data), n_times), data.dtype)
    if data.shape[1] < n_times:
        raise ValueError(f"{data.shape[1]} samples hold no window of {n_times}")
    starts = np.minimum(np.round(np.arange(n_steps) * hop_s * sfreq).astype(int), data.shape[1] - n_times)
    return np.stack([data[:, start : start + n_times] for start in starts.tolist()])


def cut_valid(
    valid: Bool[np.ndarray, "chan n_secs"], window_s: float, hop_s: float, n_steps: int
) -> Bool[np.ndarray, "step chan"]:
    """Whether a channel is valid in every second that a window touches."""
    n_secs = valid.shape[1]
    n_bad = np.zeros((len(valid), n_secs + 1), int)  # before each second
    np.cumsum(~valid, axis=1, out=n_bad[:, 1:])
    starts = np.arange(n_steps) * hop_s
    first = np.minimum(np.floor(starts + 1e-9).astype(int), n_secs)
    last = np.minimum(np.ceil(starts + window_s - 1e-9).astype(int), n_secs)
    return (n_bad[:, last] == n_bad[:, first]).T
