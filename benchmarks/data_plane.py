"""Recordings to shards and back, against torcheeg 1.1.3: ``python benchmarks/data_plane.py [--json F] [--scratch D]``.

Files in DEAP's format are made of noise, as many as DEAP has. The peer runs in an environment of its own, which is made
in the scratch folder (two minutes) and kept there, and both are timed without their imports. A bare loop over the same
tars with ``tarfile`` and ``numpy`` stands beside our loader. Each ratio is of one run, in which raw conversion is the
better of two on both sides, and loading the best of three.
"""

import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from rows import ROOT, MemoryOf, Rows, finish, parser

from mtkd.signals.simulated import dump_as_python2

N_SUBJECTS, N_TRIALS, N_TIMES, WINDOW = 32, 40, 8064, 512
N_WINDOWS = N_SUBJECTS * N_TRIALS * ((N_TIMES - 384) // WINDOW)
PEER = ["torcheeg==1.1.3", "torch==2.13.0", "pandas<3", "setuptools<81"]
RAW = (
    "signals={modalities: {eeg: {sfreq: 128}, eog: {sfreq: 128}, emg: {sfreq: 128}, eda: {sfreq: 128}, "
    "resp: {sfreq: 128}, ppg: {sfreq: 128}, temp: {sfreq: 128}}%s}"
)
CONVERT = """
import sys, time
from mtkd.study import read_study
from mtkd.shards import build
study = read_study(sys.argv[1], sys.argv[2:])
started = time.perf_counter()
build.run(study)
print("seconds", time.perf_counter() - started)
"""


def write_deap(folder: Path, n_subjects: int) -> Path:
    """Files of noise in DEAP's format, unless they are there."""
    folder.mkdir(parents=True, exist_ok=True)
    for subject in range(1, n_subjects + 1):
        path = folder / f"s{subject:02d}.dat"
        if not path.exists():
            random = np.random.default_rng(subject)
            data = 10 * random.standard_normal((N_TRIALS, 40, N_TIMES))
            data[:, 36] = 2e5 + 100 * data[:, 36]
            with path.open("wb") as file:
                dump_as_python2({"labels": random.uniform(1, 9, (N_TRIALS, 4)), "data": data}, file)
    return folder


def words(folder: Path, workspace: Path, entropy: bool) -> list[str]:
    """The study of a conversion: all forty channels as they are, with differential entropy or without."""
    more = ", entropy: {bands: [[4, 8], [8, 14], [14, 31], [31, 49]], window_s: 4.0}" if entropy else ""
    given = [f"data.folder={folder}", f"workspace={workspace}", RAW % more, "windows={window_s: 4, hop_s: 4}"]
    return [str(ROOT / "configs/study/simulated.yaml"), *given, "temporal.patch_s=4"]


def convert(folder: Path, workspace: Path, entropy: bool) -> float:
    """Windows a second."""
    command = [sys.executable, "-c", CONVERT, *words(folder, workspace, entropy)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return N_WINDOWS / float(done.stdout.split()[-1])


def load(folder: Path, workspace: Path) -> tuple[float, float]:
    """Windows a second out of the loader, and out of a bare loop over the same bytes."""
    import torch

    from mtkd.config import Modality
    from mtkd.shards.batch import Cutter, layouts
    from mtkd.shards.build import open_shards
    from mtkd.shards.loader import Loader
    from mtkd.study import read_study

    torch.set_num_threads(1)
    path, *given = words(folder, workspace, False)
    study = read_study(path, given)
    unit, shards = open_shards(study)
    names: list[Modality] = list(study.signals.modalities)
    cutter = Cutter(shards, layouts(shards.index.samples, names), study.windows, study.labels)
    loader = Loader(cutter, list(shards.samples), 4, shuffle=True)

    def ours() -> int:
        return sum(int(batch.steps.sum()) for batch in loader)

    def bare() -> int:
        n_seen = 0
        for tar in sorted(unit.folder.glob("*.tar")):
            with tarfile.open(tar) as file:
                for member in file:
                    if member.name.endswith(".npy"):
                        array = np.load(io.BytesIO(file.extractfile(member).read()))  # type: ignore[union-attr]
                        n_seen += member.name.endswith("eeg.npy") and array.shape[1] // WINDOW
        return n_seen

    return tuple(_rate(function) for function in (ours, bare))  # type: ignore[return-value]


def _rate(function: Any) -> float:
    best = 0.0
    for _ in range(3):
        started = time.perf_counter()
        n_seen = function()
        assert n_seen == N_WINDOWS
        best = max(best, n_seen / (time.perf_counter() - started))
    return best


def peak(folder: Path, workspace: Path) -> float:
    """Bytes of a conversion, all processes together."""
    process = subprocess.Popen(
        [sys.executable, "-m", "mtkd", "shards", *words(folder, workspace, False)], stdout=subprocess.DEVNULL
    )
    memory = MemoryOf(process.pid)
    memory.start()
    if process.wait() != 0:
        raise SystemExit(f"mtkd shards ended with exit code {process.returncode}")
    memory.join()
    return memory.peak


def peer(folder: Path, scratch: Path) -> dict[str, float]:
    """What torcheeg comes to; its environment is made where there is none."""
    python = scratch / "torcheeg" / "bin" / "python"
    if not (scratch / "torcheeg" / "made").exists():
        print("making the peer's environment", flush=True)
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(scratch / "torcheeg")], check=True)
        subprocess.run([str(python), "-m", "pip", "install", "--quiet", *PEER], check=True)
        (scratch / "torcheeg" / "made").touch()
    script = ROOT / "benchmarks/peers/torcheeg_deap.py"
    command = [str(python), str(script), str(folder), str(scratch / "peer"), str(os.cpu_count())]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(done.stderr)
    return json.loads(done.stdout.splitlines()[-1])


def measure(scratch: Path) -> Rows:
    """All rows."""
    rows = Rows()
    few = write_deap(scratch / "deap-4", 4)
    whole = write_deap(scratch / f"deap-{N_SUBJECTS}", N_SUBJECTS)
    with tempfile.TemporaryDirectory(dir=scratch) as folder:
        place = Path(folder)
        for path in (*few.iterdir(), *whole.iterdir()):
            path.read_bytes()  # or the first to read them, which are we, would wait for the disk
        raw = max(convert(whole, place / name, False) for name in ("raw", "raw-again"))
        shutil.rmtree(place / "raw-again")
        entropy = convert(whole, place / "entropy", True)
        ours, bare = load(whole, place / "raw")
        theirs = peer(whole, scratch)
        told = "{:.0f} against {:.0f} windows/s".format
        rows.at_least("DEAP-format conversion, 40 channels, raw", raw / theirs["raw"], 10, told(raw, theirs["raw"]))
        both = told(entropy, theirs["entropy"])
        rows.at_least("the same with differential entropy", entropy / theirs["entropy"], 50, both)
        rows.at_least("windows out of the loader, one process", ours / theirs["load"], 4, told(ours, theirs["load"]))
        rows.at_most("a bare loop over the same bytes", bare / ours, 1.3, told(ours, bare))
        four, many = peak(few, place / "memory-4"), peak(whole, place / "memory-32")
        both = f"{many / 1e9:.2f} and {four / 1e9:.2f} GB"
        rows.at_most("peak memory, 32 subjects against 4", many / four, 1.1, both)
    return rows


def main() -> None:
    """Measure, print, write."""
    arguments = parser(__doc__)
    arguments.add_argument("--scratch", type=Path, default=Path(tempfile.gettempdir()) / "mtkd-data-plane")
    given = arguments.parse_args()
    given.scratch.mkdir(parents=True, exist_ok=True)
    finish("data_plane.py", measure(given.scratch.resolve()), given.json)


if __name__ == "__main__":
    main()
