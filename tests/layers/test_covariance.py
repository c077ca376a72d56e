"""Log-covariances: what scipy's logarithm gives, free of size and mixing, and of channels that are not valid."""

import numpy as np
import scipy.linalg
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from mtkd.layers.covariance import LogCovariance

SFREQ, N_TIMES, N_CHANS, N = 64.0, 256, 4, 12
BANDS = [(2.0, 8.0), (8.0, 24.0)]
SEEDS = st.integers(0, 2**31)


def windows(seed: int, n_chans: int = N_CHANS) -> Tensor:
    """Volt, of sources that are mixed otherwise in each window."""
    random = torch.Generator().manual_seed(seed)
    mixing = torch.eye(n_chans) + 0.3 * torch.randn(N, n_chans, n_chans, generator=random)
    return 1e-5 * mixing @ torch.randn(N, n_chans, N_TIMES, generator=random)


def every(n_chans: int = N_CHANS) -> Tensor:
    return torch.ones(N, n_chans, dtype=torch.bool)


def fitted(signal: Tensor, valid: Tensor, n_ranks: int = 1) -> LogCovariance:
    parts = [LogCovariance(signal.shape[1], SFREQ, BANDS) for _ in range(n_ranks)]
    for part, rows, there in zip(parts, signal.chunk(n_ranks), valid.chunk(n_ranks), strict=True):
        part.update(rows, there)
    whole = torch.stack([part._sums for part in parts]).sum(0)
    parts[0].finish(lambda _: whole)
    return parts[0]


def of_numpy(signal: np.ndarray, band: tuple[float, float]) -> np.ndarray:
    """Covariances of a band with a mean power of 1, another way round: from what is left of the signal in the band."""
    tapered = (signal - signal.mean(-1, keepdims=True)) * scipy.signal.windows.hann(N_TIMES, sym=False)
    spectrum, freqs = np.fft.rfft(tapered), np.fft.rfftfreq(N_TIMES, 1 / SFREQ)
    left = np.fft.irfft(spectrum * ((freqs >= band[0]) & (freqs < band[1])), n=N_TIMES)
    covariance = left @ left.swapaxes(1, 2)
    return covariance * signal.shape[1] / np.trace(covariance, axis1=1, axis2=2)[:, None, None]


@given(SEEDS)
def test_it_is_the_logarithm_at_the_mean(seed: int) -> None:
    signal = windows(seed)
    found = fitted(signal, every())(signal, every()).double().numpy()
    for index, band in enumerate(BANDS):
        covariance = of_numpy(signal.double().numpy(), band)
        root = scipy.linalg.fractional_matrix_power(covariance.mean(0), -0.5).real
        for row, own in enumerate(root @ covariance @ root):
            shrunk = own + 1e-4 * np.trace(own) / N_CHANS * np.eye(N_CHANS)
            np.testing.assert_allclose(found[row, index], scipy.linalg.logm(shrunk), atol=5e-3)


@given(SEEDS, st.floats(1e-6, 1e6), st.floats(-1, 1))
def test_neither_size_nor_level_matters(seed: int, scale: float, level: float) -> None:
    signal = windows(seed)
    log = fitted(signal, every())
    other = log(scale * (signal + 1e-4 * level), every())
    torch.testing.assert_close(other, log(signal, every()), rtol=1e-3, atol=5e-3)


@given(SEEDS)
def test_how_far_windows_lie_apart_does_not_depend_on_a_rotation_of_the_channels(seed: int) -> None:
    """Which another reference or cap comes near to. A general mixing also changes what a power of 1 means."""
    signal = windows(seed)
    turn, _ = torch.linalg.qr(torch.randn(N_CHANS, N_CHANS, generator=torch.Generator().manual_seed(seed + 1)))
    distances = []
    for own in (signal, turn @ signal):
        flat = fitted(own, every())(own, every()).flatten(1)
        distances.append(torch.cdist(flat, flat))
    torch.testing.assert_close(distances[1], distances[0], rtol=1e-2, atol=2e-2)


@given(SEEDS, st.sets(st.integers(0, N_CHANS - 1), min_size=1, max_size=N_CHANS - 1), st.floats(-1e3, 1e3))
def test_channels_that_are_not_valid_are_as_if_there_were_none(seed: int, there: set[int], anything: float) -> None:
    own, signal = sorted(there), windows(seed)
    log = fitted(signal, every())
    small = LogCovariance(len(own), SFREQ, BANDS)
    small.mean = log.mean[:, own][:, :, own]
    valid = torch.zeros(N, N_CHANS, dtype=torch.bool)
    valid[:, own] = True
    found = log(torch.where(valid[..., None], signal, anything), valid)
    torch.testing.assert_close(
        found[:, :, own][:, :, :, own], small(signal[:, own], every(len(own))), rtol=1e-3, atol=5e-3
    )
    assert not found[~(valid[:, :, None] & valid[:, None])[:, None].expand(found.shape)].any()


@given(SEEDS)
def test_windows_count_where_two_channels_are_valid(seed: int) -> None:
    signal, valid = windows(seed), every()
    valid[: N // 2, 0] = False
    expected = fitted(signal[N // 2 :], valid[N // 2 :]).mean[:, 0]
    torch.testing.assert_close(fitted(signal, valid).mean[:, 0], expected)


@given(SEEDS)
def test_ranks_fit_the_same_mean(seed: int) -> None:
    signal = windows(seed)
    torch.testing.assert_close(fitted(signal, every(), 3).mean, fitted(signal, every()).mean)


@given(SEEDS, st.floats(0.1, 10), st.permutations(range(N_CHANS)))
def test_a_common_reference_leaves_no_rounding_noise(seed: int, scale: float, order: list[int]) -> None:
    """It takes a direction away. What is left of that by rounding must not count: by it, neither the size nor the
    order of channels would be without influence.
    """
    signal = windows(seed)
    signal = signal - signal.mean(1, keepdim=True)
    log = fitted(signal, every())
    found = log(signal, every())
    torch.testing.assert_close(log(scale * signal, every()), found, rtol=1e-3, atol=5e-3)
    turned = fitted(signal[:, order], every())(signal[:, order], every())
    torch.testing.assert_close(turned, found[:, :, order][:, :, :, order], rtol=1e-3, atol=5e-3)
    assert torch.linalg.eigvalsh(found).min() > -12  # the logarithm of what is added to all


def test_flat_windows_and_common_references_stay_finite() -> None:
    signal = windows(0)
    signal = signal - signal.mean(1, keepdim=True)  # of rank 3
    signal[0] = 0
    signal[1, 2] = 0
    found = fitted(signal, every())(signal, every())
    assert found.isfinite().all()
    assert found.abs().max() < 50
    assert LogCovariance(N_CHANS, SFREQ, BANDS)(signal[:0], every()[:0]).shape == (0, 2, N_CHANS, N_CHANS)


def test_what_training_never_saw_together_is_taken_for_independent() -> None:
    valid = every()
    valid[: N // 2, 0] = valid[N // 2 :, 1] = valid[:, 3] = False
    mean = fitted(windows(0), valid).mean
    assert not mean[:, 0, 1].any()
    assert torch.equal(mean[:, 3], torch.eye(N_CHANS)[3].expand(2, -1))
