"""The benchmark of a student's training: its rows, on the small study."""

import importlib
from types import ModuleType
from typing import Any

import pytest


@pytest.fixture
def load(repo: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(repo / "benchmarks")
    return importlib.import_module


@pytest.fixture
def benchmark(load: Any, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    module = load("distillation")
    for name, value in {"N_EPOCHS": 3, "N_ROUNDS": 1, "N_COMPONENTS": 4}.items():
        monkeypatch.setattr(module, name, value)
    return module


def test_every_row_is_measured(benchmark: ModuleType, load: Any, pipeline: Any, tmp_path: Any) -> None:
    study, rows = pipeline.copy(tmp_path / "workspace"), load("rows").Rows()
    small, large = benchmark.cached(study, n_components=4), benchmark.cached(study, dtype="float32")
    benchmark.add_epochs(rows, small)
    benchmark.add_sizes(rows, small, large)
    told = {row.name: row for row in rows}
    assert len(told) == 4
    assert 0 < told["cache, half floats and 4 components against all in single ones"].ratio < 1
    assert told["the same, live teachers against cached ones"].ratio > 1
    assert told["student epoch, two cached teachers against labels alone"].ratio > 0.5
    assert told["student of the one against that of the other"].ratio == pytest.approx(1, abs=0.5)
