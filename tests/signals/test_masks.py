"""Sensors that fail: which seconds are masked, what is left in their place, and what their neighbours see of it."""

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from mtkd.config import Signals
from mtkd.signals.masks import seconds
from mtkd.signals.preprocess import preprocess


def noise(n_chans: int = 2, seconds: float = 8, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n_chans, round(seconds * 128)))


@pytest.mark.parametrize(("kind", "reference"), [("eeg", "average"), ("eeg", ["eeg0", "eeg2"]), ("eda", None)])
@settings(max_examples=25)
@given(st.data())
def test_neither_masks_nor_the_reference_know_what_comes_next(one, kind, reference, data):
    """Channels that stand still, drop out and come back after some time: nothing that was said before may change."""
    rows, n_times = noise(3, seconds=40), 40 * 128
    rows[0, : data.draw(st.integers(0, n_times))] = 1.0  # on later, or never
    start = data.draw(st.integers(0, n_times))
    rows[1, start : start + data.draw(st.integers(0, n_times))] = data.draw(st.sampled_from([0.5, np.nan]))
    second = data.draw(st.integers(1, 39))
    changed = rows.copy()
    changed[:, second * 128 :] = data.draw(st.sampled_from([0.0, np.nan])) + 9 * noise(3, seconds=40 - second, seed=1)
    changed[2, second * 128 :] = 2.0
    before, after = (one(each, kind, reference=reference, band=(None, 5.0), to=16.0)[0] for each in (rows, changed))
    np.testing.assert_array_equal(before.valid[:, :second], after.valid[:, :second])
    np.testing.assert_array_equal(before.data[:, : second * 16], after.data[:, : second * 16])


@settings(max_examples=60)
@given(st.data())
def test_a_mask_knows_nothing_beyond_its_own_second_wherever_the_lead_begins(one, data):
    """Seconds count from the trial's start, though its lead may be no whole number of them, nor its rate."""
    sfreq, lead_s = data.draw(st.sampled_from([128.0, 125.5, 62.7])), data.draw(st.floats(0, 4))
    rows, second = noise(2, seconds=12), data.draw(st.integers(1, 5))
    span = (4.0, 4.0 + data.draw(st.floats(6, 7)))
    at = round(span[0] * sfreq) + int(np.ceil(second * sfreq))
    changed = rows.copy()
    changed[0, at + data.draw(st.integers(0, 200)) :] = np.nan
    changed[1, at:] += 50
    steps = [{"reject": 20}]
    before, after = (one(each, spans=[span], lead_s=lead_s, sfreq=sfreq, steps=steps)[0] for each in (rows, changed))
    np.testing.assert_array_equal(before.valid[:, :second], after.valid[:, :second])
    n_past = int(np.ceil(second * sfreq))
    np.testing.assert_array_equal(before.data[:, :n_past], after.data[:, :n_past])
    assert not np.array_equal(before.data[:, n_past:], after.data[:, n_past:])


@given(st.integers(1, 900), st.sampled_from([0.3, 0.5, 1.0, 1.5, 4.0, 62.7, 128.0, 250.5, 250.7]), st.floats(0, 5))
def test_seconds_hold_every_sample_once(n_times, sfreq, lead_s):
    starts = seconds(n_times, sfreq, lead_s)
    assert starts[0] == 0
    assert starts[-1] < n_times
    assert (np.diff(starts) >= 0).all()
    if sfreq >= 1:
        assert (np.diff(starts)[1:] >= int(sfreq)).all()
        assert n_times - starts[-1] <= np.ceil(sfreq) + (len(starts) == 1)  # the first begins at a rounded lead
    if lead_s == 0:
        assert len(starts) == int((n_times - 1) / sfreq + 1e-9) + 1


def test_nan_is_bridged_and_its_seconds_masked(one):
    rows = noise(3)
    clean = one(rows, band=(1.0, 30.0))[0]
    rows[0, 300:301] = np.nan  # inside second 2
    rows[1, 250:390] = np.nan  # from second 1 into second 3
    with warnings.catch_warnings(action="error"):
        found = one(rows, band=(1.0, 30.0))[0]
    expected = np.ones((3, 8), bool)
    expected[0, 2] = expected[1, 1:4] = False
    np.testing.assert_array_equal(found.valid, expected)
    assert np.isfinite(found.data).all()
    whole = np.repeat(expected, 128, axis=1)
    assert (found.data[~whole] == 0).all()
    assert (found.data[:, 1:][whole[:, 1:]] != 0).all()  # a filter starts from rest
    np.testing.assert_array_equal(found.data[2], clean.data[2])
    np.testing.assert_array_equal(found.data[:, :128], clean.data[:, :128])  # a causal filter: before is untouched


@pytest.mark.parametrize("value", [0.0, 7.0, np.nan])
@pytest.mark.parametrize("phase", ["causal", "zero"])
def test_a_flat_channel_is_masked_throughout(one, value, phase):
    rows = noise(3)
    rows[1] = value
    found = one(rows, band=(1.0, 30.0), phase=phase)[0]
    np.testing.assert_array_equal(found.valid.any(axis=1), [True, False, True])
    assert (found.data[1] == 0).all()


@pytest.mark.parametrize(("kind", "still_s"), [("emg", 5), ("ppg", 5), ("eda", 30), ("temp", 60)])
def test_a_sensor_that_stands_still_is_off_from_when_that_is_known_until_it_moves(one, kind, still_s):
    rows = noise(2, seconds=80)
    rows[0, 896 : 896 + (still_s + 1) * 128] = 3.0  # moves last where it comes to rest, in second 7
    rows[1, 896 : 896 + still_s * 128] = 3.0
    valid = one(rows, kind)[0].valid
    assert np.argwhere(~valid).tolist() == [[0, 7 + still_s]]


def test_a_sensor_that_has_not_moved_yet_is_off(one):
    rows = noise(2, seconds=8)
    rows[0, : 2 * 128 + 1] = 0.0
    assert np.argwhere(~one(rows)[0].valid).tolist() == [[0, 0], [0, 1]]


def test_a_number_that_no_sensor_says_is_masked_like_none(one):
    rows = noise(2)
    rows[1, 200] = 1e45
    (found,) = one(rows, band=(1.0, 30.0))
    assert np.argwhere(~found.valid).tolist() == [[1, 1]]
    assert np.abs(found.data).max() < 1e3


def test_a_modality_of_which_every_channel_is_flat_is_masked_not_refused(one):
    found = one(np.zeros((4, 1024)), "eeg", reference="average", band=(1.0, 30.0))[0]
    assert not found.valid.any()
    assert not found.data.any()


def test_the_average_reference_is_that_of_the_living_channels(one):
    rows = noise(4)
    rows[2] = 3.0
    found = one(rows, "eeg", reference="average")[0]
    alive = [0, 1, 3]
    np.testing.assert_allclose(found.data[alive], rows[alive] - rows[alive].mean(axis=0), atol=1e-6)
    assert not found.data[2].any()


def test_an_electrode_that_falls_off_and_on_leaves_the_average_of_the_others_alone(one):
    rows, stuck = noise(4, seconds=20), slice(6 * 128, 14 * 128)
    rows[2, stuck] = 500.0
    found = one(rows, "eeg", reference="average")[0]
    off = np.flatnonzero(~found.valid[2])
    assert off.tolist() == [11, 12, 13]
    assert found.valid[[0, 1, 3]].all()
    gone = np.repeat(~found.valid[2], 128)
    alive = [0, 1, 3]
    np.testing.assert_allclose(found.data[alive][:, gone], (rows[alive] - rows[alive].mean(axis=0))[:, gone], atol=1e-6)
    np.testing.assert_allclose(found.data[:, ~gone], (rows - rows.mean(axis=0))[:, ~gone], atol=1e-4)


def test_without_a_step_all_stays_as_it_is(one):
    rows = noise(3)
    for kind in ("eeg", "emg"):
        np.testing.assert_allclose(one(rows, kind)[0].data, rows, atol=1e-6)


def test_a_reference_is_for_the_eeg_and_leaves_other_modalities_as_they_are(one, recording):
    with pytest.raises(ValidationError, match="reference is for eeg"):
        one(noise(3), "emg", reference="average")
    rows = noise(3)
    modalities = {"eeg": {"sfreq": 128, "steps": [{"reference": "average"}]}, "emg": {"sfreq": 128}}
    ((_, trial),) = preprocess(recording({"eeg": rows, "emg": rows}), Signals(modalities=modalities))
    np.testing.assert_allclose(trial["emg"].data, rows, atol=1e-6)
    np.testing.assert_allclose(trial["eeg"].data, rows - rows.mean(axis=0), atol=1e-6)


@pytest.mark.parametrize(("kind", "still_s"), [("emg", 5), ("eda", 30), ("temp", 60)])
def test_a_trials_mask_is_that_of_its_whole_recording(one, kind, still_s):
    """A student in use hears recordings whole: what stands still before a trial must count for it, too."""
    n_secs = 4 * still_s
    rows = np.repeat(np.random.default_rng(0).normal(size=(1, n_secs)) * 1e-6 + 5e-6, 128, axis=1)
    rows[:, still_s * 128 // 2 : 2 * still_s * 128] = 5e-6  # does not move
    whole = one(rows, kind)[0].valid[0]
    for start in (0, still_s // 2, still_s, still_s + 1, 2 * still_s):
        part = one(rows, kind, spans=[(start, start + still_s)])[0].valid[0]
        np.testing.assert_array_equal(part, whole[start : start + still_s])
    assert whole.any()
    assert not whole.all()
