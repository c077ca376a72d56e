"""Ray: a cluster of this machine alone, or one that is there already."""

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, get_args

import joblib
import ray

from mtkd.config import Study, TeacherName, Units
from mtkd.console import counted, say
from mtkd.errors import MtkdError, one_line
from mtkd.files import scratch_folder, write_json
from mtkd.parts import Part
from mtkd.processes import end_with_parent
from mtkd.seeds import of_teachers
from mtkd.study import variants

STUDY = "study.json"
_POLL_S = 1.0
_PATIENT = {"health_check_failure_threshold": 40}
"""Of a cluster of one machine, whose node Ray takes for dead by default when a busy machine lets it wait for a minute.
So it does after some nine minutes, and after two where its process is gone."""
_GRACE_S = 300.0
"""How long a cluster that is not ours may be without a node with room: one that is lost may be started again."""


@contextmanager
def connected(address: str | None, stage: str, key: str) -> Iterator[None]:
    """A Ray cluster for the time of a stage: that at ``address``, the value of ``key``, or one of its own.

    Its own is reached by nobody else, and its files are in a temporary folder that is gone afterwards.

    Raises:
        MtkdError: there is no cluster.
    """
    # what Ray's agents still write there while they end is not waited for
    with tempfile.TemporaryDirectory(prefix="ray-", dir=_short_tmp(), ignore_cleanup_errors=True) as session:
        try:
            _start(address, stage, key, session)
            yield
        finally:
            if ray.is_initialized():
                ray.shutdown()


@contextmanager
def joblib_on_ray() -> Iterator[None]:
    """Have joblib hand its jobs to the cluster."""
    from ray.util.joblib import register_ray

    register_ray()
    with joblib.parallel_config("ray"):
        yield


def spread(study: Study, stage: str) -> None:
    """Run a stage in as many parts as the cluster of ``units`` has room for, and tell what each says while it does.

    A part whose node is lost is started again on another one, and goes on from the last checkpoint.

    Raises:
        MtkdError: there is no cluster, none of its nodes has room for a part, a node does not see the workspace, a part
            met bad input, or all nodes are lost.
    """
    units, place = study.units, Path(study.workspace) / "parts"
    with connected(units.ray_address, stage, "units.ray_address"), scratch_folder(place) as aside:
        n_parts = min(_n_parts(stage, units), most_units(study, stage))
        say(stage, f"{counted(n_parts, 'part')} over the Ray cluster")
        write_json(aside / STUDY, anywhere(study).model_dump())
        folder = str(aside.resolve())  # a node that has another workspace by the same name does not find it
        settings = {"num_cpus": units.cpus_per_part, "num_gpus": units.gpus_per_part, "max_retries": 3}
        run = ray.remote(_run_part).options(scheduling_strategy="SPREAD", **settings)
        parts = [Part(number, n_parts) for number in range(1, n_parts + 1)]
        for part in parts:
            _lines_of(folder, part).touch()
        pending = [run.remote(stage, part, folder, bool(units.gpus_per_part)) for part in parts]
        _hear(pending, stage, units, dict.fromkeys([_lines_of(folder, part) for part in parts], 0))


def anywhere(study: Study) -> Study:
    """The study with paths that hold whatever folder a Ray worker stands in."""
    data, temporal = study.data, study.temporal
    if data.folder is not None:
        data = data.model_copy(update={"folder": str(Path(data.folder).resolve())})
    given = {key: getattr(temporal, key) for key in ("backbone", "accelerate", "deepspeed")}
    paths = {key: str(Path(path).resolve()) for key, path in given.items() if path and Path(path).exists()}
    workspace = str(Path(study.workspace).resolve())
    return study.model_copy(
        update={"workspace": workspace, "data": data, "temporal": temporal.model_copy(update=paths)}
    )


def _lines_of(folder: str, part: Part) -> Path:
    """The file that a part writes its lines to."""
    return Path(folder, f"{part.number}.log")


def _hear(pending: "list[ray.ObjectRef[tuple[int, str]]]", stage: str, units: Units, told: dict[Path, int]) -> None:
    """Tell what parts say until all have ended."""
    grace_s = _GRACE_S if units.ray_address else 0.0
    seen = time.monotonic()
    while pending:
        done, pending = ray.wait(pending, timeout=_POLL_S)
        _tell(told)
        for each in done:
            _take(each, stage)
        if _n_parts_at_once(units):
            seen = time.monotonic()
        elif pending and time.monotonic() - seen >= grace_s:  # Ray would wait for another node for ever
            raise MtkdError(f"{stage}: no node with room for a part is left; what stands is not done again")


def _resources() -> list[dict[str, float]]:
    """Those of every node that is there."""
    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


def _n_parts_at_once(units: Units) -> int:
    return sum(_room(each, units) for each in _resources())


def _n_parts(stage: str, units: Units) -> int:
    n_parts = _n_parts_at_once(units)
    if not n_parts:
        raise MtkdError(f"{stage}: no node has {units.cpus_per_part:g} CPUs and {units.gpus_per_part:g} GPUs")
    if not units.gpus_per_part and any(each.get("GPU") for each in _resources()):
        say(stage, "parts compute on CPUs, as units.gpus_per_part is 0, though the cluster has GPUs")
    return n_parts


def _tell(told: dict[Path, int]) -> None:
    """Print the lines that parts have written since, behind so many bytes of each file."""
    for path, n_bytes in told.items():
        with path.open("rb") as file:  # opened anew, as network file systems tell what is new then
            file.seek(n_bytes)
            fresh = file.read()
        whole = fresh[: fresh.rfind(b"\n") + 1]
        told[path] += len(whole)
        print(whole.decode(errors="replace"), end="", flush=True)


def _take(done: "ray.ObjectRef[tuple[int, str]]", stage: str) -> None:
    """See that a part ended well."""
    try:
        code, err = ray.get(done)
    except ray.exceptions.RayError as error:  # its node was lost again and again
        raise MtkdError(f"{stage}: a part was lost ({one_line(error)}); what stands is not done again") from None
    if code < 0:
        raise MtkdError(f"{stage}: a part was ended by signal {-code}; what stands is not done again")
    if code:
        raise MtkdError((err.strip() or f"{stage}: exit code {code}").splitlines()[-1].removeprefix("mtkd: "))


def _room(resources: dict[str, float], units: Units) -> int:
    """How many parts a node takes at once."""
    by_gpu = resources.get("GPU", 0) / units.gpus_per_part if units.gpus_per_part else float("inf")
    return int(min(resources.get("CPU", 0) / units.cpus_per_part, by_gpu))


def _run_part(stage: str, part: Part, folder: str, on_gpu: bool) -> tuple[int, str]:
    """On a node: the stage's own command, which may start ranks, on the study in ``folder``, where its lines go too.

    Returns:
        Its exit code, and what it said on the stream for errors.
    """
    if not Path(folder).is_dir():
        return 2, f"{stage}: the node {socket.gethostname()} does not see the workspace {Path(folder).parent}"
    # without a GPU given, none is taken, or all parts would take the node's first
    environment = os.environ | ({} if on_gpu else {"CUDA_VISIBLE_DEVICES": ""})
    command = [sys.executable, "-m", "mtkd", stage, str(Path(folder, STUDY)), "units.engine=joblib"]
    command += ["--part", str(part)]
    with tempfile.TemporaryFile("w+") as err, _lines_of(folder, part).open("ab") as out:
        code = subprocess.call(command, env=environment, stdout=out, stderr=err, preexec_fn=end_with_parent)
        err.seek(0)
        return code, err.read()


def _short_tmp() -> str:
    """The folder for temporary files; ``/tmp`` where its name leaves too little of a socket's 107 bytes to Ray."""
    found = tempfile.gettempdir()
    return found if len(found.encode()) <= 30 else "/tmp"


def _start(given: str | None, stage: str, key: str, session: str) -> None:
    os.environ.setdefault("RAY_CHDIR_TO_TRIAL_DIR", "0")
    os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")
    address, local = given, dict[str, Any]()
    if address is None:  # a cluster of this machine alone, which nobody else can reach, whatever else runs here
        address = "local"
        local = {"num_cpus": joblib.cpu_count(), "include_dashboard": False, "_node_ip_address": "127.0.0.1"}
        local |= {"_temp_dir": session, "_system_config": _PATIENT}
    on_sigterm = signal.getsignal(signal.SIGTERM)
    try:
        _knock(address)
        ray.init(address=address, log_to_driver=False, logging_level="ERROR", configure_logging=True, **local)
        signal.signal(signal.SIGTERM, on_sigterm)  # Ray's own ends us at once, with a stack and nothing cleared away
    except Exception as error:  # Ray raises plain ones, too
        where = "on this machine" if given is None else f"at {key} = {given}"
        raise MtkdError(f"{stage}: no Ray cluster {where}: {one_line(error)}") from None


def _knock(address: str) -> None:
    """Where nobody listens at ``HOST:PORT``, Ray would try for more than a minute.

    Raises:
        OSError: nobody does.
    """
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if host and port.isdigit():
        socket.create_connection((host, int(port)), timeout=10).close()


def most_units(study: Study, stage: str) -> int:
    """How many units a stage in parts has at most, its teachers and students counted on every fold."""
    n_left_out = study.splits.crossfit if study.splits.crossfit > 1 else 0
    teachers = {teacher: len(variants(study, teacher)) + n_left_out for teacher in get_args(TeacherName)}
    per_fold = teachers | {"cache": sum(teachers.values()), "distill": len(study.evaluate.students)}
    n_seeds = study.n_seeds if stage == "distill" else len(of_teachers(study))
    return study.splits.n_folds * per_fold[stage] * n_seeds
