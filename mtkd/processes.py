"""Processes that others start: they end with who started them, whatever became of that one."""

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None  # loaded here: a forked child had better not


def end_with_parent() -> None:
    """Have Linux terminate this process when the one that started it is gone, however it went."""
    if _LIBC is not None:
        _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


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
