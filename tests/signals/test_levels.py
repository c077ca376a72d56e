"""Where a signal goes on at another level, no filter rings on, and what has a level keeps it."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mtkd.config import Signals
from mtkd.signals.masks import BRIDGED_S, fill
from mtkd.signals.preprocess import Signal, preprocess
from mtkd.signals.recording import Recording

SFREQ, N_SECS = 128.0, 24
N_TIMES = N_SECS * 128

EEG = [
    [{"bandpass": [1, 40]}],
    [{"notch": [50]}, {"bandpass": [0.5, 40]}, "resample", {"reference": "average"}],
    [{"reference": "average"}, {"bandpass": [1, 40]}],
    ["resample", {"bandpass": [1, 20]}],
]
LEVELLED = [[], [{"notch": [50]}], [{"bandpass": [None, 5]}], ["resample", {"bandpass": [None, 5]}]]


def noise(n_chans: int = 1, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n_chans, N_TIMES))


def processed(
    recording, rows: np.ndarray, kind: str, steps, to: float, phase: str, joints=(), lead_s: float = 0.0
) -> Signal:
    made: Recording = recording({kind: rows}, [(lead_s, rows.shape[1] / SFREQ)])
    made = replace(made, streams={kind: replace(made.streams[kind], joints=tuple(joints))})
    modality = {"sfreq": to, "phase": phase, "steps": steps}
    ((_, trial),) = preprocess(made, Signals(modalities={kind: modality}, lead_s=lead_s, transductive=True))
    return trial[kind]


@st.composite
def some_break(draw) -> tuple[int, int, tuple[int, ...]]:
    """The first sample of a stretch without a signal, that behind it, and the joint in it, if it is so short."""
    start, n_lost = draw(st.integers(5 * 128, 12 * 128)), draw(st.sampled_from([1, 2, 5]) | st.integers(14, 600))
    return start, start + n_lost, (start,) if n_lost <= BRIDGED_S * SFREQ else ()


def on(signal: Signal) -> np.ndarray:
    return np.repeat(signal.valid, round(signal.sfreq), axis=1)


@pytest.mark.parametrize("phase", ["causal", "zero"])
@settings(max_examples=40)
@given(some_break(), st.sampled_from(EEG), st.sampled_from([128.0, 64.0]), st.floats(30, 1e4), st.booleans())
def test_what_a_band_lets_through_does_not_know_how_far_the_level_went(
    recording, phase, where, steps, to, height, is_common
):
    start, stop, joints = where
    found = []
    for moved in (height, -height, 3 * height):
        rows = noise(3)
        rows[:, start:stop] = np.nan
        rows[slice(None) if is_common else 1, stop:] += moved
        found.append(processed(recording, rows, "eeg", steps, to, phase, joints, 2.0))
    for other in found[1:]:
        np.testing.assert_array_equal(found[0].valid, other.valid)
        assert other.valid.mean() > 0.6
        np.testing.assert_allclose(found[0].data, other.data, atol=1e-6 + 1e-6 * height / 30)
    assert np.abs(found[0].data).max() < 10  # and rings on no longer than noise does


@pytest.mark.parametrize("phase", ["causal", "zero"])
@settings(max_examples=40)
@given(some_break(), st.sampled_from(LEVELLED), st.sampled_from([128.0, 16.0]), st.floats(-1e3, 1e3))
def test_what_passes_levels_keeps_them_on_both_sides(recording, phase, where, steps, to, height):
    if to < 128 and steps[:1] == [{"notch": [50]}]:
        to = 128.0
    start, stop, joints = where
    rows = 5 + 0 * noise()
    rows[:, ::64] += 1e-4  # it must move, or it is off
    rows[:, start:stop] = np.nan
    rows[:, stop:] += height
    found = processed(recording, rows, "eda", steps, to, phase, joints)
    times = np.arange(found.data.shape[1]) / to
    np.testing.assert_allclose(
        found.data[on(found)], (5 + height * (times >= stop / SFREQ))[None][on(found)], atol=2e-3
    )


@settings(max_examples=40)
@given(some_break(), st.sampled_from([*EEG, *LEVELLED]), st.sampled_from([128.0, 64.0]), st.integers(4, 14))
def test_no_level_knows_what_comes_next(recording, where, steps, to, second):
    start, stop, joints = where
    rows = noise(3)
    rows[1:, stop:] += 100
    rows[:, start:stop] = np.nan
    changed = rows.copy()
    changed[:, second * 128 :] += 50 * noise(3, seed=1)[:, second * 128 :]
    before, after = (processed(recording, each, "eeg", steps, to, "causal", joints) for each in (rows, changed))
    cut = processed(recording, rows[:, : second * 128], "eeg", steps, to, "causal", joints)
    for other in (after, cut):
        np.testing.assert_array_equal(before.valid[:, :second], other.valid[:, :second])
        n_past = second * round(to)
        np.testing.assert_array_equal(before.data[:, :n_past], other.data[:, :n_past])


def test_a_lost_packet_is_bridged_and_a_long_gap_keeps_the_value_before_it():
    rows = np.linspace(0, 1, 1280)[None].repeat(3, axis=0)
    rows[0, 500:512] = rows[1, 500:513] = rows[2, 500] = np.nan
    rows[2, 501:] += 7
    rows[1, 513:] += 5
    found = fill(rows, SFREQ, "ecg")
    np.testing.assert_allclose(found.data[0], np.linspace(0, 1, 1280))
    np.testing.assert_array_equal(found.data[1, 500:513], rows[1, 499])
    assert found.data[2, 500] == pytest.approx((rows[2, 499] + rows[2, 501]) / 2)
    assert np.argwhere(found.steps).tolist() == [[1, 513]]
    assert found.steps[1, 513] == rows[1, 513] - rows[1, 499]
    found = fill(rows, SFREQ, "ecg", joints=[500])
    assert np.argwhere(found.steps).tolist() == [[1, 513], [2, 501]]


def test_what_has_no_beginning_or_no_end_is_no_step():
    rows = noise(2)
    rows[0, :300] = rows[1, 2000:] = np.nan
    found = fill(rows, SFREQ, "ecg")
    assert found.steps is None
    assert (found.data[0, :300] == rows[0, 300]).all()
    assert (found.data[1, 2000:] == rows[1, 1999]).all()


@pytest.mark.parametrize("phase", ["causal", "zero"])
def test_conductance_is_split_as_if_its_level_had_stayed(recording, phase):
    rows = 5 + np.cumsum(1e-3 * noise(), axis=1)
    rows[:, 1000:1100] = np.nan
    higher = (rows + height * (np.arange(N_TIMES) >= 1100) for height in (3, 6))
    plain, found = (processed(recording, each, "eda", ["split", "resample"], 16.0, phase) for each in higher)
    behind = np.repeat(np.arange(N_SECS) >= 9, 16)
    np.testing.assert_allclose(found.data[1], plain.data[1], atol=1e-5)
    np.testing.assert_allclose((found.data - plain.data)[0, behind], 3, atol=1e-5)


def test_beats_are_found_on_both_sides_of_a_joint(recording):
    times = np.arange(N_TIMES) / SFREQ
    rows = np.exp(-(((times % 0.8 - 0.3) / 0.02) ** 2))[None] + 1e-3 * noise()
    moved = rows + 500 * (times >= 12)
    moved[:, 1535:1537] = rows[:, 1535:1537] = np.nan
    plain, found = (processed(recording, each, "ecg", ["rate"], 128.0, "zero", [1535]) for each in (rows, moved))
    np.testing.assert_array_equal(found.valid, plain.valid)
    np.testing.assert_allclose(found.data[1], plain.data[1])
    assert found.data[1, on(found)[1]] == pytest.approx(1 / 0.8, abs=0.05)


@settings(max_examples=40)
@given(st.integers(4 * 128, 18 * 128), st.floats(0.15, 3.0), st.floats(0, 6.3), st.booleans())
def test_a_swing_is_no_other_level(start, gap_s, turn, is_joint):
    """Breath goes on where it swings; by the two samples beside a gap it would have moved by all of its swing."""
    stop = start + round(gap_s * SFREQ)
    rows = np.sin(2 * np.pi * 0.3 * np.arange(N_TIMES) / SFREQ + turn)[None]
    rows[:, start:stop] = np.nan
    found = fill(rows, SFREQ, "resp", joints=(start,) if is_joint else ())
    assert found.steps is None or np.abs(found.steps).max() < 0.1  # at its very turn it may pass what was seen
    moved = np.where(np.arange(N_TIMES) >= stop, rows + 5, rows)
    (step,) = fill(moved, SFREQ, "resp").steps[:, stop]
    assert 3 <= step <= 7


@pytest.mark.parametrize("phase", ["causal", "zero"])
@settings(max_examples=30)
@given(st.lists(st.sampled_from([0.0, 1e3, -1e3, 40.0]), min_size=2, max_size=4), st.booleans())
def test_each_of_several_steps_is_one(recording, phase, heights, are_joints):
    """Back to where it was as well, however shortly after; so a glitch between two gaps is none of the signal."""
    rows, edges, joints = noise(), [8 * 128 + 200 * k for k in range(len(heights))], []
    for edge, height in zip(edges, heights, strict=True):
        rows[:, edge:] += height - (rows[:, edge:].mean() if edge != edges[0] else 0)
        if are_joints:
            joints.append(edge)
    plain = noise()
    for edge in edges:
        rows[:, edge - 40 : edge] = plain[:, edge - 40 : edge] = np.nan
    found, quiet = (processed(recording, each, "eeg", EEG[0], 128.0, phase, joints, 2.0) for each in (rows, plain))
    np.testing.assert_array_equal(found.valid, quiet.valid)
    assert np.abs(found.data).max() < 10


def test_a_short_artefact_is_not_what_a_signal_was():
    rows = noise()
    rows[:, 600:603] += 3000
    rows[:, 1400:1500] = np.nan
    rows[:, 1500:] += 1000
    assert fill(rows, SFREQ, "ecg").steps[0, 1500] == pytest.approx(1000, abs=6)


@settings(max_examples=60)
@given(
    st.integers(10 * 128, 20 * 128), st.floats(0.15, 2.0), st.floats(0, 6.3), st.floats(0, 0.25), st.floats(0.13, 0.4)
)
def test_a_breath_deeper_than_those_before_is_no_other_level(start, gap_s, turn, more, rate):
    """From eight breaths a minute on: of slower ones the ten seconds that are looked at hold no more than one."""
    times = np.arange(N_TIMES) / SFREQ
    rows = ((1 + more * np.sin(0.25 * times + 2 * turn)) * np.sin(2 * np.pi * rate * times + turn))[None]
    rows[:, start : start + round(gap_s * SFREQ)] = np.nan
    assert fill(rows, SFREQ, "resp").steps is None


@pytest.mark.parametrize("sfreq", [1 / 60, 0.04, 0.1, 1.0])
def test_a_sensor_slower_than_its_gaps_has_levels_too(sfreq):
    rows = np.arange(30.0)[None] % 3
    rows[:, 10:13] = np.nan
    rows[:, 13:] += 100
    assert np.argwhere(fill(rows, sfreq, "temp").steps).tolist() == [[0, 13]]


BLINKS = [(100, 0.3, height) for height in (-400, -40, -45, 120, 900)]
BLINKS += [(1000, 0.1, height) for height in (-400, -40, -45, 1100)]  # a level that was seen would be no step


@pytest.mark.parametrize(("blink", "length_s", "height"), BLINKS)
def test_a_blink_before_it_hides_no_step(blink, length_s, height):
    rows = noise()
    rows[:, 700 : 700 + int(128 * length_s)] += blink
    rows[:, 1500:1564] = np.nan
    rows[:, 1564:] += height
    assert fill(rows, SFREQ, "eeg").steps[0, 1564] == pytest.approx(height, abs=7)


@settings(max_examples=60)
@given(st.floats(0.6, 3), st.floats(0, 0.8), st.sampled_from([0, 8, 9, 15]))
def test_a_heartbeat_behind_a_long_absence_is_no_step(on_s, phase, off_s):
    """What a channel was held at while it was away is nothing that its signal was."""
    times = np.arange(30 * 256) / 256
    rows = np.exp(-(((times + phase) % 0.8 - 0.4) ** 2) / (2 * 0.012**2))[None]
    back = 20 * 256
    rows[:, back - off_s * 256 : back] = np.nan
    lost = back + round(on_s * 256)
    rows[:, lost : lost + 38] = np.nan
    found = fill(rows, 256.0, "ecg")
    assert found.steps is None or np.abs(found.steps[:, lost + 38]).max() < 0.3
