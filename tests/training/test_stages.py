"""Every shipped configuration of the engine trains the same teacher, also over two machines.

Those are two network namespaces. Slurm is not at hand: ``scontrol`` and ``srun`` of these tests start what the batch
file tells them to on each of the two.
"""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import safetensors.torch
import torch

from mtkd.console import counted
from mtkd.files import write_json

CHANGES = ("temporal.layers=2", "temporal.optim.epochs=2", "temporal.optim.batch_size=4", "temporal.max_tokens=100")
CHANGES += ("temporal.dropout=0", "temporal.lora.dropout=0")  # so that any number of ranks learns the same
HOSTS = [("mtkd-test-0", "10.77.0.1"), ("mtkd-test-1", "10.77.0.2")]
SCONTROL = """#!/usr/bin/env bash
[ "$*" = "show hostnames mtkd-test" ] && printf '10.77.0.1\\n10.77.0.2\\n'
"""
SRUN = """#!/usr/bin/env bash
[ "$1" = --kill-on-bad-exit=1 ] && shift
for node in 0 1; do
    SLURM_NODEID=$node GLOO_SOCKET_IFNAME=veth$node ip netns exec mtkd-test-$node "$@" &
done
wait -n && wait -n
"""
Trained = tuple[list[dict[str, float]], dict[str, torch.Tensor], str]


@pytest.fixture(scope="module")
def study_file(make_study: Callable[..., Any], tiny_llama: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("stages")
    study = make_study(f"temporal.backbone={tiny_llama}", *CHANGES, workspace=folder / "ws")
    write_json(folder / "study.yaml", study.model_dump())
    subprocess.run([sys.executable, "-m", "mtkd", "shards", str(folder / "study.yaml")], check=True, timeout=300)
    return folder / "study.yaml"


@pytest.fixture(scope="module")
def train(repo: Path, study_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Trained]:
    """Train the first fold's teacher in a new workspace by a command that takes study and changes."""

    def call(
        stage: str | None, *command: str, given: tuple[str, ...] = (), loses_a_rank: bool = False, **changed: str
    ) -> Trained:
        workspace = tmp_path_factory.mktemp("trained") / "ws"
        shutil.copytree(study_file.parent / "ws/shards", workspace / "shards")
        deepspeed = repo / f"configs/deepspeed/{stage}.json" if stage else "null"
        changes = [f"workspace={workspace}", f"temporal.deepspeed={deepspeed}", *given]
        scripts = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
        options: dict[str, Any] = {"env": os.environ | {"PATH": scripts} | changed, "cwd": repo, "text": True}
        words = [*command, str(study_file), *changes, "--part", "1/2"]
        if loses_a_rank:
            lose_a_rank(words, options)
        done = subprocess.run(words, capture_output=True, timeout=300, check=False, **options)
        assert done.returncode == 0, done.stdout + done.stderr
        assert done.stdout.count("going on from ") == loses_a_rank
        (fold,) = (workspace / "temporal").glob("fold-0-*")
        history = json.loads((fold / "history.json").read_text())
        weights = safetensors.torch.load_file(fold / "weights.safetensors")
        return history, weights, json.loads((fold / "manifest.json").read_text())["measured"]["engine"]

    return call


def lose_a_rank(words: list[str], options: dict[str, Any]) -> None:
    """Kill the last rank behind its first epoch: all machines end within a minute, and each says so."""
    ranks: list[psutil.Process] = []
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options) as process:
        for line in process.stdout or []:
            if "2 ranks" in line:
                ranks = [each for each in psutil.Process(process.pid).children(recursive=True) if is_rank(each)]
            if " epoch 1:" in line:
                ranks[-1].kill()
                break
        _, err = process.communicate(timeout=60)
    assert len(ranks) == 2
    assert process.returncode
    for machine in (0, 1):
        assert f"mtkd: machine {machine} of 2: a rank was lost or has failed; the next start goes on from" in err


def is_rank(process: psutil.Process) -> bool:
    """One that a launcher started; what a rank starts knows the rank's number too."""
    parent = process.parent()
    return parent is not None and "RANK" in process.environ() and "RANK" not in parent.environ()


@pytest.fixture(scope="module")
def on_one_host(train: Callable[..., Trained]) -> Callable[[str], Trained]:
    """Two ranks of this machine, once a configuration."""
    found: dict[str, Trained] = {}

    def call(stage: str) -> Trained:
        if stage not in found:
            found[stage] = train(stage, sys.executable, "-m", "mtkd", "temporal")
        return found[stage]

    return call


def same(ours: Trained, theirs: Trained) -> None:
    for one, other in zip(ours[0], theirs[0], strict=True):
        assert one == pytest.approx(other, rel=1e-5)
    assert ours[1].keys() == theirs[1].keys()
    for name, value in theirs[1].items():
        torch.testing.assert_close(ours[1][name], value, atol=1e-5, rtol=1e-4)


def shipped(folder: str) -> list[str]:
    return sorted(path.stem for path in (Path(__file__).parents[2] / "configs" / folder).iterdir())


def test_stage_3_learns_what_stage_2_learns(on_one_host: Callable[[str], Trained]) -> None:
    same(on_one_host("zero3"), on_one_host("zero2"))
    assert on_one_host("zero3")[2] == "DeepSpeed ZeRO-3, 2 ranks"


@pytest.mark.parametrize(("config", "n_ranks", "stage"), [("one_gpu", 1, "zero1"), ("one_node", 3, "zero3_offload")])
def test_what_is_made_for_gpus_learns_the_same_without_them(
    repo: Path,
    train: Callable[..., Trained],
    on_one_host: Callable[[str], Trained],
    config: str,
    n_ranks: int,
    stage: str,
) -> None:
    """Three ranks in place of the eight that two cores would take long to start."""
    launch = [sys.executable, "-m", "accelerate.commands.launch"]
    launch += ["--config_file", str(repo / f"configs/accelerate/{config}.yaml"), "--num_processes", str(n_ranks)]
    ours = train(stage, *launch, "-m", "mtkd", "temporal")
    assert ours[2] == f"DeepSpeed ZeRO-{stage[4]}, {counted(n_ranks, 'rank')}"
    same(ours, on_one_host("zero2"))


@pytest.fixture(scope="module")
def on_a_cpu(repo: Path, train: Callable[..., Trained]) -> Trained:
    """One process without DeepSpeed, whatever GPUs there are."""
    config = f"temporal.accelerate={repo / 'configs/accelerate/cpu_one.yaml'}"
    return train(None, sys.executable, "-m", "mtkd", "temporal", given=(config,))


@pytest.mark.gpu
@pytest.mark.parametrize("stage", ["zero1", "zero2", "zero3", "zero3_offload"])
def test_a_gpu_learns_what_a_cpu_learns(
    repo: Path, train: Callable[..., Trained], on_a_cpu: Trained, stage: str
) -> None:
    config = f"temporal.accelerate={repo / 'configs/accelerate/one_gpu.yaml'}"
    ours = train(stage, sys.executable, "-m", "mtkd", "temporal", given=(config,))
    assert ours[2] == f"DeepSpeed ZeRO-{stage[4]}, 1 rank on {torch.cuda.get_device_name()}"
    assert on_a_cpu[2] == "torch"
    for one, other in zip(ours[0], on_a_cpu[0], strict=True):
        assert one == pytest.approx(other, rel=1e-3)


def test_there_is_a_test_for_every_configuration() -> None:
    assert shipped("accelerate") == ["cpu_one", "cpu_two_ranks", "many_nodes", "one_gpu", "one_node"]
    assert shipped("deepspeed") == ["zero1", "zero2", "zero3", "zero3_offload"]


@pytest.fixture(scope="module")
def two_hosts() -> Iterator[None]:
    """Two network namespaces with a cable between them."""
    commands = [["ip", "netns", "add", name] for name, _ in HOSTS]
    commands += [["ip", "link", "add", "veth0", "netns", HOSTS[0][0], "type", "veth", "peer", "veth1"]]
    commands[-1] += ["netns", HOSTS[1][0]]
    for index, (name, address) in enumerate(HOSTS):
        inside = ["ip", "-n", name]
        commands += [[*inside, "address", "add", f"{address}/24", "dev", f"veth{index}"]]
        commands += [[*inside, "link", "set", device, "up"] for device in ("lo", f"veth{index}")]
    if shutil.which("ip") is None:
        pytest.skip("no network namespaces: the command ip is missing")
    try:
        for command in commands:
            made = subprocess.run(command, capture_output=True, text=True, check=False)
            if made.returncode:
                pytest.skip(f"no network namespaces: {' '.join(command)}: {made.stderr.strip()}")
        yield
    finally:
        for name, _ in HOSTS:
            subprocess.run(["ip", "netns", "delete", name], capture_output=True, check=False)


@pytest.mark.usefixtures("two_hosts")
@pytest.mark.parametrize(("stage", "loses_a_rank"), [("zero2", True), ("zero3", False)])
def test_two_machines_learn_what_two_ranks_of_one_learn(
    repo: Path,
    train: Callable[..., Trained],
    on_one_host: Callable[[str], Trained],
    tmp_path: Path,
    stage: str,
    loses_a_rank: bool,
) -> None:
    for name, text in (("scontrol", SCONTROL), ("srun", SRUN)):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    slurm = {"SLURM_NNODES": "2", "SLURM_GPUS_PER_NODE": "1", "SLURM_JOB_NODELIST": "mtkd-test"}
    path = os.pathsep.join([str(tmp_path), str(Path(sys.executable).parent), os.environ["PATH"]])
    sbatch = str(repo / "launch/temporal.sbatch")
    ours = train(stage, "bash", sbatch, loses_a_rank=loses_a_rank, PATH=path, **slurm)
    theirs = on_one_host(stage)
    assert ours[2] == theirs[2]
    same(ours, theirs)  # not to the last digit: ranks of one machine add up in shared memory, in another order
