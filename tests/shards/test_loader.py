"""The one place that shares trials out: over ranks, workers and epochs, nothing is lost and nothing comes twice."""

import itertools
import json
import random

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mtkd.config import Windows
from mtkd.errors import MtkdError
from mtkd.shards.batch import Cutter, layouts
from mtkd.shards.loader import Loader, RankShares
from mtkd.shards.shares import Piece, share_out

worlds = st.integers(1, 4)
cases = st.fixed_dictionaries(
    {
        "sizes": st.lists(st.integers(1, 9), min_size=1, max_size=60),
        "batch_size": st.integers(1, 12),
        "world": worlds,
        "seed": st.integers(0, 3),
        "epoch": st.integers(0, 3),
        "shuffle": st.booleans(),
        "most": st.none() | st.integers(9, 20),
        "padded": st.booleans(),
    }
)


def ranks(case, world=None, start=0) -> list[list[list[Piece]]]:
    """The shares of every rank, batch by batch."""
    world = world or case["world"]
    order = {key: case[key] for key in ("seed", "shuffle", "most", "padded")}
    samplers = [RankShares(case["sizes"], case["batch_size"], rank, world, **order) for rank in range(world)]
    for sampler in samplers:
        sampler.epoch, sampler.start = case["epoch"], start
    found = [list(sampler) for sampler in samplers]
    assert [len(sampler) - start for sampler in samplers] == [len(shares) for shares in found] or start
    return found


def real(share: list[Piece]) -> list[int]:
    return [position for piece in share for position in piece if position >= 0]


@given(cases)
def test_each_trial_comes_exactly_once_an_epoch_over_all_ranks(case):
    found = [position for shares in ranks(case) for share in shares for position in real(share)]
    assert sorted(found) == list(range(len(case["sizes"])))


@given(cases)
def test_all_ranks_get_equally_many_pieces_that_fit(case):
    for together in zip(*ranks(case), strict=True):
        assert len({len(share) for share in together}) == 1
        for piece in itertools.chain(*together):
            assert piece
            sizes = [case["sizes"][max(position, ~position)] for position in piece]
            held = len(sizes) * max(sizes) if case["padded"] else sum(sizes)
            assert case["most"] is None or held <= case["most"]


@given(cases)
def test_no_rank_has_more_than_another_by_more_than_one_trial(case):
    for together in zip(*ranks(case), strict=True):
        loads = [sum(case["sizes"][position] for position in real(share)) for share in together]
        assert max(loads) - min(loads) <= max(case["sizes"])


@given(cases)
def test_filler_repeats_a_trial_of_the_same_batch_and_is_a_piece_of_its_own(case):
    for together in zip(*ranks(case), strict=True):
        batch = {position for share in together for position in real(share)}
        for piece in itertools.chain(*together):
            if min(piece) < 0:
                assert len(piece) == 1
                assert ~piece[0] in batch


@given(cases)
def test_the_global_batches_are_the_same_for_any_number_of_ranks(case):
    def together(world: int) -> list[set[int]]:
        return [
            {position for share in shares for position in real(share)}
            for shares in zip(*ranks(case, world), strict=True)
        ]

    assert together(1) == together(case["world"])


@given(cases)
def test_the_order_depends_on_seed_and_epoch_alone(case):
    """Not on what else has drawn random numbers in this process."""
    found = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        random.seed(seed)
        found.append(ranks(case))
    assert found[0] == found[1]


def test_shuffled_epochs_and_seeds_differ_and_plain_ones_do_not():
    def order(seed: int, epoch: int, shuffle: bool) -> tuple[int, ...]:
        case = {"sizes": [1] * 50, "batch_size": 5, "world": 1, "seed": seed, "epoch": epoch, "shuffle": shuffle}
        return tuple(position for share in ranks(case | {"most": None, "padded": False})[0] for position in real(share))

    assert len({order(seed, epoch, True) for seed in range(3) for epoch in range(3)}) == 9
    assert {order(seed, epoch, False) for seed in range(3) for epoch in range(3)} == {tuple(range(50))}


def test_no_trials_give_no_batches():
    assert list(RankShares([], 4, 0, 2)) == []


def test_pieces_are_filled_well():
    """MAHNOB-HCI's trials last 35 to 117 s; of the room in full pieces little is left."""
    sizes = np.random.default_rng(0).integers(175, 585, 64).tolist()
    (share,) = share_out(range(64), sizes, 1, 4096)
    assert sum(sizes) / 4096 <= len(share) <= sum(sizes) / 4096 + 1.5


@pytest.fixture(scope="module")
def cutter(tmp_path_factory, make_set, make_trial) -> Cutter:
    """Seven trials, of which the third is short."""
    trials = [
        make_trial(f"t{index}", 3.0 if index == 2 else 5.0, ratings={"valence": 1.0 + index}) for index in range(7)
    ]
    shards = make_set(tmp_path_factory.mktemp("set"), {"s01.tar": trials[:4], "s02.tar": trials[4:]})
    return Cutter(shards, layouts(shards.index.samples, ["eeg", "eda"]), Windows(window_s=1, hop_s=1), {"valence": 4.0})


def loaders(cutter: Cutter, world: int = 1, workers: int = 0) -> list[Loader]:
    keys = [sample.key for sample in cutter.shards.index.samples]
    return [
        Loader(cutter, keys, 4, rank=rank, world=world, seed=1, shuffle=True, workers=workers) for rank in range(world)
    ]


def test_a_loader_gives_its_trials_with_their_labels(cutter):
    (loader,) = loaders(cutter)
    batches = list(loader)
    assert len(batches) == len(loader) == 2
    labels = {key: int(label) for batch in batches for key, label in zip(batch.keys, batch.labels, strict=True)}
    assert labels == {sample.key: cutter.label(sample) for sample in cutter.shards.index.samples}
    assert set(labels.values()) == {0, 1}


@pytest.mark.parametrize("world", [1, 2, 4])
def test_every_step_of_every_trial_is_seen_once_over_the_ranks(cutter, world):
    seen: list[tuple[str, int]] = []
    for loader in loaders(cutter, world):
        for batch in loader:
            seen += [(batch.keys[row], step) for row, step in batch.steps.nonzero().tolist()]
    expected = [(sample.key, step) for sample in cutter.shards.index.samples for step in range(cutter.n_steps(sample))]
    assert sorted(seen) == sorted(expected)


def test_workers_change_nothing(cutter):
    (plain,), (shared,) = loaders(cutter), loaders(cutter, workers=2)
    for epoch in range(2):
        plain.set_epoch(epoch)
        shared.set_epoch(epoch)
        for one, other in zip(plain, shared, strict=True):
            assert one.keys == other.keys
            assert one.steps.equal(other.steps)
            assert one.labels.equal(other.labels)
            for modality in one.signals:
                assert one.signals[modality].equal(other.signals[modality])
                assert one.valid[modality].equal(other.valid[modality])


def test_an_epoch_has_an_order_of_its_own(cutter):
    (loader,) = loaders(cutter)
    orders = []
    for epoch in (0, 1, 0):
        loader.set_epoch(epoch)
        orders.append([key for batch in loader for key in batch.keys])
    assert orders[0] == orders[2] != orders[1]


@given(cases, st.integers(0, 60), worlds)
def test_a_pass_goes_on_where_it_was_on_any_number_of_ranks(case, behind, other_world):
    def together(world: int, start: int) -> list[set[int]]:
        return [
            {position for share in shares for position in real(share)}
            for shares in zip(*ranks(case, world, start), strict=True)
        ]

    assert together(other_world, behind) == together(case["world"], 0)[behind:]


@pytest.mark.parametrize(
    "change", [{"n_batches": -3}, {"n_batches": "x"}, {"n_batches": 10**9}, {"epoch": None}, {"epoch": -1}]
)
def test_a_state_that_is_nowhere_in_an_epoch_is_refused(cutter, change):
    loader = Loader(cutter, list(cutter.shards.samples), 2)
    with pytest.raises(MtkdError, match="a loader's state has epoch = "):
        loader.load_state_dict(loader.state_dict() | change)


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("n_given", [0, 1, 2, 3, 4])
def test_another_loader_goes_on_and_reads_nothing_that_lies_behind(cutter, monkeypatch, n_given, workers):
    keys = [sample.key for sample in cutter.shards.index.samples]

    def make(workers: int = 0) -> Loader:
        loader = Loader(cutter, keys, 2, seed=1, shuffle=True, workers=workers)
        loader.set_epoch(3)
        return loader

    whole = [batch.keys for batch in make()]
    first = make(workers)
    begun = [batch.keys for _, batch in zip(range(n_given), first, strict=False)]
    state = json.loads(json.dumps(first.state_dict()))
    read = []
    plain = Cutter.batch
    monkeypatch.setattr(Cutter, "batch", lambda self, keys, filler=0: (read.append(keys), plain(self, keys, filler))[1])
    second = make()
    second.load_state_dict(state)
    assert begun + [batch.keys for batch in second] == whole
    assert read == whole[n_given:]
    second.set_epoch(3)
    assert [batch.keys for batch in second] == whole  # the next pass is a whole one


def test_the_state_of_other_trials_or_another_order_is_refused(cutter):
    (loader,) = loaders(cutter)
    for key, value in (("seed", 2), ("batch_size", 8), ("shuffle", False), ("trials", "x")):
        with pytest.raises(MtkdError, match=f"a loader's state has {key} = "):
            loader.load_state_dict(loader.state_dict() | {key: value})


@pytest.mark.parametrize("workers", [0, 1])
def test_a_damaged_shard_is_told_when_its_batch_is_read(tmp_path, make_set, make_trial, workers):
    shards = make_set(tmp_path, {"s01.tar": [make_trial("t01")]})
    path = tmp_path / "s01.tar"
    damaged = bytearray(path.read_bytes())
    damaged[shards.samples["s01_t01"].members["eeg.npy"].offset + 200] ^= 1
    path.write_bytes(damaged)
    made = Cutter(shards, layouts(shards.index.samples, ["eeg"]), Windows(window_s=1, hop_s=1), {"valence": 4.0})
    loader = Loader(made, ["s01_t01"], 1, workers=workers)
    with pytest.raises(MtkdError, match=r"s01\.tar: s01_t01\.eeg\.npy is damaged") as caught:
        list(loader)
    assert "\n" not in str(caught.value)


def test_batches_are_tensors_of_the_types_that_models_take(cutter):
    batch = next(iter(loaders(cutter)[0]))
    assert {tensor.dtype for tensor in batch.signals.values()} == {torch.float32}
    assert {tensor.dtype for tensor in [*batch.valid.values(), batch.steps]} == {torch.bool}
    assert batch.labels.dtype == torch.int64
