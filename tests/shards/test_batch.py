"""What models are given: labels, windows, padding, and masks for all that is not there."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mtkd.config import Windows
from mtkd.shards.batch import Batch, Cutter, layouts
from mtkd.shards.index import Sample
from mtkd.shards.labels import UNLABELLED
from mtkd.shards.read import ShardSet
from mtkd.shards.schema import Layout

WINDOWS = Windows(window_s=2.0, hop_s=1.0)
MODALITIES = ["eeg", "eda"]
NO_SHARDS = object.__new__(ShardSet)  # neither a trial's class nor its number of windows is read from a shard


def cutter(shards, windows=WINDOWS, labels=None, modalities=MODALITIES) -> Cutter:
    return Cutter(shards, layouts(shards.index.samples, modalities), windows, labels or {"valence": 5.0})


def sample(**ratings: float) -> Sample:
    said = {"key": "k", "subject": "s", "stimulus": "x", "duration_s": 1, "ratings": ratings, "members": {}}
    return Sample(**said, modalities={"eda": Layout(ch_names=["GSR"], sfreq=4)}, valid={"eda": 1.0})


@pytest.mark.parametrize(
    ("ratings", "label"),
    [
        ({"v": 5.0}, 0),
        ({"v": 5.000001}, 1),
        ({"v": 1.0}, 0),
        ({"v": 9.0}, 1),
        ({}, -1),
        ({"a": 9.0}, -1),
    ],
)
def test_one_rating_is_high_above_its_threshold_and_a_tie_is_low(ratings, label):
    assert Cutter(NO_SHARDS, {}, WINDOWS, {"v": 5.0}).label(sample(**ratings)) == label


@pytest.mark.parametrize(
    ("ratings", "label"),
    [
        ({"v": 1, "a": 1}, 0),
        ({"v": 9, "a": 1}, 1),
        ({"v": 1, "a": 9}, 2),
        ({"v": 9, "a": 9}, 3),
        ({"v": 5, "a": 5}, 0),
        ({"v": 5, "a": 9}, 2),
        ({"v": 9}, UNLABELLED),
        ({"a": 9}, UNLABELLED),
    ],
)
def test_two_ratings_make_quadrants_whose_bits_are_the_ratings(ratings, label):
    found = Cutter(NO_SHARDS, {}, WINDOWS, {"v": 5.0, "a": 5.0}).label(sample(**ratings))
    assert found == label
    assert type(found) is int


def test_a_hidden_subjects_rating_is_as_good_as_none():
    for hidden, label in ((frozenset(), 1), (frozenset("x"), 1), (frozenset("sx"), UNLABELLED)):
        assert Cutter(NO_SHARDS, {}, WINDOWS, {"v": 5.0}, hidden).label(sample(v=9.0)) == label


@given(st.dictionaries(st.sampled_from("abcd"), st.floats(1, 9), min_size=1), st.data())
def test_any_ratings_give_the_class_of_their_bits(limits, data):
    ratings = {name: data.draw(st.floats(1, 9) | st.just(limit)) for name, limit in limits.items()}
    found = Cutter(NO_SHARDS, {}, WINDOWS, limits).label(sample(**ratings))
    assert [bool(found >> bit & 1) for bit in range(len(limits))] == [ratings[name] > limits[name] for name in limits]


def test_a_batch_holds_the_windows_of_its_trials_in_the_order_asked_for(tmp_path, make_set, make_trial):
    names = ["t01", "t02", "t03"]
    shards = make_set(
        tmp_path, {"s01.tar": [make_trial(name, ratings={"valence": 4.0 + 2 * (name == "t02")}) for name in names]}
    )
    batch = cutter(shards).batch(["s01_t02", "s01_t01"])
    assert batch.keys == ["s01_t02", "s01_t01"]
    assert batch.labels.tolist() == [1, 0]
    assert batch.steps.shape == (2, 5)
    assert batch.steps.all()
    assert batch.signals["eeg"].shape == (2, 5, 2, 32)
    assert batch.signals["eda"].shape == (2, 5, 1, 8)
    for row, key in enumerate(batch.keys):
        for modality, rate in (("eeg", 16), ("eda", 4)):
            whole = shards.read(key, f"{modality}.npy")
            for step in range(5):
                np.testing.assert_array_equal(
                    batch.signals[modality][row, step], whole[:, step * rate : (step + 2) * rate]
                )
    assert all(valid.all() for valid in batch.valid.values())


def test_shorter_trials_are_padded_and_masked(tmp_path, make_set, make_trial):
    shards = make_set(tmp_path, {"s01.tar": [make_trial("t01", 6.0), make_trial("t02", 3.5), make_trial("t03", 2.0)]})
    batch = cutter(shards).batch(["s01_t02", "s01_t01", "s01_t03"])
    assert batch.steps.tolist() == [[True] * 2 + [False] * 3, [True] * 5, [True] + [False] * 4]
    for modality in MODALITIES:
        assert not batch.signals[modality][~batch.steps].any()
        assert not batch.valid[modality][~batch.steps].any()
        assert batch.valid[modality][batch.steps].all()
        assert (batch.signals[modality][batch.steps] != 0).all()
        assert batch.present(modality).equal(batch.steps)


def test_a_trial_alone_and_in_company_is_the_same(tmp_path, make_set, make_trial):
    shards = make_set(tmp_path, {"s01.tar": [make_trial("t01", 6.0), make_trial("t02", 3.0)]})
    whole = cutter(shards).batch(["s01_t01", "s01_t02"])
    alone = cutter(shards).batch(["s01_t02"])
    n_steps = alone.steps.shape[1]
    for modality in MODALITIES:
        assert whole.signals[modality][1, :n_steps].equal(alone.signals[modality][0])
        assert whole.valid[modality][1, :n_steps].equal(alone.valid[modality][0])


def test_filler_trials_are_masked(tmp_path, make_set, make_trial):
    shards = make_set(tmp_path, {"s01.tar": [make_trial("t01"), make_trial("t02")]})
    batch = cutter(shards).batch(["s01_t02", "s01_t01", "s01_t01"], filler=2)
    assert batch.steps.any(dim=1).tolist() == [True, False, False]
    assert not batch.present("eeg")[1:].any()


def test_channels_that_a_trial_lacks_are_masked_and_the_others_stand_under_their_names(tmp_path, make_set, make_trial):
    order = {"t01": ["F3", "Cz", "F4"], "t02": ["F4", "O1"], "t03": ["F4", "F3", "Cz", "O1"]}
    shards = make_set(
        tmp_path, {"s01.tar": [make_trial(name, ch_names={"eeg": chans}) for name, chans in order.items()]}
    )
    made = cutter(shards)
    assert made.layouts["eeg"].ch_names == ["F3", "Cz", "F4", "O1"]
    batch = made.batch([f"s01_{name}" for name in order])
    for row, (name, chans) in enumerate(order.items()):
        whole = shards.read(f"s01_{name}", "eeg.npy")
        for place, channel in enumerate(made.layouts["eeg"].ch_names):
            assert batch.valid["eeg"][row, :, place].all() == (channel in chans)
            assert batch.valid["eeg"][row, :, place].any() == (channel in chans)
            if channel in chans:
                np.testing.assert_array_equal(batch.signals["eeg"][row, 0, place], whole[chans.index(channel), :32])
            else:
                assert not batch.signals["eeg"][row, :, place].any()


def test_a_modality_that_a_trial_lacks_is_masked(tmp_path, make_set, make_trial):
    shards = make_set(tmp_path, {"s01.tar": [make_trial("t01"), make_trial("t02", rates={"eeg": 16.0})]})
    batch = cutter(shards).batch(["s01_t01", "s01_t02"])
    assert batch.present("eda").tolist() == [[True] * 5, [False] * 5]
    assert batch.present("eeg").all()
    assert not batch.signals["eda"][1].any()


def test_a_second_without_signal_masks_the_windows_that_touch_it_on_that_channel(tmp_path, make_set, make_trial):
    subject, span, signals = make_trial("t01")
    signals["eeg"].valid[1, 3] = False
    signals["eeg"].data[1, 48:64] = 0.0
    batch = cutter(make_set(tmp_path, {"s01.tar": [(subject, span, signals)]})).batch(["s01_t01"])
    assert batch.valid["eeg"][0, :, 1].tolist() == [True, True, False, False, True]
    assert batch.valid["eeg"][0, :, 0].all()
    assert batch.present("eeg").all()


def test_layouts_are_those_of_all_trials_and_leave_out_what_none_has(tmp_path, make_set, make_trial):
    shards = make_set(
        tmp_path,
        {"s01.tar": [make_trial("t01", rates={"eda": 4.0}), make_trial("t02", ch_names={"eeg": ["Cz"]})]},
    )
    found = layouts(shards.index.samples, ["eeg", "ppg", "eda"])
    assert found == {"eeg": Layout(ch_names=["Cz"], sfreq=16.0), "eda": Layout(ch_names=["EDA"], sfreq=4.0)}


def test_a_batch_moves_as_a_whole(tmp_path, make_set, make_trial):
    batch = cutter(make_set(tmp_path, {"s01.tar": [make_trial("t01")]})).batch(["s01_t01"])
    moved = batch.to(torch.device("meta"))
    assert isinstance(moved, Batch)
    tensors = [*moved.signals.values(), *moved.valid.values(), moved.steps, moved.labels]
    assert {tensor.device.type for tensor in tensors} == {"meta"}
    assert moved.keys == batch.keys
    assert replace(batch).keys == batch.keys


@given(st.integers(4, 40), st.integers(1, 4), st.integers(1, 4))
def test_as_many_steps_as_windows_fit_the_duration(quarters, window, hop):
    made = Cutter(NO_SHARDS, {}, Windows(window_s=window, hop_s=hop), {})
    trial = sample().model_copy(update={"duration_s": quarters / 4})
    starts = [start for start in range(0, 40, hop) if start + window <= quarters / 4]
    assert made.n_steps(trial) == len(starts)


def test_a_mask_that_is_on_throughout_need_not_be_read(tmp_path, make_set, make_trial, monkeypatch):
    """It is known from the index; one second that is off among thousands is not lost in rounding."""
    subject, span, signals = make_trial("t02", 20_000.0, {"eda": 4.0})
    signals["eda"].valid[0, 12_345] = False
    shards = make_set(tmp_path, {"s01.tar": [make_trial("t01", 20_000.0, {"eda": 4.0}), (subject, span, signals)]})
    assert shards.samples["s01_t01"].valid["eda"] == 1
    assert shards.samples["s01_t02"].valid["eda"] < 1
    cutter = Cutter(shards, layouts(shards.index.samples, ["eda"]), Windows(window_s=1, hop_s=1), {})
    plain, read = ShardSet.read, []
    monkeypatch.setattr(ShardSet, "read", lambda self, key, member: (read.append(member), plain(self, key, member))[1])
    first, second = (cutter.batch([key]).valid["eda"][0, :, 0] for key in ("s01_t01", "s01_t02"))
    assert read == ["eda.npy", "eda.npy", "eda.valid.npy"]
    assert first.all()
    assert (~second).nonzero().tolist() == [[12_345]]
