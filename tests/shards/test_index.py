"""An index that others wrote: whatever it claims is refused before anything is read or written by it."""

import json

import pytest

from mtkd.errors import MtkdError
from mtkd.shards.index import NAME, Sample, read_index, write_index

SAMPLE = {
    "key": "s01_t01",
    "subject": "s01",
    "stimulus": "v",
    "duration_s": 6.0,
    "ratings": {"valence": 7.0},
    "modalities": {"eda": {"ch_names": ["GSR"], "sfreq": 4.0}},
    "valid": {"eda": 0.5},
    "members": {"eda.npy": {"offset": 512, "size": 224, "crc32": 1}},
}


def put(folder, shards: dict) -> None:
    (folder / NAME).write_text(json.dumps({"format": "mtkd-index-1", "shards": shards}))


def test_what_was_written_is_read(tmp_path):
    shards = {"s01.tar": [Sample.model_validate(SAMPLE)]}
    write_index(tmp_path, shards)
    assert read_index(tmp_path).shards == shards


@pytest.mark.parametrize("key", ["../../../x", "/tmp/x", "a/b", "a.b", "a\0b", "a\nb", "", "\\x", "x" * 1025])
def test_a_key_that_is_no_name_is_refused(tmp_path, key):
    put(tmp_path, {"s01.tar": [SAMPLE | {"key": key}]})
    with pytest.raises(MtkdError, match=r"damaged index, shards\.s01\.tar\.0\.key: "):
        read_index(tmp_path)


@pytest.mark.parametrize(
    "changes",
    [
        {"duration_s": float("nan")},
        {"duration_s": float("inf")},
        {"duration_s": -1.0},
        {"duration_s": 1e300},
        {"ratings": {"valence": float("nan")}},
        {"modalities": {}, "valid": {}},
        {"modalities": {"eda": {"ch_names": [], "sfreq": 4.0}}},
        {"modalities": {"eda": {"ch_names": ["GSR"], "sfreq": 0.0}}},
        {"valid": {}},
        {"valid": {"eda": 1.5}},
        {"valid": {"eda": 1.0, "ecg": 1.0}},
        {"members": {"eda.npy": {"offset": -1, "size": 224, "crc32": 1}}},
        {"subject": ""},
    ],
)
def test_a_sample_that_cannot_be_is_refused(tmp_path, changes):
    put(tmp_path, {"s01.tar": [SAMPLE | changes]})
    with pytest.raises(MtkdError, match=rf"^{tmp_path / NAME}: damaged index, shards\.s01\.tar\.0"):
        read_index(tmp_path)


@pytest.mark.parametrize("shards", [{}, {"s01.tar": []}])
def test_a_set_of_nothing_is_refused(tmp_path, shards):
    put(tmp_path, shards)
    with pytest.raises(MtkdError, match="damaged index, shards"):
        read_index(tmp_path)
