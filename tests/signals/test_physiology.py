"""The body's own signals: the two parts of skin conductance, the rates of heart and breath."""

import neurokit2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mtkd.errors import MtkdError

SFREQ = 64.0


def conductance(seconds: float = 120, seed: int = 0) -> np.ndarray:
    """A level of microsiemens that drifts, with responses of some seconds; in siemens."""
    rng, times = np.random.default_rng(seed), np.arange(round(seconds * SFREQ)) / SFREQ
    at = times[:, None] - rng.uniform(0, seconds, 12)
    responses = np.where(at > 0, np.exp(-at.clip(0) / 3) - np.exp(-at.clip(0) / 0.7), 0).sum(axis=1)
    return 1e-6 * (5 + np.sin(2 * np.pi * times / 100) + 0.5 * responses)[None]


@pytest.mark.parametrize("phase", ["causal", "zero"])
@pytest.mark.parametrize("edge", [0.05, 0.2])
def test_the_two_parts_of_skin_conductance_make_up_the_whole(one, phase, edge):
    rows = np.vstack([conductance(), conductance(seed=1)])
    (found,) = one(rows, "eda", sfreq=SFREQ, phase=phase, steps=[{"split": edge}])
    assert found.ch_names == ["eda0 tonic", "eda1 tonic", "eda0 phasic", "eda1 phasic"]
    assert found.valid.shape == (4, 120)
    tonic, phasic = found.data[:2], found.data[2:]
    np.testing.assert_allclose(tonic + phasic, rows, rtol=1e-3 if phase == "causal" else 0.02)


@pytest.mark.parametrize("phase", ["causal", "zero"])
def test_the_tonic_part_is_the_slow_one_and_the_phasic_has_no_level(one, phase):
    times = np.arange(round(400 * SFREQ)) / SFREQ
    slow, fast = 5e-6 + 1e-6 * np.sin(2 * np.pi * 0.005 * times), 1e-6 * np.sin(2 * np.pi * 0.5 * times)
    (found,) = one((slow + fast)[None], "eda", sfreq=SFREQ, phase=phase, steps=["split"])
    tonic, phasic = found.data[:, 6400:-6400]
    assert np.std(tonic - slow[6400:-6400]) < 0.2e-6  # a causal filter is late
    assert np.std(phasic - fast[6400:-6400]) < 0.2e-6
    assert abs(phasic.mean()) < 0.05e-6


def test_the_split_without_phase_is_that_of_neurokit(one):
    rows = conductance()
    (found,) = one(rows, "eda", sfreq=SFREQ, phase="zero", steps=["split"])
    expected = neurokit2.eda_phasic(rows[0], sampling_rate=SFREQ, method="highpass", cutoff=0.05)
    np.testing.assert_allclose(found.data, expected[["EDA_Tonic", "EDA_Phasic"]].to_numpy().T, rtol=1e-4, atol=1e-11)


def test_a_level_is_tonic_from_the_first_sample_on(one):
    rows = 5e-6 + 1e-9 * np.random.default_rng(0).normal(size=(1, 1280))
    tonic, phasic = one(rows, "eda", sfreq=SFREQ, steps=["split"])[0].data
    np.testing.assert_allclose(tonic, 5e-6, rtol=1e-3)
    assert np.abs(phasic).max() < 1e-8


@settings(max_examples=30)
@given(st.integers(1, 7600), st.floats(-1e-5, 1e-5), st.sampled_from([SFREQ, 16.0, 4.0]))
def test_a_causal_split_does_not_know_what_comes_next(one, at, jump, to):
    rows = conductance()
    changed = rows.copy()
    changed[:, at:] += jump
    settings = {"sfreq": SFREQ, "to": to, "band": (None, 1.0), "steps": ["resample", "split"]}
    before, after = (one(each, "eda", **settings)[0].data for each in (rows, changed))
    n_past = -(-at * round(to) // round(SFREQ))
    np.testing.assert_array_equal(before[:, :n_past], after[:, :n_past])


@pytest.mark.parametrize("phase", ["causal", "zero"])
def test_a_split_above_what_the_signal_holds_is_refused(one, phase):
    with pytest.raises(MtkdError, match=r"^s1\.dat: signals\.modalities\.eda\.steps: split at 40 Hz.* 32 Hz$"):
        one(conductance(), "eda", sfreq=SFREQ, phase=phase, steps=[{"split": 40.0}])


def test_a_signal_too_short_to_look_ahead_in_is_refused(one):
    with pytest.raises(MtkdError, match=r"^s1\.dat: signals\.modalities\.eda\.steps: split: \w+"):
        one(conductance()[:, :5], "eda", sfreq=SFREQ, phase="zero", steps=["split"])


def test_both_parts_are_masked_with_their_sensor(one):
    rows = conductance()
    rows[0, 640:650] = np.nan
    (found,) = one(rows, "eda", sfreq=SFREQ, steps=["split"])
    assert np.argwhere(~found.valid).tolist() == [[0, 10], [1, 10]]


def beats(kind: str, hertz: float, seconds: float = 40, sfreq: float = 128.0) -> np.ndarray:
    """A signal of so many beats or breaths a second."""
    if kind == "ecg":
        found = neurokit2.ecg_simulate(
            duration=round(seconds), sampling_rate=round(sfreq), heart_rate=60 * hertz, heart_rate_std=0, random_state=0
        )
        return 1e-3 * np.asarray(found)[None]
    phase = 2 * np.pi * hertz * np.arange(round(seconds * sfreq)) / sfreq
    found = np.exp(np.cos(phase) - 1) if kind == "ppg" else np.sin(phase)
    return (found + 0.01 * np.random.default_rng(0).normal(size=phase.shape))[None]


RATES = [("ecg", 1.0), ("ecg", 1.6), ("ppg", 0.9), ("ppg", 1.5), ("resp", 0.2), ("resp", 0.35)]


@pytest.mark.parametrize(("kind", "hertz"), RATES)
def test_the_rate_is_that_of_beats_and_breaths(one, kind, hertz):
    rows = beats(kind, hertz)
    (found,) = one(rows, kind, phase="zero", steps=["rate"])
    assert found.ch_names == [f"{kind}0", f"{kind}0 rate"]
    np.testing.assert_allclose(found.data[0], rows[0], atol=1e-6)
    assert found.valid[1].mean() > 0.9
    inner = slice(5 * 128, -5 * 128)
    assert np.median(found.data[1, inner]) == pytest.approx(hertz, rel=0.03)
    np.testing.assert_allclose(found.data[1, inner], hertz, rtol=0.05)


def test_a_rate_that_changes_is_followed(one):
    rows = np.hstack([beats("ppg", 0.9, 30), beats("ppg", 1.8, 30)])
    (found,) = one(rows, "ppg", phase="zero", steps=["rate"])
    assert np.median(found.data[1, : 25 * 128]) == pytest.approx(0.9, rel=0.05)
    assert np.median(found.data[1, 35 * 128 :]) == pytest.approx(1.8, rel=0.05)


def test_a_rate_before_the_resampling_comes_to_the_new_rate_with_the_signal(one):
    steps = [{"bandpass": [0.5, 8]}, "rate", "resample"]
    (found,) = one(beats("ppg", 1.2), "ppg", phase="zero", to=8.0, steps=steps)
    assert found.data.shape == (2, 320)
    np.testing.assert_allclose(found.data[1, 40:-40], 1.2, rtol=0.05)


@pytest.mark.parametrize("kind", ["ecg", "ppg", "resp"])
def test_each_channel_has_its_own_rate_and_a_dead_one_has_none(one, kind):
    rows = np.vstack([beats(kind, 1.0 if kind != "resp" else 0.3)] * 3)
    rows[1], rows[2] = 0.0, np.nan
    (found,) = one(rows, kind, phase="zero", steps=["rate"])
    assert found.ch_names[3:] == [f"{kind}{row} rate" for row in range(3)]
    assert found.valid.mean(axis=1)[[0, 3]].min() > 0.9
    assert not found.valid[[1, 2, 4, 5]].any()
    assert not found.data[[1, 2, 4, 5]].any()


@pytest.mark.parametrize("kind", ["ecg", "ppg", "resp"])
@pytest.mark.parametrize("n_times", [1, 2, 20, 200])
def test_a_signal_too_short_for_a_rate_has_none(one, kind, n_times):
    rows = np.linspace(0, 1, n_times)[None]
    (found,) = one(rows, kind, phase="zero", steps=["rate"])
    assert found.data.shape == (2, n_times)
    assert not found.valid[1].any()


def test_a_rate_that_no_body_has_is_masked(one):
    for kind, hertz in (("ppg", 0.3), ("resp", 3.0)):
        (found,) = one(beats(kind, hertz), kind, phase="zero", steps=["rate"])
        assert found.valid[0].all()
        assert found.valid[1].mean() < 0.2, kind


def test_the_rate_is_masked_while_its_sensor_is_off(one):
    rows = beats("ppg", 1.2)
    rows[0, 20 * 128 : 22 * 128] = np.nan
    (found,) = one(rows, "ppg", phase="zero", steps=["rate"])
    assert not found.valid[:, 20:22].any()
    assert found.valid[1, 5:15].all()
