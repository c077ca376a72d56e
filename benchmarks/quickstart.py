"""Time and memory of the quickstart on this machine: ``python benchmarks/quickstart.py [--eegmat FOLDER] [--json F]
[--keep FOLDER]``.

Each row is a measured figure divided by the most it may be, so that 1.0 is the limit. Environments are not made here:
run ``bash launch/quickstart.sh`` or ``bash launch/test.sh`` once before. Memory is the proportional set size of all
processes together, sampled twice a second.
"""

import contextlib
import subprocess
import tempfile
import time
from pathlib import Path

from rows import GIB, ROOT, MemoryOf, Rows, finish, parser


def quickstart(words: list[str], workspace: str) -> tuple[float, float]:
    """Seconds and GiB of one quickstart."""
    command = ["bash", str(ROOT / "launch/quickstart.sh"), *words, f"workspace={workspace}"]
    started = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    memory = MemoryOf(process.pid)
    memory.start()
    if process.wait() != 0:
        raise SystemExit(f"{' '.join(command)} ended with exit code {process.returncode}")
    seconds = time.perf_counter() - started
    memory.join()
    return seconds, memory.peak / GIB


def measure(eegmat: Path | None, keep: Path | None) -> Rows:
    """All rows."""
    rows = Rows()

    def row(name: str, value: float, limit: float, unit: str) -> None:
        rows.at_most(name, value / limit, 1, f"{value:.1f} of {limit:g} {unit}")

    with tempfile.TemporaryDirectory() if keep is None else contextlib.nullcontext(keep.resolve()) as folder:
        seconds, memory = quickstart(["simulated"], f"{folder}/simulated")
        row("quickstart, simulated", seconds / 60, 12, "min")
        again, _ = quickstart(["simulated"], f"{folder}/simulated")
        row("quickstart, simulated, second run", again, 60, "s")
        if eegmat is not None:
            seconds, more = quickstart(["eegmat", str(eegmat)], f"{folder}/eegmat")
            row("quickstart, eegmat, 6 outer folds", seconds / 60, 40, "min")
            memory = max(memory, more)
        row("peak memory of all processes", memory * GIB / 1e9, 8, "GB")
    return rows


def main() -> None:
    """Measure, print, write."""
    arguments = parser(__doc__)
    arguments.add_argument("--eegmat", type=Path, help="folder with SubjectNN_1.edf and SubjectNN_2.edf")
    arguments.add_argument("--keep", type=Path, help="leave the workspaces in this folder, which must be empty")
    given = arguments.parse_args()
    if given.keep is not None and given.keep.exists() and any(given.keep.iterdir()):
        arguments.error(f"{given.keep} is not empty")  # what stands there would be reused, not measured
    finish("quickstart.py", measure(given.eegmat, given.keep), given.json)


if __name__ == "__main__":
    main()
