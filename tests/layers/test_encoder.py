"""The window encoder: what is not valid has no influence, and statistics are those of the training windows."""

import copy
import threading

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from mtkd.layers.encoder import WindowEncoder, fit_scales
from mtkd.shards.batch import Batch
from mtkd.shards.schema import Layout

LAYOUT = Layout(ch_names=["a", "b", "c"], sfreq=32.0)
WINDOW_S, N_TIMES, N_FEATURES = 2.0, 64, 6


def windows(n: int = 5, seed: int = 0, unit: float = 1e-6) -> tuple[Tensor, Tensor]:
    """Windows in volt of which a quarter of the channels is not valid, and so zero; never all of a window."""
    random = torch.Generator().manual_seed(seed)
    valid = torch.rand(n, 3, generator=random) < 0.75
    valid[:, 0] |= ~valid.any(dim=1)
    signal = unit * (torch.randn(n, 3, N_TIMES, generator=random) + torch.tensor([0.0, 3.0, -1.0])[:, None])
    return signal * valid[..., None], valid


def batch(signal: Tensor, valid: Tensor, steps: Tensor | None = None) -> Batch:
    """One trial whose steps are the windows."""
    steps = torch.ones(1, len(signal), dtype=torch.bool) if steps is None else steps
    return Batch({"emg": signal[None]}, {"emg": valid[None]}, steps, torch.tensor([0]), ["k"])


def encoder(signal: Tensor, valid: Tensor, steps: Tensor | None = None) -> WindowEncoder:
    torch.manual_seed(0)
    made = WindowEncoder("emg", LAYOUT, WINDOW_S, width=8, n_features=N_FEATURES)
    fit_scales({"emg": made}, lambda: [batch(signal, valid, steps)], lambda sums: sums)
    return made.eval()


@pytest.fixture(scope="module")
def fitted() -> WindowEncoder:
    return encoder(*windows(40))


@given(st.integers(0, 1000), st.floats(-1e3, 1e3))
def test_what_stands_under_an_invalid_channel_has_no_influence(fitted, seed, anything):
    signal, valid = windows(seed=seed)
    changed = torch.where(valid[..., None], signal, anything)
    with torch.no_grad():
        assert fitted(changed, valid).equal(fitted(signal, valid))


def test_what_stands_under_a_valid_channel_has(fitted):
    signal, valid = windows()
    for row, chan in valid.nonzero().tolist():
        changed = signal.clone()
        changed[row, chan] *= 1.5
        with torch.no_grad():
            different = (fitted(changed, valid) != fitted(signal, valid)).any(dim=1)
        assert different.tolist() == [index == row for index in range(len(signal))]


def test_a_mask_is_not_the_same_as_the_training_mean(fitted):
    made = copy.deepcopy(fitted)
    silence = torch.zeros(1, 3, N_TIMES)
    made.spectrum_scale.mean.copy_(made.log_spectrum(silence)[0])  # as if silence were the training mean
    mean = made.scale.mean[None, :, None] + silence
    with torch.no_grad():
        there = made(mean, torch.ones(1, 3, dtype=torch.bool))
        absent = made(mean, torch.tensor([[True, True, False]]))
    assert not torch.allclose(there, absent)


def test_statistics_of_an_invalid_channel_have_no_influence(fitted):
    made, (signal, valid) = copy.deepcopy(fitted), windows()
    valid[:, 2] = False
    with torch.no_grad():
        before = made(signal, valid)
        for scale in (made.scale, made.spectrum_scale):
            scale.mean[2] += 1
            scale.std[2] *= 3
        assert made(signal, valid).equal(before)


def test_no_valid_channel_at_all_gives_finite_features_and_gradients(fitted):
    features = fitted(torch.zeros(2, 3, N_TIMES), torch.zeros(2, 3, dtype=torch.bool))
    features.square().sum().backward()
    assert torch.isfinite(features).all()
    gradients = [parameter.grad for parameter in fitted.parameters() if parameter.grad is not None]
    assert gradients
    assert all(torch.isfinite(gradient).all() for gradient in gradients)
    fitted.zero_grad()


def test_windows_know_nothing_of_each_other(fitted):
    signal, valid = windows(6)
    with torch.no_grad():
        together = fitted(signal, valid)
        alone = torch.cat([fitted(signal[i : i + 1], valid[i : i + 1]) for i in range(6)])
    assert together.shape == (6, N_FEATURES)
    np.testing.assert_allclose(together, alone, atol=1e-5)


def test_the_scale_is_that_of_the_valid_training_samples():
    signal, valid = windows(40)
    made = encoder(signal, valid)
    samples = np.ma.array(signal.numpy(), mask=np.broadcast_to(~valid.numpy()[..., None], signal.shape))
    np.testing.assert_allclose(made.scale.mean, samples.mean(axis=(0, 2)), rtol=1e-4, atol=1e-10)
    np.testing.assert_allclose(made.scale.std, samples.std(axis=(0, 2)), rtol=1e-4)


def test_the_spectrum_of_the_training_windows_comes_out_standardised():
    signal, valid = windows(60)
    made = encoder(signal, valid)
    spectrum = made.spectrum_scale(made.log_spectrum(made.scaled(signal, valid)))
    masked = np.ma.array(spectrum.numpy(), mask=np.broadcast_to(~valid.numpy()[..., None], spectrum.shape))
    np.testing.assert_allclose(masked.mean(axis=0), 0, atol=1e-3)
    np.testing.assert_allclose(masked.std(axis=0), 1, atol=1e-3)


def test_steps_that_only_pad_are_left_out_of_the_statistics():
    signal, valid = windows(10)
    steps = torch.tensor([[True] * 6 + [False] * 4])
    padded, plain = encoder(signal, valid, steps), encoder(signal[:6], valid[:6])
    assert padded.scale.std.equal(plain.scale.std)
    assert padded.spectrum_scale.mean.equal(plain.spectrum_scale.mean)


class AllReduce:
    """The sum over threads that stand for ranks: each waits for the others, as in a distributed run."""

    def __init__(self, n_ranks: int) -> None:
        self.barrier, self.sums = threading.Barrier(n_ranks, timeout=20), []

    def __call__(self, own: Tensor) -> Tensor:
        self.sums.append(own)
        self.barrier.wait()
        found = torch.stack(self.sums).sum(0)
        if self.barrier.wait() == 0:
            self.sums.clear()
        self.barrier.wait()
        return found


def test_statistics_over_ranks_are_those_of_all_windows():
    signal, valid = windows(12)
    shares, total = [(signal[:5], valid[:5]), (signal[5:], valid[5:])], AllReduce(2)
    ranks = [WindowEncoder("emg", LAYOUT, WINDOW_S, 8, N_FEATURES) for _ in shares]
    jobs = [
        threading.Thread(target=fit_scales, args=({"emg": made}, lambda share=share: [batch(*share)], total))
        for made, share in zip(ranks, shares, strict=True)
    ]
    for job in jobs:
        job.start()
    for job in jobs:
        job.join()
    whole = encoder(signal, valid)
    for made in ranks:
        for scale in ("scale", "spectrum_scale"):
            one, all_of_it = getattr(made, scale), getattr(whole, scale)
            np.testing.assert_allclose(one.mean, all_of_it.mean, rtol=1e-4, atol=1e-12)
            np.testing.assert_allclose(one.std, all_of_it.std, rtol=1e-4)


@pytest.mark.parametrize("unit", [1.0, 1e-3, 1e-9])
def test_the_unit_of_the_recordings_does_not_matter(unit):
    features = []
    for scale in (1e-6, unit):
        signal, valid = windows(20, unit=scale)
        with torch.no_grad():
            features.append(encoder(signal, valid)(signal, valid))
    np.testing.assert_allclose(features[0], features[1], atol=1e-3)


def test_all_encoders_are_fitted_in_the_same_two_passes():
    signal, valid = windows(10)
    passes = []

    def batches() -> list[Batch]:
        passes.append(1)
        return [batch(signal, valid)]

    made = {"emg": WindowEncoder("emg", LAYOUT, WINDOW_S, 8, N_FEATURES)}
    fit_scales(made, batches, lambda sums: sums)
    assert len(passes) == 2
    assert made["emg"].scale.std.equal(encoder(signal, valid).scale.std)


@pytest.mark.parametrize(("sfreq", "window_s"), [(16.0, 6.0), (32.0, 6.0), (128.0, 6.0), (125.0, 10.0), (16.0, 1.0)])
def test_any_rate_and_window_of_the_shipped_studies_fits(sfreq, window_s):
    made = WindowEncoder("emg", Layout(ch_names=["a"], sfreq=sfreq), window_s, 8, N_FEATURES)
    out = made(torch.randn(2, 1, round(sfreq * window_s)), torch.ones(2, 1, dtype=torch.bool))
    assert out.shape == (2, N_FEATURES)


def test_covariances_are_heard_beside_the_rest():
    """At another mean they are others, and so is the vector; of one valid channel there is its own power alone."""
    signal, valid = windows(40)
    made = WindowEncoder("eeg", LAYOUT, WINDOW_S, 8, N_FEATURES, [(2.0, 6.0), (6.0, 12.0)], 0.5)
    plain = WindowEncoder("eeg", LAYOUT, WINDOW_S, 8, N_FEATURES)
    assert made.project[0].in_features == plain.project[0].in_features + 2 * 6
    trial = Batch(
        {"eeg": signal[None]}, {"eeg": valid[None]}, torch.ones(1, 40, dtype=torch.bool), torch.tensor([0]), ["k"]
    )
    fit_scales({"eeg": made}, lambda: [trial], lambda sums: sums)
    made.eval()
    found = np.ma.array(made.pairs(signal, valid).numpy(), mask=~made.pairs.found(signal, valid)[1].numpy())
    np.testing.assert_allclose(found.mean(axis=0), 0, atol=1e-3)
    np.testing.assert_allclose(found.std(axis=0), 1, atol=1e-3)
    with torch.no_grad():
        before = made(signal, valid)
        made.pairs.reference.mean.copy_(torch.eye(3) + 0.5)
        assert not torch.allclose(before, made(signal, valid))
        alone = torch.tensor([[False, True, False]])
        assert made.pairs.found(signal[:1], alone)[1].sum() == 2
        assert made.train()(signal, valid).isfinite().all()


def test_dropout_takes_of_what_is_read_in_training_but_never_says_that_a_channel_is_missing():
    signal, valid = windows(40)
    made = WindowEncoder("emg", LAYOUT, WINDOW_S, 8, N_FEATURES, dropout=0.5)
    inputs = []
    made.project.register_forward_pre_hook(lambda _, given: inputs.append(given[0].detach()))
    with torch.no_grad():
        made.train()(signal, valid)
        made.eval()(signal, valid)
    dropped, whole = (each[:, :-3] for each in inputs)
    left = dropped != 0
    assert left[whole != 0].float().mean().sub(0.5).abs() < 0.05
    torch.testing.assert_close(dropped[left], 2 * whole[left])
    assert all(each[:, -3:].equal(valid.float()) for each in inputs)
