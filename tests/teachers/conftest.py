"""A random backbone, small enough for many examples; the real one is ``smollm2``."""

from collections.abc import Callable
from pathlib import Path

import pytest

from mtkd.config import Study
from mtkd.teachers.temporal.unpack import unpack
from mtkd.workspace import Unit


@pytest.fixture(scope="session")
def tiny_unit(make_study: Callable[..., Study], tiny_llama: Path) -> Unit:
    """The random Llama, unpacked."""
    return unpack(make_study(f"temporal.backbone={tiny_llama}", "temporal.layers=2"))
