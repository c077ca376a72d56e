"""Answers about a trial as one structured array: what goes in comes out, and it takes no more room than it must."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mtkd.cache.members import PARTS, encode_rows, odd_window, rows_of, with_features
from mtkd.errors import MtkdError
from mtkd.layers.heads import TeacherSignal
from mtkd.shards.index import Sample
from mtkd.shards.schema import Layout, decode_array

SIZES = st.integers(1, 5)
DTYPES = st.sampled_from(["float16", "float32"])


def some_signal(seed: int, n_trials: int, n_windows: int, n_classes: int, n_features: int) -> TeacherSignal:
    drawn = torch.Generator().manual_seed(seed)
    shape = (n_trials, n_windows)
    return TeacherSignal(
        torch.randn((*shape, n_classes), generator=drawn),
        torch.randn((*shape, n_features), generator=drawn),
        torch.rand(shape, generator=drawn),
        torch.rand(shape, generator=drawn) < 0.5,
    )


@given(st.integers(0, 99), SIZES, SIZES, st.integers(2, 5), SIZES, DTYPES, st.data())
def test_what_is_written_is_read(
    seed: int, n_trials: int, n_windows: int, n_classes: int, n_features: int, dtype: str, data: st.DataObject
) -> None:
    signal = some_signal(seed, n_trials, n_windows, n_classes, n_features)
    trial, held = data.draw(st.integers(0, n_trials - 1)), data.draw(st.integers(1, n_windows))
    rows = rows_of(signal, trial, held, np.dtype(dtype))
    (content,) = encode_rows(sample(), rows, "spatial")[1].values()
    found = decode_array(content)
    assert found.dtype.itemsize == np.dtype(dtype).itemsize * (n_classes + n_features) + 4 + 1
    for part in PARTS:
        expected = getattr(signal, part)[trial, :held].numpy()
        rounded = expected.astype(dtype) if part in ("logits", "features") else expected
        np.testing.assert_array_equal(found[part], rounded)
        assert found[part].dtype == rounded.dtype


@given(st.integers(0, 99), SIZES, SIZES)
def test_other_features_leave_the_rest(seed: int, n_features: int, n_others: int) -> None:
    rows = rows_of(some_signal(seed, 1, 4, 3, n_features), 0, 4, np.dtype("float32"))
    others = np.random.default_rng(seed).standard_normal((4, n_others))
    found = with_features(rows, others, np.dtype("float16"))
    np.testing.assert_array_equal(found["features"], others.astype("float16"))
    np.testing.assert_array_equal(found["logits"], rows["logits"].astype("float16"))
    for part in ("confidence", "mask"):
        np.testing.assert_array_equal(found[part], rows[part])


@given(st.sampled_from(["logits", "features", "confidence"]), st.integers(0, 4), st.sampled_from([np.nan, np.inf]))
def test_the_window_without_a_number_is_named(part: str, window: int, value: float) -> None:
    rows = rows_of(some_signal(0, 1, 5, 2, 3), 0, 5, np.dtype("float16"))
    assert odd_window(rows) is None
    rows[part][window] = value
    assert odd_window(rows) == (part, window)
    with pytest.raises(MtkdError, match=f"the spatial teacher's {part} of window {window} of s01_t01 are no numbers"):
        encode_rows(sample(), rows, "spatial")


def sample() -> Sample:
    return Sample(
        key="s01_t01",
        subject="s01",
        stimulus="t01",
        duration_s=5.0,
        ratings={},
        modalities={"ecg": Layout(ch_names=["ECG"], sfreq=125.0)},
        valid={"ecg": 1.0},
        members={},
    )
