"""One process's view of ranks and engines; two ranks are in ``test_two_ranks``."""

import json
import os
import time
from pathlib import Path

import pytest
import torch
from torch import nn

from mtkd.config import Optim
from mtkd.errors import MtkdError
from mtkd.training.runtime import Runtime, clear_locks, compile_operators


def test_one_process_without_deepspeed() -> None:
    runtime = Runtime(Optim())
    assert (runtime.rank, runtime.world, runtime.engine) == (0, 1, "torch")
    values = torch.tensor([1.0, 2.0])
    assert torch.equal(runtime.total(values), values)


def test_a_step_clips_the_gradient_to_the_studys_norm() -> None:
    runtime = Runtime(Optim(grad_clip=0.5))
    model = nn.Linear(3, 1, bias=False)
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    engine, optimizer = runtime.prepare(model, optimizer)
    before = model.weight.detach().clone()
    for part in ([30.0, 0.0, 0.0], [0.0, 40.0, 0.0]):  # not each by itself
        runtime.backward(engine(torch.tensor([part], device=runtime.device)).sum(), last=part[0] == 0)
    runtime.step(engine, optimizer)
    moved = before - runtime.unwrap(engine).weight.detach().to(before.device)
    torch.testing.assert_close(moved, torch.tensor([[0.3, 0.4, 0.0]]))


def test_deepspeed_that_is_asked_for_and_not_started_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """As with ``configs/accelerate/cpu_one.yaml`` and a study that names a stage of ZeRO."""
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "no")
    with pytest.raises(MtkdError, match=r"^temporal\.accelerate starts no DeepSpeed, but .* is a\.json"):
        Runtime(Optim(), "a.json")


def test_more_ranks_without_deepspeed_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(MtkdError, match=r"temporal\.deepspeed is null, but accelerate started 2 ranks"):
        Runtime(Optim())


def test_a_missing_engine_configuration_is_named(tmp_path: Path) -> None:
    with pytest.raises(MtkdError, match=f"temporal.deepspeed = {tmp_path / 'none.json'}: no such file"):
        Runtime(Optim(), str(tmp_path / "none.json"))


def test_an_engine_configuration_that_is_no_json_is_named(tmp_path: Path) -> None:
    path = tmp_path / "zero.json"
    path.write_text("{")
    with pytest.raises(MtkdError, match=f"{path}: not a JSON file"):
        Runtime(Optim(), str(path))


@pytest.mark.parametrize("key", ["train_micro_batch_size_per_gpu", "gradient_clipping", "optimizer", "bf16", "no_such"])
def test_what_the_study_sets_must_not_stand_in_the_engines_configuration(repo: Path, tmp_path: Path, key: str) -> None:
    config = json.loads((repo / "configs/deepspeed/zero2.json").read_text())
    path = tmp_path / "zero.json"
    path.write_text(json.dumps(config | {key: 3}))
    with pytest.raises(MtkdError, match=f"{path}: {key}"):
        Runtime(Optim(), str(path))


@pytest.mark.parametrize("content", ["[1]", "3", '{"zero_optimization": 3}'])
def test_an_engine_configuration_that_is_none_of_deepspeeds(tmp_path: Path, content: str) -> None:
    path = tmp_path / "zero.json"
    path.write_text(content)
    with pytest.raises(MtkdError, match=f"^temporal.deepspeed = {path}: not a configuration of DeepSpeed$"):
        Runtime(Optim(), str(path))


def test_what_ranks_would_compile_is_compiled_before(tmp_path: Path) -> None:
    compile_operators()
    extensions = Path(torch.utils.cpp_extension._get_build_directory("deepspeed_shm_comm", verbose=False))
    assert (extensions / "deepspeed_shm_comm.so").is_file()


def test_the_lock_of_a_killed_compilation_is_taken_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_EXTENSIONS_DIR", str(tmp_path))
    (tmp_path / "operator").mkdir()
    lock = tmp_path / "operator/lock"
    lock.touch()
    os.utime(lock, (time.time() - 301,) * 2)
    started = time.monotonic()
    clear_locks()
    assert not lock.exists()
    assert time.monotonic() - started < 1
    lock.touch()  # a young one is waited for, but not for ever
    clear_locks(limit_s=2)
    assert not lock.exists()
    assert 1 < time.monotonic() - started < 10
