"""What all benchmarks share: rows of ratios, printed, as JSON, and as a section of RESULTS.md."""

import argparse
import datetime
import json
import os
import platform
import re
import shlex
import subprocess
import sys
import threading
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "RESULTS.md"
GIB = 2**30


@dataclass(frozen=True)
class Row:
    """A ratio, its goal, and the figures it was made of."""

    name: str
    ratio: float
    goal: str
    met: bool
    measured: str


class Rows(list[Row]):
    """Rows that are told as they come."""

    def at_most(self, name: str, ratio: float, limit: float, measured: str) -> None:
        """A row whose ratio shall not exceed ``limit``."""
        self._add(name, ratio, f"at most {limit:g}", ratio <= limit, measured)

    def at_least(self, name: str, ratio: float, limit: float, measured: str) -> None:
        """A row whose ratio shall reach ``limit``."""
        self._add(name, ratio, f"at least {limit:g}", ratio >= limit, measured)

    def _add(self, name: str, ratio: float, goal: str, met: bool, measured: str) -> None:
        self.append(Row(name, round(ratio, 3), goal, met, measured))
        print(f"{name:52s} {ratio:8.3f}  {goal:12s} {'met' if met else 'short':5s}  ({measured})", flush=True)


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


def command(words: list[str]) -> str:
    """What was typed, but for where this machine has its files."""
    kept, skip = [], False
    for word in words[1:]:
        if not skip and word not in ("--json", "--keep"):
            kept.append(shlex.quote(re.sub(r"(?:(?<=^)|(?<==))/.*", "FOLDER", word)))
        skip = word in ("--json", "--keep")
    return " ".join(["python", f"benchmarks/{Path(words[0]).name}", *kept])


def finish(script: str, rows: Rows, path: Path | None) -> None:
    """Write the rows into RESULTS.md, in the place of the script's last ones, and to ``path``."""
    git, code = ["git", "-C", str(ROOT)], ["mtkd", "configs", "launch", ":(glob)benchmarks/*.py"]
    commit = subprocess.run([*git, "rev-parse", "--short", "HEAD"], capture_output=True, text=True).stdout.strip()
    if subprocess.run([*git, "diff", "--quiet", "HEAD", "--", *code]).returncode:
        commit += " and changes that are not committed"
    machine = f"{os.cpu_count()} cores, {psutil.virtual_memory().total / GIB:.0f} GiB, {platform.machine()}"
    lines = [
        f"## {script}",
        "",
        f"{datetime.date.today()}, commit {commit}, {machine}, Python {platform.python_version()}.",
        "",
        f"`{command(sys.argv)}`",
        "",
        "| | ratio | goal | | measured |",
        "|---|---|---|---|---|",
        *(f"| {r.name} | {r.ratio} | {r.goal} | {'met' if r.met else 'short'} | {r.measured} |" for r in rows),
        "",
    ]
    text = RESULTS.read_text() if RESULTS.exists() else "# Results of the benchmarks\n"
    text = re.sub(rf"\n## {re.escape(script)}\n.*?(?=\n## |\Z)", "", text, flags=re.DOTALL)
    RESULTS.write_text(text.rstrip() + "\n\n" + "\n".join(lines))
    if path is not None:
        told = [{key: value for key, value in asdict(row).items() if key != "measured"} for row in rows]
        path.write_text(json.dumps(told, indent=1))


def parser(text: str | None) -> argparse.ArgumentParser:
    """With what every benchmark takes."""
    made = argparse.ArgumentParser(description=text)
    made.add_argument("--json", type=Path, help="write the rows there too")
    return made
