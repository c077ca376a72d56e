"""Time and memory of the quickstart on this machine: ``python benchmarks/quickstart.py [--eegmat FOLDER] [--json F]
[--keep FOLDER]``.

Each row is a measured figure divided by the most it may be, so that 1.0 is the limit. Environments are not made here:
run ``bash launch/quickstart.sh`` or ``bash launch/test.sh`` once before. Memory is the proportional set size of all
processes together, sampled twice a second.
"""

import argparse
import contextlib
import datetime
import json
import os
import platform
import re
import subprocess
import tempfile
import threading
import time
from pathlib import Path

import psutil

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "RESULTS.md"
GIB = 2**30


class MemoryOf(threading.Thread):
    """Samples the memory of a process and all its descendants until it ends; ``peak`` in bytes."""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self.root, self.peak = psutil.Process(pid), 0

    def run(self) -> None:
        """Sample until the process is gone."""
        while self.root.is_running() and self.root.status() != psutil.STATUS_ZOMBIE:
            total = 0
            for process in [self.root, *self.root.children(recursive=True)]:
                try:
                    total += process.memory_full_info().pss
                except psutil.Error:  # it has just ended
                    continue
            self.peak = max(self.peak, total)
            time.sleep(0.5)


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


def measure(eegmat: Path | None, keep: Path | None) -> list[dict]:
    """All rows: name, ratio, goal, met; and what was measured."""
    rows = []

    def row(name: str, value: float, limit: float, unit: str) -> None:
        ratio = value / limit
        rows.append({"name": name, "ratio": round(ratio, 3), "goal": "at most 1", "met": ratio <= 1})
        rows[-1]["measured"] = f"{value:.1f} of {limit:g} {unit}"
        print(
            f"{name:44s} {ratio:6.3f}  at most 1  {'met' if ratio <= 1 else 'short'}  ({rows[-1]['measured']})",
            flush=True,
        )

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


def write_section(rows: list[dict]) -> None:
    """Put this benchmark's section into RESULTS.md in the place of the last one."""
    commit = subprocess.run(["git", "-C", str(ROOT), "rev-parse", "--short", "HEAD"], capture_output=True, text=True)
    machine = f"{os.cpu_count()} cores, {psutil.virtual_memory().total / GIB:.0f} GiB, {platform.machine()}"
    lines = [
        "## quickstart.py",
        "",
        f"{datetime.date.today()}, commit {commit.stdout.strip()}, {machine}, Python {platform.python_version()}.",
        "",
        "| | ratio | goal | | measured |",
        "|---|---|---|---|---|",
        *(
            f"| {r['name']} | {r['ratio']} | {r['goal']} | {'met' if r['met'] else 'short'} | {r['measured']} |"
            for r in rows
        ),
        "",
    ]
    text = RESULTS.read_text() if RESULTS.exists() else "# Results of the benchmarks\n"
    text = re.sub(r"\n## quickstart\.py\n.*?(?=\n## |\Z)", "", text, flags=re.DOTALL)
    RESULTS.write_text(text.rstrip() + "\n\n" + "\n".join(lines))


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--eegmat", type=Path, help="folder with SubjectNN_1.edf and SubjectNN_2.edf")
    parser.add_argument("--json", type=Path, help="write the rows there too")
    parser.add_argument("--keep", type=Path, help="leave the workspaces in this folder, which must be empty")
    arguments = parser.parse_args()
    if arguments.keep is not None and arguments.keep.exists() and any(arguments.keep.iterdir()):
        parser.error(f"{arguments.keep} is not empty")  # what stands there would be reused, not measured
    rows = measure(arguments.eegmat, arguments.keep)
    write_section(rows)
    if arguments.json:
        arguments.json.write_text(
            json.dumps([{k: r[k] for k in ("name", "ratio", "goal", "met")} for r in rows], indent=1)
        )


if __name__ == "__main__":
    main()
