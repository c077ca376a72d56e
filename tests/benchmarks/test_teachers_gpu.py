"""The benchmark of a GPU runs to its end, here on a small backbone and without one."""

import functools
import json
import sys
from pathlib import Path

import pytest
import torch


def test_it_tells_which_share_of_the_products_rate_is_reached(
    repo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.syspath_prepend(repo / "benchmarks")
    import rows
    import teachers_gpu
    import teachers_memory

    small = {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 32}
    monkeypatch.setitem(teachers_memory.SIZES, "7 B", small)
    for name, value in {"N_TRIALS": 6, "BATCH": 3, "EPOCHS": 4, "SIZE": 64}.items():
        monkeypatch.setattr(teachers_gpu, name, value)
    monkeypatch.setitem(teachers_gpu.CHANGES, "dtype", "float32")
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend="aot_eager"))
    monkeypatch.setattr(rows, "RESULTS", tmp_path / "RESULTS.md")
    monkeypatch.setattr(sys, "argv", ["teachers_gpu.py", "--json", str(tmp_path / "rows.json")])
    teachers_gpu.main()
    (row,) = json.loads((tmp_path / "rows.json").read_text())
    assert row["name"] == "7 B with LoRA, of the matrix product's rate"
    assert row["ratio"] > 0
    assert "tokens/s" in capsys.readouterr().out
