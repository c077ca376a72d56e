"""Processes that others start: they end with who started them, whatever became of that one."""

import ctypes
import multiprocessing
import os
import signal
import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor

_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None  # loaded here: a forked child had better not


def end_with_parent() -> None:
    """Have Linux terminate this process when the one that started it is gone, however it went."""
    if _LIBC is not None:
        _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def in_a_child(job: Callable[..., object], *arguments: object) -> None:
    """Run a job in a process of its own, whose memory is given back whatever libraries have made of it.

    Raises:
        Exception: whatever the job raised; BrokenProcessPool, a RuntimeError, where the system ended the process.
    """
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, spawn, initializer=end_with_parent) as pool:
        pool.submit(job, *arguments).result()


def become_worker(starter: int) -> bool:
    """The same for a worker of joblib's, which also leaves Ctrl-C to who started it: one of them is to speak.

    ``starter`` is the process that handed out the work, which on one core does it itself; False there.
    """
    if os.getpid() == starter:
        return False
    end_with_parent()
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if os.getppid() != starter:  # it went before we asked to be told
        signal.raise_signal(signal.SIGTERM)
    return True
