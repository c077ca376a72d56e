"""A stage's units in parts: by hand, by an array of Slurm's, and over a Ray cluster."""

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mtkd import cluster
from mtkd.errors import MtkdError
from mtkd.files import write_json
from mtkd.parts import WHOLE, Part, parse_part


@given(n_units=st.integers(0, 30), of=st.integers(1, 12))
def test_parts_share_the_units_evenly(n_units: int, of: int) -> None:
    parts = [Part(number, of).pick(range(n_units)) for number in range(1, of + 1)]
    assert sorted(unit for part in parts for unit in part) == list(range(n_units))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1
    assert [parse_part(str(Part(number, of))) for number in range(1, of + 1)] == [Part(n, of) for n in range(1, of + 1)]
    assert WHOLE.pick(range(n_units)) == list(range(n_units))


@pytest.mark.parametrize("text", ["", "1", "0/2", "3/2", "1/0", "a/b", "-1/2", "1/2/3", "1 /2"])
def test_what_is_no_part(text: str) -> None:
    with pytest.raises(MtkdError, match=r"^--part .*: a part is I/N, I from 1 to N$"):
        parse_part(text)


@pytest.fixture(scope="module")
def study_file(make_study: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("parts")
    study = make_study("spatial.optim.epochs=1", workspace=folder / "ws")
    write_json(folder / "study.yaml", study.model_dump())
    for stage in ("shards", "spatial"):
        subprocess.run([sys.executable, "-m", "mtkd", stage, str(folder / "study.yaml")], check=True, timeout=300)
    return folder / "study.yaml"


@pytest.fixture
def workspace(study_file: Path, tmp_path: Path) -> Path:
    shutil.copytree(study_file.parent / "ws/shards", tmp_path / "ws/shards")
    return tmp_path / "ws"


def teachers(workspace: Path) -> dict[str, bytes]:
    """Weights by the name of their unit."""
    return {path.parent.name: path.read_bytes() for path in (workspace / "spatial").glob("*/weights.safetensors")}


def test_an_array_of_slurms_trains_one_part_a_task(repo: Path, study_file: Path, workspace: Path) -> None:
    whole, sizes = teachers(study_file.parent / "ws"), []
    for task in (2, 1, 2):
        environ = {"SLURM_ARRAY_TASK_ID": str(task), "SLURM_ARRAY_TASK_COUNT": "2"}
        environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
        command = ["bash", str(repo / "launch/parts.sbatch"), "spatial", str(study_file), f"workspace={workspace}"]
        done = subprocess.run(command, env=os.environ | environ, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr
        sizes.append(len(teachers(workspace)))
    assert sizes == [1, 2, 2]
    assert "reused" in done.stdout
    assert teachers(workspace) == whole


def test_a_ray_cluster_trains_the_same_teachers(mtkd: Callable[..., Any], study_file: Path, workspace: Path) -> None:
    over = ("units.engine=ray", "units.cpus_per_part=0.5", f"workspace={workspace}")
    done = mtkd("spatial", study_file, *over)
    assert done.code == 0, done.err
    assert "  2 parts over the Ray cluster" in done.out  # a part for each fold, though there is room for more
    assert done.out.count(": trained ") == done.out.count(": reused ") == 2  # by the parts; then here nothing was left
    assert teachers(workspace) == teachers(study_file.parent / "ws")


def test_an_array_outside_slurm_is_told(repo: Path, study_file: Path) -> None:
    command = ["bash", str(repo / "launch/parts.sbatch"), "spatial", str(study_file)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode != 0
    assert "SLURM_ARRAY_TASK_ID: is not set: this is a script for sbatch" in done.stderr


def test_a_part_without_units_is_told(mtkd: Callable[..., Any], study_file: Path) -> None:
    done = mtkd("spatial", study_file, "--part", "99/99")
    assert done.code == 0, done.err
    assert done.out.endswith("  part 99/99: nothing to do, as there are fewer units than parts\n")


def test_what_a_part_met_is_told_here(mtkd: Callable[..., Any], study_file: Path, workspace: Path) -> None:
    next((workspace / "shards").glob("all-*/s01.tar")).write_bytes(b"")
    done = mtkd("spatial", study_file, "units.engine=ray", f"workspace={workspace}")
    assert done.code == 2
    assert done.err.splitlines()[-1].startswith("mtkd: ")
    assert "its checksum is not the manifest's" in done.err
    assert "Traceback" not in done.err


def test_a_part_that_is_lost_again_and_again_is_told(
    make_study: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where each node that takes it dies. The part is a function of our own, the cluster is Ray's."""

    def lost(*given: object) -> None:
        os._exit(1)

    monkeypatch.setattr(cluster, "_run_part", lost)
    with pytest.raises(MtkdError, match=r"^spatial: a part was lost \(.+\); what stands is not done again$"):
        cluster.spread(make_study("units.engine=ray"), "spatial")


def test_a_node_that_does_not_see_the_workspace_is_told(tmp_path: Path) -> None:
    """Here a task is given a folder of another workspace, where a node would have a disk of its own."""
    code, told = cluster._run_part("spatial", WHOLE, str(tmp_path / "ws/.parts"), False)
    assert code == 2
    assert told == f"spatial: the node {socket.gethostname()} does not see the workspace {tmp_path / 'ws'}"


def test_no_room_for_a_part_is_told(mtkd: Callable[..., Any], study_file: Path) -> None:
    done = mtkd("spatial", study_file, "units.engine=ray", "units.cpus_per_part=1000")
    assert done.code == 2
    assert done.err.splitlines()[-1] == "mtkd: spatial: no node has 1000 CPUs and 0 GPUs"


def test_that_all_nodes_with_room_are_lost_is_told(
    make_study: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A cluster of a head without processors and a node that is killed, for the loss of which Ray is told to look."""
    from ray.cluster_utils import Cluster

    config = {"health_check_period_ms": 300, "health_check_failure_threshold": 2}
    nodes = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "_system_config": config})
    try:
        node = nodes.add_node(num_cpus=2)
        study, tell = make_study("units.engine=ray", f"units.ray_address={nodes.address}"), cluster._tell
        monkeypatch.setattr(cluster, "_GRACE_S", 2.0)
        monkeypatch.setattr(cluster, "_run_part", lambda *given: time.sleep(1000))

        def tell_and_kill(told: dict[Path, int]) -> None:
            tell(told)
            if node in nodes.list_all_nodes():
                nodes.remove_node(node, allow_graceful=False)

        monkeypatch.setattr(cluster, "_tell", tell_and_kill)
        with pytest.raises(
            MtkdError, match=r"^spatial: no node with room for a part is left; what stands is not done again$"
        ):
            cluster.spread(study, "spatial")
    finally:
        nodes.shutdown()
    assert not list(Path(study.workspace).glob(".parts*"))
