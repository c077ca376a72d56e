"""The benchmark of recordings and shards: its own side, on two small subjects."""

import importlib
import sys
from pathlib import Path
from types import ModuleType

import pytest

from mtkd.study import read_study


@pytest.fixture
def benchmark(repo: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(repo / "benchmarks")
    module = importlib.import_module("data_plane")
    for name, value in {"N_SUBJECTS": 2, "N_TRIALS": 3, "N_WINDOWS": 2 * 3 * 15}.items():
        monkeypatch.setattr(module, name, value)
    return module


def test_both_conversions_and_the_loader_see_every_window(benchmark: ModuleType, tmp_path: Path) -> None:
    folder = benchmark.write_deap(tmp_path / "deap", 2)
    for entropy in (False, True):
        assert benchmark.convert(folder, tmp_path / f"ws-{entropy}", entropy) > 1
    ours, bare = benchmark.load(folder, tmp_path / "ws-False")
    assert ours > 1
    assert bare > 1
    assert benchmark.peak(folder, tmp_path / "ws-memory") > 1e8


def test_the_study_keeps_all_forty_channels_as_they_are(benchmark: ModuleType, tmp_path: Path) -> None:
    path, *given = benchmark.words(tmp_path, tmp_path, True)
    study = read_study(path, given)
    assert len(study.signals.modalities) == 7
    assert all(settings.steps == [] and settings.sfreq == 128 for settings in study.signals.modalities.values())
    assert study.signals.entropy is not None


def test_the_peer_is_told_where_it_fails(benchmark: ModuleType, tmp_path: Path) -> None:
    python = tmp_path / "torcheeg/bin/python"
    python.parent.mkdir(parents=True)
    python.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    python.chmod(0o755)
    (tmp_path / "torcheeg/made").touch()
    with pytest.raises(SystemExit, match="No module named"):
        benchmark.peer(tmp_path, tmp_path)
