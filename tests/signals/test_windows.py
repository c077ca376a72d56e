"""Windows against brute force over samples and seconds."""

from fractions import Fraction

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from mtkd.signals.windows import cut, cut_valid, n_samples, n_windows

tenths = st.integers(1, 100)


def brute(duration: int, window: int, hop: int) -> list[int]:
    """Starts of all windows that fit, in tenths of a second."""
    return [start for start in range(0, duration, hop) if start + window <= duration]


@given(st.integers(0, 700), tenths, tenths)
def test_as_many_windows_as_fit(duration, window, hop):
    assert n_windows(duration / 10, window / 10, hop / 10) == len(brute(duration, window, hop))


def test_a_trial_shorter_than_a_window_has_none():
    assert n_windows(5.99, 6.0, 6.0) == 0
    assert n_windows(0.0, 6.0, 1.0) == 0
    assert n_windows(6.0, 6.0, 100.0) == 1


@given(st.integers(10, 300), tenths, tenths, st.sampled_from([10, 20, 50, 80, 100, 125, 128, 250]), st.integers(1, 3))
def test_a_window_holds_the_samples_from_its_start_on(duration, window, hop, sfreq, n_chans):
    starts = brute(duration, window, hop)
    n_times = round(Fraction(duration * sfreq, 10))
    if not starts or round(window / 10 * sfreq) < 1:
        return
    data = np.arange(float(n_chans * n_times)).reshape(n_chans, n_times)
    found = cut(data, sfreq, window / 10, hop / 10, len(starts))
    assert found.shape == (len(starts), n_chans, round(window / 10 * sfreq))
    for view, start in zip(found, starts, strict=True):
        first = int(view[0, 0])
        np.testing.assert_array_equal(view, data[:, first : first + view.shape[1]])
        # the nearest sample to the window's start; at the end of a trial the window stays inside it
        assert abs(first - Fraction(start * sfreq, 10)) <= 1
        assert first <= n_times - view.shape[1]


@given(st.integers(10, 300), tenths, tenths, st.sampled_from([10, 20, 50, 100]))
def test_windows_whole_in_samples_start_exactly(duration, window, hop, sfreq):
    starts = brute(duration, window, hop)
    if starts:
        data = np.arange(float(duration * sfreq // 10))[None]
        found = cut(data, sfreq, window / 10, hop / 10, len(starts))
        np.testing.assert_array_equal(found[:, 0, 0], np.array(starts) * sfreq // 10)


def test_only_as_many_windows_as_asked_for_are_cut():
    data = np.arange(100.0)[None]
    np.testing.assert_array_equal(cut(data, 10, 2.0, 1.0, 3)[:, 0, 0], [0, 10, 20])


@given(st.integers(10, 300), tenths, tenths, st.data())
def test_a_window_is_valid_where_every_second_it_touches_is(duration, window, hop, data):
    starts = brute(duration, window, hop)
    n_secs = -(-duration // 10)
    valid = np.array([data.draw(st.lists(st.booleans(), min_size=n_secs, max_size=n_secs)) for _ in range(2)])
    if not starts:
        return
    found = cut_valid(valid, window / 10, hop / 10, len(starts))
    assert found.shape == (len(starts), 2)
    for row, start in zip(found, starts, strict=True):
        touched = sorted({tenth // 10 for tenth in range(start, start + window)})
        np.testing.assert_array_equal(row, valid[:, touched].all(axis=1))


@given(st.integers(1, 300), tenths, tenths, st.floats(0.5, 600) | st.sampled_from([12.5, 31.25, 62.5, 285.7]))
def test_the_samples_that_begin_within_a_trial_hold_all_its_windows(duration, window, hop, sfreq):
    starts = brute(duration, window, hop)
    data = np.zeros((2, n_samples(duration / 10, sfreq)))
    found = cut(data, sfreq, window / 10, hop / 10, len(starts))
    assert found.shape == (len(starts), 2, round(window / 10 * sfreq))
