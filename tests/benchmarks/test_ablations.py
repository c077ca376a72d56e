"""The benchmark of the language model: seeds are averaged before subjects are, and each stand-in is held against it."""

import importlib
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest


@pytest.fixture
def benchmark(repo: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(repo / "benchmarks")
    return importlib.import_module("ablations")


def both(auroc: float | None) -> dict[str, float | None]:
    return {"auroc": auroc, "balanced_accuracy": None if auroc is None else auroc - 0.2}


def results(benchmark: ModuleType, seed: int) -> dict[str, Any]:
    """Of 12 subjects: random weights .1 below the teacher, one layer above it, the others the same."""
    names = {f"{benchmark.TEACHER}, {kind}": 0.0 for kind in benchmark.STAND_INS} | {benchmark.TEACHER: 0.0}
    names[f"{benchmark.TEACHER}, random weights"] = -0.1
    names[f"{benchmark.TEACHER}, one-layer attention"] = 0.05
    tables = {
        name: {"subjects": {f"s{number}": both(0.7 + 0.01 * number + 0.1 * seed + more) for number in range(12)}}
        for name, more in names.items()
    }
    tables[benchmark.TEACHER]["subjects"]["lost"] = both(None if seed else 0.1)
    levels = {level: {"joint": {"models": tables}} for level in ("window", "trial")}
    study = {"evaluate": {"teachers": {"none": {}}}}
    return {"levels": levels, "provenance": {"seeds": [seed], "study": study}}


def test_a_subject_is_its_mean_over_seeds(benchmark: ModuleType) -> None:
    found = benchmark.averaged([results(benchmark, seed) for seed in (0, 1)], "window", benchmark.TEACHER, "auroc")
    assert found == pytest.approx({f"s{number}": 0.75 + 0.01 * number for number in range(12)})


def test_each_stand_in_has_a_row_at_each_level(benchmark: ModuleType) -> None:
    rows = importlib.import_module("rows").Rows()
    benchmark.add_rows(rows, "small", [results(benchmark, seed) for seed in (0, 1)])
    assert len(rows) == 2 * 2 * len(benchmark.STAND_INS)
    told = {row.name: row for row in rows}
    worse = told["small, AUROC by window, against random weights"]
    better = told["small, AUROC by window, against one-layer attention"]
    mean = 0.75 + 0.01 * np.arange(12).mean()
    assert worse.ratio == pytest.approx(mean / (mean - 0.1), abs=1e-3)
    assert worse.met
    assert not better.met
    assert "+0.100, p = 0.000, corrected 0.004; 12 subjects, 2 seeds" in worse.measured
    same = told["small, balanced accuracy by trial, against no confidence"]
    assert same.measured.startswith(f"{mean - 0.2:.3f} against {mean - 0.2:.3f}, ")


def test_a_folder_of_other_evaluations_is_refused(benchmark: ModuleType, tmp_path: Path) -> None:
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        (tmp_path / "evaluate" / name).mkdir(parents=True)
        (tmp_path / "evaluate" / name / "results.json").write_text(json.dumps(results(benchmark, seed)))
    assert benchmark._of_seed(tmp_path, 1, {"none": {}})["provenance"]["seeds"] == [1]
    for seed, n, name in ((0, 2, "none"), (2, 0, "none"), (1, 0, "another")):
        with pytest.raises(SystemExit, match=rf": {n} evaluations of seed {seed}, not one; start "):
            benchmark._of_seed(tmp_path, seed, {name: {}})
