"""Ranks that somebody else started: what becomes of them, and of what they were writing, when that one is killed."""

import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml

from mtkd.errors import MtkdError
from mtkd.files import write_json
from mtkd.training.launch import launch


@pytest.fixture(scope="module")
def study_file(make_study: Callable[..., Any], tiny_llama: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Shards and a teacher that would train for long."""
    tmp_path = tmp_path_factory.mktemp("launch")
    study = make_study(
        f"temporal.backbone={tiny_llama}",
        "temporal.optim={epochs: 500, patience: 500, batch_size: 4}",
        workspace=tmp_path / "ws",
    )
    write_json(tmp_path / "study.yaml", study.model_dump())
    subprocess.run([sys.executable, "-m", "mtkd", "shards", str(tmp_path / "study.yaml")], check=True, timeout=300)
    return tmp_path / "study.yaml"


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a child of its parent's end")
@pytest.mark.parametrize(
    ("whom", "sent", "code"),
    [
        ("stage", signal.SIGKILL, -9),
        ("stage", signal.SIGINT, 130),
        ("launcher", signal.SIGKILL, 2),
    ],
)
def test_ranks_do_not_outlive_who_started_them(study_file: Path, whom: str, sent: signal.Signals, code: int) -> None:
    command = [sys.executable, "-m", "mtkd", "temporal", str(study_file)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        line = next(line for line in process.stdout or [] if " epoch " in line)
        stage = psutil.Process(process.pid)
        family = stage.children(recursive=True)
        ranks = [child for child in family if "RANK" in child.environ()]
        launcher = ranks[0].parent()
        {"stage": stage, "launcher": launcher}[whom].send_signal(sent)
        _, err = process.communicate(timeout=60)
    assert "fold 0" in line
    assert len(ranks) == 2
    assert process.returncode == code
    assert "Traceback" not in err
    _, alive = psutil.wait_procs(family, timeout=60)
    assert alive == []
    if code == 2:
        assert "; the next start goes on from the last checkpoint" in err
    left = {path.name for path in (study_file.parent / "ws/temporal").glob("[!.]*") if path.suffix != ".lock"}
    assert {name.partition(".")[2] for name in left} == {"log", "checkpoints"}
    hidden = list((study_file.parent / "ws/temporal").glob(".launch*"))  # which the next start sweeps up
    assert len(hidden) == (code == -signal.SIGKILL)


def test_what_was_killed_goes_on_to_the_same_weights(repo: Path, study_file: Path, tmp_path: Path) -> None:
    """``kill -9`` of a rank in the middle of an epoch; and the same training that nobody disturbed.

    With ZeRO-3, where a rank has a part of all; what most tests share goes on from a kill with ZeRO-2.
    """
    deepspeed = f"temporal.deepspeed={repo / 'configs/deepspeed/zero3.json'}"
    killed, whole = _killed_and_whole(study_file, tmp_path, 2, deepspeed)
    for file in ("weights.safetensors", "history.json"):
        assert (killed / file).read_bytes() == (whole / file).read_bytes()
    assert not list(killed.parent.glob("*.checkpoints"))


@pytest.mark.gpu
@pytest.mark.parametrize("compiled", [False, True])
def test_what_was_killed_on_a_gpu_goes_on_to_the_same_losses(
    repo: Path, study_file: Path, tmp_path: Path, compiled: bool
) -> None:
    """In bfloat16, whose sums a GPU takes in any order; random numbers are those of the other."""
    changes = ["temporal.dtype=bfloat16", f"temporal.compile={compiled}", "temporal.lora.dropout=0.3"]
    changes += [f"temporal.accelerate={repo / 'configs/accelerate/one_gpu.yaml'}"]
    changes += [f"temporal.deepspeed={repo / 'configs/deepspeed/zero2.json'}"]
    folders = _killed_and_whole(study_file, tmp_path, 1, *changes)
    killed, whole = [json.loads((folder / "history.json").read_text()) for folder in folders]
    for ours, theirs in zip(killed, whole, strict=True):
        assert ours == pytest.approx(theirs, rel=1e-2)


def _killed_and_whole(study_file: Path, folder: Path, n_ranks: int, *changes: str) -> tuple[Path, Path]:
    """The first fold's teacher from a training of which a rank was killed, and from one that nobody disturbed."""
    given = ["temporal.optim.epochs=3", "temporal.dropout=0.3", "temporal.checkpoint_steps=1", *changes]
    found = []
    for name in ("killed", "whole"):
        workspace = folder / name
        shutil.copytree(study_file.parent / "ws/shards", workspace / "shards")
        command = [sys.executable, "-m", "mtkd", "temporal", str(study_file), f"workspace={workspace}", *given]
        command += ["--part", "1/2"]
        if name == "killed":
            _kill_a_rank(command, "fold 0, seed 0, epoch 1:", n_ranks)
        done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
        assert done.returncode == 0, done.stderr
        assert f"  starting {n_ranks} rank{'s on ' if n_ranks > 1 else ' on '}" in done.stdout
        assert done.stdout.count("going on from ") == (name == "killed")
        found += (workspace / "temporal").glob("fold-0-*")
    return found[0], found[1]


def _kill_a_rank(command: list[str], after: str, n_ranks: int) -> None:
    """End the last of a stage's ranks some steps after it said something."""
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        for line in process.stdout or []:
            if after in line:
                break
        time.sleep(0.2)
        family = psutil.Process(process.pid).children(recursive=True)
        ranks = [child for child in family if "RANK" in child.environ()]
        ranks[-1].kill()
        _, err = process.communicate(timeout=60)
    assert len(ranks) == n_ranks
    assert process.returncode == 2
    assert "Traceback" not in err
    assert "; the next start goes on from the last checkpoint" in err
    assert psutil.wait_procs(family, timeout=60)[1] == []


def test_a_launcher_without_its_configuration(make_study: Callable[..., Any]) -> None:
    with pytest.raises(MtkdError, match=r"^temporal\.accelerate = none\.yaml: no such file$"):
        launch(make_study("temporal.accelerate=none.yaml"), "temporal")


@pytest.mark.parametrize(
    "content", ["", "[1]", "a: [1", "no_such_key: 1", "\x01", "distributed_type: NO\nno_such_key: 1"]
)
def test_a_configuration_that_is_none_of_accelerates(
    make_study: Callable[..., Any], tmp_path: Path, content: str
) -> None:
    path = tmp_path / "launch.yaml"
    path.write_text(content)
    with pytest.raises(MtkdError, match=rf"^temporal\.accelerate = {path}: .") as refused:
        launch(make_study(f"temporal.accelerate={path}"), "temporal")
    assert "\n" not in str(refused.value)


def test_a_configuration_of_several_machines(make_study: Callable[..., Any], repo: Path) -> None:
    path = repo / "configs/accelerate/many_nodes.yaml"
    with pytest.raises(MtkdError, match=r"is of 2 machines; start each of them with launch/node\.sh$"):
        launch(make_study(f"temporal.accelerate={path}"), "temporal")


@pytest.mark.parametrize(
    ("accelerate", "deepspeed", "told"),
    [
        ("cpu_one.yaml", "zero2.json", r"starts no DeepSpeed, but temporal\.deepspeed is .*, not null"),
        ("cpu_two_ranks.yaml", "null", r"starts DeepSpeed, but temporal\.deepspeed is null"),
        ("cpu_two_ranks.yaml", "none.json", r"^temporal\.deepspeed = none\.json: no such file"),
    ],
)
def test_configurations_that_do_not_belong_together_are_told_before_ranks_start(
    make_study: Callable[..., Any], repo: Path, accelerate: str, deepspeed: str, told: str
) -> None:
    folder = repo / "configs/accelerate"
    study = make_study(f"temporal.accelerate={folder / accelerate}", f"temporal.deepspeed={deepspeed}")
    with pytest.raises(MtkdError, match=f"{told}$"):
        launch(study, "temporal")
    assert not Path(study.workspace, "temporal").exists()


@pytest.mark.parametrize(
    ("lines", "changes", "told"),
    [
        ({"use_cpu": True}, [], "with use_cpu = true accelerate leaves DeepSpeed out; without, ranks take a CPU too"),
        ({"num_processes": "two"}, [], "num_processes is 'two', not a whole number"),
        ({"num_processes": 2.5}, [], r"num_processes is 2\.5, not a whole number"),
        ({"num_machines": "two"}, [], "num_machines is 'two', not a whole number"),
        ({"num_machines": 0, "use_cpu": True}, [], "with use_cpu = true accelerate leaves .*"),
        ({"num_processes": None}, [], "num_processes is (0|-1), not the number of ranks"),
        ({"main_process_port": "abc"}, [], "main_process_port is 'abc', not a whole number"),
        ({"main_process_port": 99999999}, [], "main_process_port is 99999999, not a port's number"),
        ({"main_process_port": -1}, [], "main_process_port is -1, not a port's number"),
        ({"gpu_ids": 7}, [], "gpu_ids is 7, not a text such as '0,1'"),
        ({"gpu_ids": "a"}, [], "gpu_ids is 'a', not a text such as '0,1'"),
        (
            {"deepspeed_config": {"deepspeed_multinode_launcher": "standard", "zero_stage": 3}},
            [],
            r"sets deepspeed_config\.zero_stage; temporal\.deepspeed names the file for that",
        ),
        ({"mixed_precision": "bf16"}, [], r"sets mixed_precision; temporal\.dtype is the study's key for that"),
        (
            {"distributed_type": "MULTI_CPU"},
            ["temporal.deepspeed=null"],
            r"starts 2 ranks, but temporal\.deepspeed is null",
        ),
        ({}, ["temporal.compile=true", "temporal.deepspeed=configs/deepspeed/zero3.json"], "which cannot be compiled"),
    ],
)
def test_what_ranks_would_refuse_is_told_before_they_start(
    make_study: Callable[..., Any], repo: Path, tmp_path: Path, lines: dict[str, Any], changes: list[str], told: str
) -> None:
    shipped = yaml.safe_load((repo / "configs/accelerate/cpu_two_ranks.yaml").read_text())
    content = {key: value for key, value in (shipped | lines).items() if value is not None}
    write_json(tmp_path / "launch.yaml", content)
    study = make_study(f"temporal.accelerate={tmp_path / 'launch.yaml'}", *changes)
    with pytest.raises(MtkdError, match=f"{told}$"):
        launch(study, "temporal")
