"""The benchmark of the quickstart, on a study that is finished."""

import importlib
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest


@pytest.fixture
def benchmark(repo: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(repo / "benchmarks")
    return importlib.import_module("quickstart")


def test_seconds_and_memory_of_a_second_run(benchmark: ModuleType, pipeline: Any, tmp_path: Path) -> None:
    pipeline.copy(tmp_path / "ws")
    seconds, gib = benchmark.quickstart([str(pipeline.file)], str(tmp_path / "ws"))
    assert 1 < seconds < 100
    assert 0.1 < gib < 4  # torch alone is 0.2 GiB


def test_a_quickstart_that_fails_is_not_measured(benchmark: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"ended with exit code 2$"):
        benchmark.quickstart([str(tmp_path / "none.yaml")], str(tmp_path / "ws"))


def test_a_workspace_that_would_be_reused_is_refused(repo: Path, tmp_path: Path) -> None:
    (tmp_path / "simulated").mkdir()
    command = [sys.executable, str(repo / "benchmarks/quickstart.py"), "--keep", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 2
    assert f"{tmp_path} is not empty" in done.stderr
