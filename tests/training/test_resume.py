"""A training that ended anywhere goes on as if it had not: same losses, same weights, to the last digit."""

import copy
import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn

from mtkd.config import Optim
from mtkd.errors import Diverged
from mtkd.files import write_json
from mtkd.layers.heads import Heads
from mtkd.shards.batch import Batch, Cutter
from mtkd.shards.loader import Loader
from mtkd.training.fit import History, fit, trained_state
from mtkd.training.objective import Supervised, Term
from mtkd.training.resume import Checkpoint, Checkpoints
from mtkd.training.runtime import Runtime

OPTIM = Optim(epochs=3, batch_size=4, lr=0.1, patience=3)
Make = Callable[..., Cutter]


class KilledError(Exception):
    """Stands for what ends a process."""


class Dying(Supervised):
    """The objective, which ends the training when it is asked for the so-manieth time."""

    left = 10**9

    def __call__(self, model: Any, batch: Batch) -> dict[str, Term]:
        object.__setattr__(self, "left", self.left - 1)
        if self.left < 0:
            raise KilledError
        return super().__call__(model, batch)


@pytest.fixture
def forgetful(level: nn.Module) -> nn.Module:
    """A model whose dropout draws random numbers."""
    torch.manual_seed(0)
    level.heads = Heads(2, 2, 0.4)
    return level


def run(
    model: nn.Module, cutter: Cutter, folder: Path | None, every: int | None = None, lives: int = 10**9
) -> tuple[History, dict[str, torch.Tensor], list[str]]:
    """Train a copy; what it came to, its weights, and what was told."""
    told: list[str] = []
    model, runtime = copy.deepcopy(model), Runtime(OPTIM)
    loaders = [
        Loader(cutter, [key for key in cutter.shards.samples if key[:2] in side], OPTIM.batch_size, shuffle=shuffle)
        for side, shuffle in ((("s1", "s2"), True), (("s3",), False))
    ]
    objective = Dying(torch.ones(2), 1.0, 0.5)
    object.__setattr__(objective, "left", lives)
    torch.manual_seed(7)
    checkpoints = None if folder is None else Checkpoints(folder, runtime, every, told.append)
    history = fit(model, objective, *loaders, OPTIM, runtime, None, checkpoints)
    return history, trained_state(model), told


def same(ours: tuple[History, dict[str, torch.Tensor], list[str]], theirs: tuple[Any, ...]) -> None:
    assert ours[0].epochs == theirs[0].epochs
    assert ours[0].best_epoch == theirs[0].best_epoch
    assert all(torch.equal(ours[1][name], value) for name, value in theirs[1].items())


@settings(max_examples=10, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(lives=st.lists(st.integers(0, 25), min_size=1, max_size=4), every=st.none() | st.integers(1, 5))
def test_it_goes_on_from_wherever_it_ended(
    forgetful: nn.Module, make_cutter: Make, tmp_path_factory: Any, lives: list[int], every: int | None
) -> None:
    cutter = make_cutter()
    folder = tmp_path_factory.mktemp("run") / "checkpoints"
    whole = run(forgetful, cutter, None)
    for left in lives:
        try:
            same(run(forgetful, cutter, folder, every, left), whole)
        except KilledError:
            assert len(list(folder.glob("step-*"))) <= 2
            assert not list(folder.glob(".*"))
    same(run(forgetful, cutter, folder, every), whole)


def test_it_does_not_begin_anew(forgetful: nn.Module, make_cutter: Make, tmp_path: Path) -> None:
    """Nine of the twelve steps of the epochs lie behind, and so do their batches."""
    cutter = make_cutter()
    with pytest.raises(KilledError):
        run(forgetful, cutter, tmp_path / "run", 1, lives=14)
    before = sorted(path.name for path in (tmp_path / "run").iterdir())
    history, _, told = run(forgetful, cutter, tmp_path / "run", 1)
    assert told == [f"going on from {tmp_path / 'run' / before[-1]}"]
    assert len(history.epochs) == 3


@pytest.mark.parametrize("name", ["rank-0.safetensors", "shared-weights.safetensors", "state.json", "manifest.json"])
@pytest.mark.parametrize("how", ["cut", "gone", "flipped"])
def test_of_a_damaged_checkpoint_the_one_before_is_used_and_told(
    forgetful: nn.Module, make_cutter: Make, tmp_path: Path, name: str, how: str
) -> None:
    cutter = make_cutter()
    whole = run(forgetful, cutter, None)
    with pytest.raises(KilledError):
        run(forgetful, cutter, tmp_path / "run", 1, lives=14)
    before, last = sorted((tmp_path / "run").iterdir())
    path = last / name
    content = path.read_bytes()
    if how == "gone":
        path.unlink()
    else:
        middle = len(content) // 2
        path.write_bytes(
            content[:middle] + (b"" if how == "cut" else bytes([content[middle] ^ 1]) + content[middle + 1 :])
        )
    found = run(forgetful, cutter, tmp_path / "run", 1)
    assert found[2][0].startswith(f"{last}: ")
    assert found[2][0].endswith("; looking at what was before it")
    assert found[2][1] == f"going on from {before}"
    same(found, whole)


@contextmanager
def no_room(n_bytes: int) -> Iterator[None]:
    """Files may be so large only, as on a disk that is full."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_a_full_disk_ends_no_training_and_leaves_what_was_there(
    forgetful: nn.Module, make_cutter: Make, tmp_path: Path
) -> None:
    cutter = make_cutter()
    whole = run(forgetful, cutter, None)
    with pytest.raises(KilledError):
        run(forgetful, cutter, tmp_path / "run", 1, lives=14)
    before = sorted(path.name for path in (tmp_path / "run").iterdir())
    with no_room(100):
        found = run(forgetful, cutter, tmp_path / "run", 1)
    same(found, whole)
    assert any("was not written (" in line and line.endswith("; training goes on without it") for line in found[2])
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == before


def test_one_of_another_number_of_ranks_is_not_taken(tmp_path: Path) -> None:
    told: list[str] = []
    runtime = Runtime(OPTIM)
    checkpoints = Checkpoints(tmp_path, runtime, None, told.append)
    checkpoint = Checkpoint({"weights": {"a": torch.ones(1)}}, {"random.cpu": torch.get_rng_state()}, {"epoch": 0})
    checkpoints.save(3, checkpoint)
    runtime.world = 2
    assert checkpoints._what_is_wrong(tmp_path / "step-000000003") == "is of torch, and this is torch, 2 ranks"
    runtime.world = 1
    assert checkpoints.latest() is not None
    checkpoints.clear()
    assert not tmp_path.exists()


def test_a_gradient_that_is_no_number_is_in_no_checkpoint(
    forgetful: nn.Module, make_cutter: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A moment's fault, of a GPU say: its step is told, and the next start goes on from the step before."""
    whole, step, n_steps = run(forgetful, make_cutter(), None), Runtime.step, 0

    def fails_once(runtime: Runtime, model: nn.Module, optimizer: Any) -> torch.Tensor:
        nonlocal n_steps
        n_steps += 1
        if n_steps == 3:
            next(model.parameters()).grad[0] = torch.nan
        return step(runtime, model, optimizer)

    monkeypatch.setattr(Runtime, "step", fails_once)
    with pytest.raises(Diverged, match=r"^the gradient's norm became nan in epoch 1, at the trials s\d_t\d\d, "):
        run(forgetful, make_cutter(), tmp_path / "run", 1)
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == ["step-000000001", "step-000000002"]
    same(run(forgetful, make_cutter(), tmp_path / "run", 1), whole)


def test_one_of_another_stage_of_zero_is_not_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whose part of the optimizer's state is cut otherwise."""
    runtime = Runtime(OPTIM)
    checkpoint = Checkpoint({"weights": {"a": torch.ones(1)}}, {"random.cpu": torch.get_rng_state()}, {"epoch": 0})
    Checkpoints(tmp_path, runtime, None, print).save(3, checkpoint)
    told: list[str] = []
    monkeypatch.setattr(Runtime, "kind", "DeepSpeed ZeRO-3, 1 rank")
    assert Checkpoints(tmp_path, runtime, None, told.append).latest() is None
    assert told == [
        f"{tmp_path / 'step-000000003'}: is of torch, and this is DeepSpeed ZeRO-3, 1 rank; "
        "looking at what was before it",
        f"beginning anew, as none in {tmp_path} can be gone on from",
    ]


def test_one_of_another_layout_of_the_optimizers_state_is_not_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As by ``round_robin_gradients`` or ``sub_group_size``: moments would go to other weights, without an error."""
    runtime, told = Runtime(OPTIM), list[str]()
    checkpoint = Checkpoint({"weights": {"a": torch.ones(1)}}, {"random.cpu": torch.get_rng_state()}, {"epoch": 0})
    Checkpoints(tmp_path, runtime, None, print).save(3, checkpoint)
    monkeypatch.setattr(runtime, "_config", {"zero_optimization": {"stage": 0, "round_robin_gradients": True}})
    assert Checkpoints(tmp_path, runtime, None, told.append).latest() is None
    assert "is of another zero_optimization in DeepSpeed's configuration" in told[0]
    layouts = []
    for keys in ({"stage": 2, "reduce_scatter": True}, {"reduce_scatter": True, "stage": 2}):
        monkeypatch.setattr(runtime, "_config", {"zero_optimization": keys})
        layouts.append(runtime.layout)
    assert layouts[0] == layouts[1]


def test_one_of_another_training_or_whose_manifest_lists_nothing_is_not_taken(tmp_path: Path) -> None:
    runtime, told = Runtime(OPTIM), list[str]()
    checkpoint = Checkpoint({"weights": {"a": torch.ones(1)}}, {"random.cpu": torch.get_rng_state()}, {"epoch": 0})
    written = Checkpoints(tmp_path, runtime, None, print, "one")
    written.save(3, checkpoint)
    written.save(4, checkpoint)
    assert Checkpoints(tmp_path, runtime, None, told.append, "other").latest() is None
    assert ["is of another training" in line for line in told] == [True, True, False]
    write_json(tmp_path / "step-000000004/manifest.json", {})
    assert Checkpoints(tmp_path, runtime, None, told.append, "one").latest() is not None
    assert "rank-0.safetensors is damaged; looking at what was before it" in told[-2]


def test_those_that_it_cannot_go_on_from_make_way_for_its_own(tmp_path: Path) -> None:
    """Of two ranks and later steps: were the latest steps kept, each new one would go as soon as it is there."""
    runtime = Runtime(OPTIM)
    checkpoint = Checkpoint({"weights": {"a": torch.ones(1)}}, {"random.cpu": torch.get_rng_state()}, {"epoch": 0})
    runtime.world = 2
    for step in (90, 100):
        Checkpoints(tmp_path, runtime, None, print).save(step, checkpoint)
    runtime.world = 1
    for attempt in ((10, 20), (30,), (40, 50)):
        checkpoints = Checkpoints(tmp_path, runtime, None, print)
        assert (checkpoints.latest() is None) == (10 in attempt)
        for step in attempt:
            checkpoints.save(step, checkpoint)
            assert f"step-{step:09d}" in {path.name for path in tmp_path.iterdir()}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-000000040", "step-000000050"]
