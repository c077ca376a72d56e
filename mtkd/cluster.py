"""Ray: a cluster of this machine alone, or one that is there already."""

import os
import signal
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

import joblib
import ray

from mtkd.errors import MtkdError, one_line


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
