"""Ray: a cluster of this machine alone, or one that is there already."""

import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import joblib
import ray
from ray.util.queue import Queue

from mtkd.config import Study, Units
from mtkd.console import counted, say
from mtkd.errors import MtkdError, one_line
from mtkd.parts import Part
from mtkd.processes import end_with_parent
from mtkd.study import most_units

_POLL_S = 1.0


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
        MtkdError: there is no cluster, none of its nodes has room for a part, a node does not see the workspace, or a
            part met bad input.
    """
    units = study.units
    with connected(units.ray_address, stage, "units.ray_address"), _mark(Path(study.workspace)) as mark:
        n_parts = min(_n_parts(stage, units), most_units(study, stage))
        say(stage, f"{counted(n_parts, 'part')} over the Ray cluster")
        settings = {"num_cpus": units.cpus_per_part, "num_gpus": units.gpus_per_part, "max_retries": 3}
        run = ray.remote(_run_part).options(scheduling_strategy="SPREAD", **settings)
        lines = Queue(actor_options={"num_cpus": 0})
        parts = [Part(number, n_parts) for number in range(1, n_parts + 1)]
        pending = [run.remote(study, stage, str(part), str(mark), lines) for part in parts]
        while pending:
            done, pending = ray.wait(pending, timeout=_POLL_S)
            _tell(lines)
            for each in done:
                _take(each, stage)


@contextmanager
def _mark(workspace: Path) -> Iterator[Path]:
    """A file by which a node tells whether it sees this workspace, and not one of its own by the same name."""
    workspace.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(prefix=".ray-", dir=workspace) as file:
        yield Path(file.name).resolve()


def _n_parts(stage: str, units: Units) -> int:
    resources = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    n_parts = sum(_room(each, units) for each in resources)
    if not n_parts:
        raise MtkdError(f"{stage}: no node has {units.cpus_per_part:g} CPUs and {units.gpus_per_part:g} GPUs")
    if not units.gpus_per_part and any(each.get("GPU") for each in resources):
        say(stage, "parts compute on CPUs, as units.gpus_per_part is 0, though the cluster has GPUs")
    return n_parts


def _tell(lines: Queue) -> None:
    """Print what the parts have said since."""
    print(*lines.get_nowait_batch(lines.qsize()), sep="", end="", flush=True)


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


def _run_part(study: Study, stage: str, part: str, mark: str, lines: Queue) -> tuple[int, str]:
    """On a node: the stage's own command, which may start ranks, and which says to ``lines`` what it says.

    Returns:
        Its exit code, and what it said on the stream for errors.
    """
    if not Path(mark).exists():
        return 2, f"{stage}: the node {socket.gethostname()} does not see the workspace {Path(mark).parent}"
    # without a GPU given, none is taken, or all parts would take the node's first
    hidden = {} if study.units.gpus_per_part else {"CUDA_VISIBLE_DEVICES": ""}
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryFile("w+") as err:
        path = Path(folder, "study.json")
        path.write_text(study.model_dump_json())
        command = [sys.executable, "-m", "mtkd", stage, str(path), "units.engine=joblib", "--part", part]
        how: dict[str, Any] = {"env": os.environ | hidden, "text": True, "preexec_fn": end_with_parent}
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=err, **how) as process:
            for line in process.stdout or []:
                lines.put(line)
        err.seek(0)
        return process.returncode, err.read()


def _short_tmp() -> str:
    """The folder for temporary files; ``/tmp`` where its name leaves too little of a socket's 107 bytes to Ray."""
    found = tempfile.gettempdir()
    return found if len(found.encode()) <= 30 else "/tmp"


def _start(given: str | None, stage: str, key: str, session: str) -> None:
    os.environ.setdefault("RAY_CHDIR_TO_TRIAL_DIR", "0")
    os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")
    address, local = given, {}
    if address is None:  # a cluster of this machine alone, which nobody else can reach, whatever else runs here
        address = "local"
        local = {"num_cpus": joblib.cpu_count(), "include_dashboard": False, "_node_ip_address": "127.0.0.1"}
        local["_temp_dir"] = session
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
