"""A build that is killed at any moment, over processes or a Ray cluster: the next one goes on where it was."""

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from mtkd.config import Study
from mtkd.files import PARTIAL, write_json
from mtkd.shards.build import run, unit_of

N_SUBJECTS = 8


@pytest.fixture(scope="module")
def folder(write_deap: Callable[..., None], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("raw")
    for index in range(1, N_SUBJECTS + 1):
        write_deap(folder / f"s{index:02d}.dat", index, 20)
    return folder


@pytest.fixture
def made(make_study: Callable[..., Study], folder: Path, tmp_path: Path) -> Callable[..., Study]:
    def make(*overrides: str, name: str = "ws") -> Study:
        given = [f"data.folder={folder}", "data.baseline_s=1", "signals.lead_s=1", *overrides]
        return make_study(*given, workspace=tmp_path / name)

    return make


def digests(study: Study) -> dict[str, str]:
    return {name: file.blake3 for name, file in unit_of(study).manifest().files.items()}


def final(workspace: Path) -> list[Path]:
    return sorted(path for path in workspace.glob("*/[!.]*") if PARTIAL not in path.name)


def _start(study: Study, path: Path) -> subprocess.Popen:
    write_json(path, study.model_dump())
    command = [sys.executable, "-m", "mtkd", "shards", str(path)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_killed_at_random_moments_it_goes_on_and_ends_with_the_same_bytes(
    made: Callable[..., Study], tmp_path: Path
) -> None:
    study, moments = made(), random.Random(0)
    kept: set[Path] = set()
    for _ in range(4):
        process = _start(study, tmp_path / "study.yaml")
        limit = time.monotonic() + 60
        wanted = len(kept) + moments.randint(1, 2)  # some are done, others under way
        while len(final(tmp_path / "ws")) < wanted and process.poll() is None and time.monotonic() < limit:
            time.sleep(0.01)
        family = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
        process.kill()
        process.communicate()
        assert psutil.wait_procs(family, timeout=30)[1] == []
        now = set(final(tmp_path / "ws"))
        assert kept <= now
        assert all((unit / "manifest.json").is_file() for unit in now)
        kept = now
    assert kept
    stamps = {unit: (unit / "manifest.json").stat().st_mtime_ns for unit in kept}
    run(study)
    assert {unit: (unit / "manifest.json").stat().st_mtime_ns for unit in kept} == stamps
    assert len(final(tmp_path / "ws")) == N_SUBJECTS + 1
    assert list(tmp_path.glob(f"ws/*/.*{PARTIAL}*")) == []  # what the killed ones left is swept up
    whole = made(name="whole")
    run(whole)
    assert digests(study) == digests(whole)


def test_a_worker_that_dies_is_told_with_what_it_read(made: Callable[..., Study], folder: Path, tmp_path: Path) -> None:
    study = made("shards.n_jobs=2")
    process = _start(study, tmp_path / "study.yaml")
    begun: list[Path] = []
    while not begun and process.poll() is None:
        begun = list((tmp_path / "ws" / "recordings").glob(f".*{PARTIAL}*"))
    os.kill(int(begun[0].name.split("-")[-2]), signal.SIGKILL)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 2
    assert said.startswith(f"mtkd: {folder}/s0")
    assert said.endswith("came to its end (SIGKILL(-9)); for want of memory, take fewer shards.n_jobs\n")
    assert f"{begun[0].name[1:4]}.dat" in said
    run(study)
    assert len(final(tmp_path / "ws")) == N_SUBJECTS + 1


def test_a_ray_cluster_gives_the_same_bytes_and_the_same_sentences(
    made: Callable[..., Study], folder: Path, tmp_path: Path, mtkd: Callable[..., Any]
) -> None:
    study, other = made("data.subjects=[s01, s02, s03]"), made("data.subjects=[s01, s02, s03]", name="ray")
    run(study)
    write_json(tmp_path / "study.yaml", other.model_dump())
    ended = mtkd("shards", tmp_path / "study.yaml", "shards.engine=ray")
    assert ended.code == 0, ended
    assert "3 of 3 recordings" in ended.out
    assert digests(study) == digests(other)
    bad = tmp_path / "bad"
    bad.mkdir()
    (bad / "s01.dat").write_bytes((folder / "s01.dat").read_bytes()[:-100])
    ended = mtkd("shards", tmp_path / "study.yaml", "shards.engine=ray", f"data.folder={bad}", "data.subjects=null")
    assert ended.code == 2
    assert ended.err.startswith(f"mtkd: {bad / 's01.dat'}: damaged or foreign file")
    assert ended.err.count("\n") == 1
