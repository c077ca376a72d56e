"""The steps of preprocessing one by one, in their order, and what a study may not ask for."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mtkd.errors import MtkdError

SFREQ = 256.0


def noise(n_chans: int = 2, seconds: float = 8, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n_chans, round(seconds * SFREQ)))


def sine(hertz: float, seconds: float = 20) -> np.ndarray:
    return np.sin(2 * np.pi * hertz * np.arange(round(seconds * SFREQ)) / SFREQ)[None]


def settled(signal) -> float:
    """The deviation of its first channel as a share of a sine's, without 2 s at either end."""
    return float(np.std(signal.data[0, 512:-512]) * np.sqrt(2))


KINDS = {"eeg": ["notch", "bandpass", "resample", "reference", "baseline", "reject"]}
KINDS |= {"eda": ["notch", "bandpass", "resample", "split", "baseline", "reject"]}
VALUES = {
    "notch": st.lists(st.sampled_from([9.0, 13.0]), min_size=1, max_size=2),
    "bandpass": st.sampled_from([[1.0, 12.0], [None, 12.0], [0.5, None]]),
    "resample": st.just({}),
    "reference": st.sampled_from(["average", ["eeg1"], ["eeg0", "eeg2"]]),
    "baseline": st.sampled_from([0.5, 1.0]),
    "reject": st.floats(1, 9),
    "split": st.sampled_from([0.05, 0.5]),
}


@st.composite
def some_steps(draw, kind):
    names = draw(st.lists(st.sampled_from(KINDS[kind]), unique=True, min_size=1))
    if "reject" in names:  # no filter may come after it
        filters = ("notch", "bandpass", "resample", "split")
        last = max((names.index(name) for name in filters if name in names), default=0)
        names.insert(max(last, names.index("reject")), names.pop(names.index("reject")))
    return [{name: draw(VALUES[name])} for name in names]


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=60)
@given(st.data())
def test_no_causal_step_knows_what_comes_next_whatever_comes_before_it(one, kind, data):
    steps, lead_s = data.draw(some_steps(kind)), data.draw(st.sampled_from([1.0, 1.5, 2.0]) | st.floats(1, 3))
    to, second = data.draw(st.sampled_from([256.0, 128.0, 32.0])), data.draw(st.integers(1, 6))
    rows = noise(3, seconds=11)
    start, stop = data.draw(st.tuples(st.integers(0, 2800), st.integers(1, 1200)))
    rows[1, start : start + stop] = data.draw(st.sampled_from([np.nan, 0.25]))
    at = round((3.0 - lead_s) * SFREQ) + round(lead_s * SFREQ) + round(second * SFREQ)
    changed = rows.copy()
    changed[:, at:] += 50 * noise(3, seconds=11, seed=1)[:, at:]
    changed[2, at + data.draw(st.integers(0, 300)) :] = np.nan
    before, after = (
        one(each, kind, spans=[(3.0, 11.0)], sfreq=SFREQ, to=to, lead_s=lead_s, steps=steps)[0]
        for each in (rows, changed)
    )
    # the trial begins with a sample; at a lower rate it may be one of up to half a step later
    n_past = (at - round((3.0 - lead_s) * SFREQ) - 1) // round(SFREQ / to) - round(lead_s * to) + 1
    n_past = min(n_past, int(second * to))
    np.testing.assert_array_equal(before.valid[:, :second], after.valid[:, :second])
    np.testing.assert_array_equal(before.data[:, :n_past], after.data[:, :n_past])
    assert n_past >= second * to - 1


@pytest.mark.parametrize("phase", ["causal", "zero"])
@pytest.mark.parametrize("hertz", [50.0, 100.0])
def test_a_notch_stops_its_frequencies_and_passes_their_neighbours(one, phase, hertz):
    steps = [{"notch": [50, 100]}]
    assert settled(one(sine(hertz), sfreq=SFREQ, phase=phase, steps=steps)[0]) < 0.01
    for neighbour in (0.9 * hertz, 1.1 * hertz, 10.0):
        found = settled(one(sine(neighbour), sfreq=SFREQ, phase=phase, steps=steps)[0])
        assert found == pytest.approx(1, abs=0.1), neighbour


def test_a_notch_is_causal_unless_told_otherwise_and_settles_within_a_second(one):
    (found,) = one(sine(50.0), sfreq=SFREQ, steps=[{"notch": [50]}])
    assert np.abs(found.data[0, :5]).max() > 0.5  # it does not know yet
    assert np.abs(found.data[0, 256:]).max() < 0.02
    changed = sine(50.0)
    changed[0, 1000:] = 7.0
    (other,) = one(changed, sfreq=SFREQ, steps=[{"notch": [50]}])
    np.testing.assert_array_equal(found.data[0, :1000], other.data[0, :1000])


def test_a_notch_keeps_the_level(one):
    (found,) = one(5.0 + 1e-3 * noise(1), sfreq=SFREQ, steps=[{"notch": [50]}])
    np.testing.assert_allclose(found.data, 5.0, rtol=2e-3)


@pytest.mark.parametrize("freqs", [[150.0], [50.0, 127.0]])
def test_a_notch_that_the_signal_does_not_hold_is_refused(one, freqs):
    with pytest.raises(MtkdError, match=rf"^s1\.dat: signals\.modalities\.emg\.steps: notch at {freqs[-1]:g} Hz.*128"):
        one(noise(), sfreq=SFREQ, steps=[{"notch": freqs}])


def test_a_reference_is_the_mean_of_the_named(one):
    rows = noise(4)
    (found,) = one(rows, "eeg", sfreq=SFREQ, names=["Cz", "A1", "A2", "Oz"], steps=[{"reference": ["A1", "A2"]}])
    np.testing.assert_allclose(found.data, rows - rows[1:3].mean(axis=0), atol=1e-6)
    (found,) = one(rows, "eeg", sfreq=SFREQ, steps=[{"reference": ["eeg3"]}])
    np.testing.assert_allclose(found.data, rows - rows[3], atol=1e-6)
    assert found.valid.all(axis=1).tolist() == [True, True, True, False]
    assert not found.valid[3].any()


def test_a_named_reference_that_is_off_leaves_it_to_the_others_and_without_any_nothing_is_valid(one):
    rows = noise(4, seconds=8)
    rows[1, 2 * 256 : 4 * 256] = np.nan
    rows[2, 3 * 256 : 6 * 256] = np.nan
    (found,) = one(rows, "eeg", sfreq=SFREQ, steps=[{"reference": ["eeg1", "eeg2"]}])
    assert np.flatnonzero(~found.valid[0]).tolist() == np.flatnonzero(~found.valid[3]).tolist() == [3]
    for second, of in ((0, [1, 2]), (2, [2]), (4, [1]), (5, [1]), (7, [1, 2])):
        own = slice(256 * second, 256 * (second + 1))
        np.testing.assert_allclose(found.data[0, own], rows[0, own] - rows[of, own].mean(axis=0), atol=1e-6)
    assert not found.data[:, 3 * 256 : 4 * 256].any()


@pytest.mark.parametrize("to", ["average", ["eeg1", "eeg2"]])
@settings(max_examples=30)
@given(st.lists(st.lists(st.booleans(), min_size=3, max_size=3), min_size=2, max_size=6))
def test_an_electrode_is_never_its_own_reference_alone(one, to, alive):
    """It would be zero, and count as a signal of zero volts."""
    rows, is_on = noise(3, seconds=len(alive)), np.array(alive).T
    rows[~np.repeat(is_on, 256, axis=1)] = np.nan
    (found,) = one(rows, "eeg", sfreq=SFREQ, steps=[{"reference": to}])
    of = [0, 1, 2] if to == "average" else [1, 2]
    n_left = is_on[of].sum(axis=0)
    expected = is_on & (n_left > 0)
    expected[of] &= n_left > 1
    np.testing.assert_array_equal(found.valid, expected)
    assert (found.data.reshape(3, len(alive), 256).std(axis=2) > 0.1)[expected].all()


@pytest.mark.parametrize("to", ["average", ["eeg0"]])
def test_one_electrode_has_no_reference(one, to):
    with pytest.raises(MtkdError, match=r"^s1\.dat: signals\.modalities\.eeg\.steps: reference: of eeg0 alone"):
        one(noise(1), "eeg", sfreq=SFREQ, steps=[{"reference": to}])


def test_a_reference_that_is_not_there_is_refused_with_those_that_are(one):
    with pytest.raises(MtkdError, match=r"^s1\.dat: signals\.modalities\.eeg\.steps: .* 'A1' is none of eeg0, eeg1$"):
        one(noise(2), "eeg", sfreq=SFREQ, steps=[{"reference": ["eeg0", "A1"]}])


@pytest.mark.parametrize("length_s", [0.5, 2.0, 3.0])
def test_a_baseline_is_the_mean_of_the_last_seconds_before_the_trial(one, length_s):
    rows = noise(2) + np.array([[3.0], [-7.0]])
    (found,) = one(rows, spans=[(4.0, 7.0)], sfreq=SFREQ, lead_s=3.0, steps=[{"baseline": length_s}])
    lead = rows[:, 1024 - round(length_s * 256) : 1024]
    expected = rows[:, 1024:1792] - lead.mean(axis=1, keepdims=True)
    np.testing.assert_allclose(found.data, expected, atol=1e-5)


def test_a_baseline_is_of_the_seconds_in_which_the_sensor_was_on(one):
    rows, second = 50 + noise()[:1], int(SFREQ)
    half, off = rows.copy(), rows.copy()
    half[:, : 3 * second] = np.nan  # one second of the lead is left
    off[:, : 4 * second] = np.nan
    settings = {"spans": [(4.0, 7.0)], "sfreq": SFREQ, "lead_s": 3.0, "steps": [{"baseline": 3.0}]}
    (left,), (none,) = one(half, **settings), one(off, **settings)
    expected = rows[:, 4 * second : 7 * second] - rows[:, 3 * second : 4 * second].mean()
    np.testing.assert_allclose(left.data, expected, atol=1e-4)
    assert left.valid.all()
    assert not none.valid.any()


def test_a_baseline_without_a_sample_is_refused(one):
    with pytest.raises(MtkdError, match=r"^s1\.dat: signals\.modalities\.emg\.steps: a baseline of 0\.001 s .* 256 Hz"):
        one(noise(), spans=[(4.0, 7.0)], sfreq=SFREQ, lead_s=3.0, steps=[{"baseline": 1e-3}])


def test_seconds_in_which_a_channel_spans_too_much_are_masked(one):
    rows = noise(3) / 10
    rows[0, 600] += 5.0  # in second 2
    rows[1, 1279:1281] -= 5.0  # the last of second 4, the first of second 5
    rows[2] += 100.0  # a level is no span
    (found,) = one(rows, sfreq=SFREQ, steps=[{"reject": 2.0}])
    assert np.argwhere(~found.valid).tolist() == [[0, 2], [1, 4], [1, 5]]
    np.testing.assert_allclose(found.data, np.where(np.repeat(found.valid, 256, axis=1), rows, 0.0), rtol=1e-6)


@pytest.mark.parametrize("to", [32.0, 64.0])
def test_what_is_rejected_does_not_ring_on_through_the_filter_of_resampling(one, to):
    """That filter goes first, where the study does not say where it goes."""
    rows = 1e-5 * noise(1, seconds=12)
    rows[:, 6 * int(SFREQ) : 7 * int(SFREQ)] += 5e-3 * np.sign(noise(1, seconds=1))
    clean = 1e-5 * noise(1, seconds=12)
    found, without = (one(each, sfreq=SFREQ, to=to, steps=[{"reject": 2e-4}])[0] for each in (rows, clean))
    assert not found.valid[0, 6]
    assert found.valid[0, :6].all()
    on = np.repeat(found.valid[0], int(to))
    assert np.abs(found.data[0, on] - without.data[0, on]).max() < 2e-4  # in volts, of five thousandths


def test_seconds_of_rejection_are_those_of_the_trial_whatever_its_lead(one):
    rows = noise(1) / 10
    rows[0, 5 * 256 + 10] += 5.0
    (found,) = one(rows, spans=[(3.0, 8.0)], sfreq=SFREQ, lead_s=1.3, steps=[{"reject": 2.0}])
    assert np.argwhere(~found.valid).tolist() == [[0, 2]]


def test_steps_are_done_in_their_order(one):
    """An artefact that all electrodes share is rejected before their mean has been taken off, and not after it."""
    rows = noise(2) / 100 + 5 * sine(5.0, seconds=8)
    first, last = {"reference": "average"}, {"reject": 2.0}
    referenced, rejected = (
        one(rows, "eeg", spans=[(2.0, 8.0)], sfreq=SFREQ, lead_s=2.0, steps=steps)[0]
        for steps in ([first, last], [last, first])
    )
    assert referenced.valid.all()
    assert not rejected.valid.any()


def test_the_rate_is_reached_where_the_study_says_and_at_the_end_otherwise(one):
    """Behind the resampling there is no room for a tone that was there before it."""
    notch, tone = {"notch": [50.0]}, sine(50.0)
    before, bare = (
        one(tone, sfreq=SFREQ, to=64.0, phase="zero", steps=each)[0] for each in ([notch, "resample"], [notch])
    )
    np.testing.assert_array_equal(before.data, bare.data)
    assert before.sfreq == 64.0
    assert before.data.shape == (1, 20 * 64)
    with pytest.raises(MtkdError, match="notch at 50 Hz, but the signal reaches 32 Hz"):
        one(tone, sfreq=SFREQ, to=64.0, steps=["resample", notch])


def test_a_baseline_is_the_same_before_and_behind_the_resampling(one):
    rows = noise(1) + 4.0
    settings = {"spans": [(4.0, 8.0)], "sfreq": SFREQ, "to": 32.0, "lead_s": 4.0, "phase": "zero"}
    (plain,) = one(rows, **settings)
    for steps in ([{"baseline": 3.0}, "resample"], ["resample", {"baseline": 3.0}]):
        (found,) = one(rows, steps=steps, **settings)
        offset = plain.data - found.data
        assert offset == pytest.approx(4.0, abs=0.3)
        assert np.ptp(offset[:, 32:-32]) < 0.01
