"""The cluster that stages share."""

import signal
import subprocess
import sys
import tempfile

import pytest

from mtkd.cluster import _short_tmp


def test_a_folder_too_long_for_sockets_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", "/scratch/of-a-user-with-a-long-name")
    assert _short_tmp() == "/tmp"


def test_a_command_terminated_while_it_waits_for_ray_still_says_so() -> None:
    """Ray makes the SystemExit of a signal's handler one of code 1 when the signal comes within its calls."""
    ended = subprocess.run([sys.executable, "-c", WAITING], capture_output=True, text=True, timeout=100)
    assert ended.stdout == "SystemExit(1)\n"  # or the sentence would show nothing
    assert ended.stderr == "mtkd: interrupted; the next run goes on from what is finished\n"
    assert ended.returncode == 128 + signal.SIGTERM


WAITING = """
import os, signal, time
import ray
from mtkd import cli, cluster

@ray.remote
def terminate(pid):
    time.sleep(0.5)
    os.kill(pid, signal.SIGTERM)
    time.sleep(60)

@cli.app.command()
def wait():
    with cluster.connected(None, "wait", "sweep.ray_address"):
        try:
            ray.get(terminate.remote(os.getpid()))
        except SystemExit as end:
            print(repr(end))
            raise

import sys
sys.argv = ["mtkd", "wait"]
cli.main()
"""
