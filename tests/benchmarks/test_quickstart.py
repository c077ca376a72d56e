"""The benchmark of the quickstart: what it measures, on a study that is finished, and what it writes."""

import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROWS = [
    {"name": "quickstart, simulated", "ratio": 0.75, "goal": "at most 1", "met": True, "measured": "9.0 of 12 min"},
    {"name": "peak memory", "ratio": 1.25, "goal": "at most 1", "met": False, "measured": "10.0 of 8 GB"},
]


@pytest.fixture
def benchmark(repo: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("quickstart", repo / "benchmarks/quickstart.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_seconds_and_memory_of_a_second_run(benchmark: ModuleType, pipeline: Any, tmp_path: Path) -> None:
    pipeline.copy(tmp_path / "ws")
    seconds, gib = benchmark.quickstart([str(pipeline.file)], str(tmp_path / "ws"))
    assert 1 < seconds < 100
    assert 0.1 < gib < 4  # torch alone is 0.2 GiB


def test_a_quickstart_that_fails_is_not_measured(benchmark: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"ended with exit code 2$"):
        benchmark.quickstart([str(tmp_path / "none.yaml")], str(tmp_path / "ws"))


def test_a_section_takes_the_place_of_the_last_one_and_of_no_other(
    benchmark: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(benchmark, "RESULTS", tmp_path / "RESULTS.md")
    benchmark.write_section(ROWS)
    first = (tmp_path / "RESULTS.md").read_text()
    assert "| quickstart, simulated | 0.75 | at most 1 | met | 9.0 of 12 min |" in first
    assert "| peak memory | 1.25 | at most 1 | short | 10.0 of 8 GB |" in first
    assert first.count("## quickstart.py") == 1
    (tmp_path / "RESULTS.md").write_text(first + "\n## other.py\n\nkept\n")
    benchmark.write_section(ROWS[:1])
    second = (tmp_path / "RESULTS.md").read_text()
    assert "## other.py\n\nkept\n" in second
    assert second.count("## quickstart.py") == 1
    assert "peak memory" not in second


def test_a_workspace_that_would_be_reused_is_refused(repo: Path, tmp_path: Path) -> None:
    (tmp_path / "simulated").mkdir()
    command = [sys.executable, str(repo / "benchmarks/quickstart.py"), "--keep", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 2
    assert f"{tmp_path} is not empty" in done.stderr
