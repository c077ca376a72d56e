"""Ranks that somebody else started: what becomes of them, and of what they were writing, when that one is killed."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from mtkd.errors import MtkdError
from mtkd.files import write_json
from mtkd.training.launch import launch


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a child of its parent's end")
def test_ranks_do_not_outlive_a_stage_that_is_killed(
    make_study: Callable[..., Any], tiny_llama: Path, tmp_path: Path
) -> None:
    study = make_study(f"temporal.backbone={tiny_llama}", "temporal.optim.epochs=500", workspace=tmp_path / "ws")
    write_json(tmp_path / "study.yaml", study.model_dump())
    subprocess.run([sys.executable, "-m", "mtkd", "shards", str(tmp_path / "study.yaml")], check=True, timeout=300)
    command = [sys.executable, "-m", "mtkd", "temporal", str(tmp_path / "study.yaml")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        line = next(line for line in process.stdout or [] if "epoch 1:" in line)
        family = psutil.Process(process.pid).children(recursive=True)
        ranks = [child for child in family if "RANK" in child.environ()]
        process.kill()
    assert "fold 0" in line
    assert len(ranks) == 2
    _, alive = psutil.wait_procs(family, timeout=60)
    assert alive == []
    assert [path.name for path in (tmp_path / "ws/temporal").iterdir()] == ["launch.log"]


def test_a_launcher_without_its_configuration(make_study: Callable[..., Any]) -> None:
    with pytest.raises(MtkdError, match=r"^temporal\.accelerate = none\.yaml: no such file$"):
        launch(make_study(), "temporal", "none.yaml")
