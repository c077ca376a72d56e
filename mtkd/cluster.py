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

import joblib
import ray

from mtkd.config import Study, Units
from mtkd.console import counted, say
from mtkd.errors import MtkdError, one_line
from mtkd.parts import Part
from mtkd.processes import end_with_parent
from mtkd.study import most_units


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
    """Run a stage in as many parts as the cluster of ``units`` has room for, and tell what each says.

    A part whose node is lost is started again on another one, and goes on from the last checkpoint.

    Raises:
        MtkdError: there is no cluster, none of its nodes has room for a part, or a part met bad input.
    """
    units = study.units
    with connected(units.ray_address, stage, "units.ray_address"):
        n_parts = sum(_room(node["Resources"], units) for node in ray.nodes() if node["Alive"])
        if not n_parts:
            raise MtkdError(f"{stage}: no node has {units.cpus_per_part:g} CPUs and {units.gpus_per_part:g} GPUs")
        n_parts = min(n_parts, most_units(study, stage))
        say(stage, f"{counted(n_parts, 'part')} over the Ray cluster")
        settings = {"num_cpus": units.cpus_per_part, "num_gpus": units.gpus_per_part, "max_retries": 3}
        run = ray.remote(_run_part).options(scheduling_strategy="SPREAD", **settings)
        parts = [Part(number, n_parts) for number in range(1, n_parts + 1)]
        pending = [run.remote(study.model_dump_json(), stage, str(part)) for part in parts]
        while pending:
            (done,), pending = ray.wait(pending)
            try:
                code, out, err = ray.get(done)
            except ray.exceptions.RayError as error:  # its node was lost again and again
                raise MtkdError(
                    f"{stage}: a part was lost ({one_line(error)}); what stands is not done again"
                ) from None
            print(out, end="", flush=True)
            if code:
                raise MtkdError((err.strip() or f"{stage}: exit code {code}").splitlines()[-1].removeprefix("mtkd: "))


def _room(resources: dict[str, float], units: Units) -> int:
    """How many parts a node takes at once."""
    by_gpu = resources.get("GPU", 0) / units.gpus_per_part if units.gpus_per_part else float("inf")
    return int(min(resources.get("CPU", 0) / units.cpus_per_part, by_gpu))


def _run_part(study: str, stage: str, part: str) -> tuple[int, str, str]:
    """On a node: the stage's own command, which may start ranks; what it says on both streams."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "study.json")
        path.write_text(study)
        command = [sys.executable, "-m", "mtkd", stage, str(path), "units.engine=joblib", "--part", part]
        done = subprocess.run(command, capture_output=True, text=True, check=False, preexec_fn=end_with_parent)
    return done.returncode, done.stdout, done.stderr


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
