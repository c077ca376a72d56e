"""Independent units of work, side by side on the cores of one machine."""

import os
import warnings
from collections.abc import Callable, Sequence
from functools import partial

import joblib
import torch

from mtkd.processes import become_worker


def side_by_side(jobs: Sequence[Callable[[], None]]) -> None:
    """Run jobs that share nothing, one a core in processes of their own; in turn where they would share a GPU.

    Each network is small, so a core a training beats all cores for each in turn.
    """
    if torch.cuda.is_available() or len(jobs) < 2:
        n_threads = torch.get_num_threads()
        if not torch.cuda.is_available():
            torch.set_num_threads(1)  # networks this small lose more by waking threads than they gain
        for job in jobs:
            job()
        torch.set_num_threads(n_threads)
        return
    # loky renews workers that have grown, which is no news to anyone
    warnings.filterwarnings("ignore", message="A worker stopped while some jobs were given to the executor")
    n_jobs = min(len(jobs), joblib.cpu_count())
    joblib.Parallel(n_jobs=n_jobs)(joblib.delayed(partial(_alone, job, os.getpid()))() for job in jobs)


def _alone(job: Callable[[], None], starter: int) -> None:
    become_worker(starter)
    torch.set_num_threads(1)
    job()
