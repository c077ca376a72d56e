"""How tests load the benchmarks, which are scripts and no package."""

import importlib
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture
def load(repo: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A function that imports one by its name."""
    monkeypatch.syspath_prepend(repo / "benchmarks")
    return importlib.import_module
