"""What one rank does in ``test_plan``: trains a teacher and tells the most memory that took. Not a test by itself."""

import ctypes
import sys
import threading
import time
from pathlib import Path

import torch

from mtkd.files import write_json
from mtkd.shards.memory import keep_freed_memory
from mtkd.study import read_study
from mtkd.teachers.temporal.train import STAGE, _train, unit_of
from mtkd.training.fold import jobs_of
from mtkd.training.runtime import Runtime

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _LARGE = -1, -3, 2**16


def resident() -> int:
    """Bytes of this process's own memory; pages of files, which the system may take back, are none of it."""
    lines = Path("/proc/self/status").read_text().splitlines()
    found = {name: value.split()[0] for name, _, value in (line.partition(":") for line in lines) if value.split()}
    return 1024 * (int(found["RssAnon"]) + int(found["RssShmem"]))


class Peak(threading.Thread):
    """Looks at ``resident`` every few milliseconds."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.most = 0

    def run(self) -> None:
        while True:
            self.most = max(self.most, resident())
            time.sleep(0.005)


def give_back_freed_memory() -> None:
    """In the place of what training does, which keeps half a gigabyte for the next arrays."""
    keep_freed_memory()
    libc = ctypes.CDLL(None)
    libc.mallopt(_M_MMAP_THRESHOLD, _LARGE)
    libc.mallopt(_M_TRIM_THRESHOLD, _LARGE)


if __name__ == "__main__":
    warm, file, folder = sys.argv[1:]
    torch.set_num_threads(1)
    runtime = None
    for path in (warm, file):  # the first, of a tiny backbone, loads all libraries and fills their pools
        study = read_study(path)
        runtime = runtime or Runtime(study.temporal.optim, study.temporal.deepspeed)
        give_back_freed_memory()
        before, peak = resident(), Peak()
        peak.start()
        if torch.cuda.is_available():
            torch.cuda.reset_peak_memory_stats()
        _train(jobs_of(study, STAGE, unit_of)[0], runtime)
    most = torch.cuda.max_memory_allocated() if torch.cuda.is_available() else peak.most - before
    write_json(Path(folder) / f"{runtime.rank}.json", most)
