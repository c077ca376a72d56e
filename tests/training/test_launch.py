"""Ranks that somebody else started: what becomes of them, and of what they were writing, when that one is killed."""

import signal
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


@pytest.fixture(scope="module")
def study_file(make_study: Callable[..., Any], tiny_llama: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Shards and a teacher that would train for long."""
    tmp_path = tmp_path_factory.mktemp("launch")
    study = make_study(f"temporal.backbone={tiny_llama}", "temporal.optim.epochs=500", workspace=tmp_path / "ws")
    write_json(tmp_path / "study.yaml", study.model_dump())
    subprocess.run([sys.executable, "-m", "mtkd", "shards", str(tmp_path / "study.yaml")], check=True, timeout=300)
    return tmp_path / "study.yaml"


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a child of its parent's end")
@pytest.mark.parametrize(
    ("whom", "sent", "code"),
    [("stage", signal.SIGKILL, -9), ("stage", signal.SIGINT, 130), ("launcher", signal.SIGKILL, 2)],
)
def test_ranks_do_not_outlive_who_started_them(study_file: Path, whom: str, sent: signal.Signals, code: int) -> None:
    command = [sys.executable, "-m", "mtkd", "temporal", str(study_file)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        line = next(line for line in process.stdout or [] if "epoch 1:" in line)
        stage = psutil.Process(process.pid)
        (launcher,), family = stage.children(), stage.children(recursive=True)
        ranks = [child for child in family if "RANK" in child.environ()]
        {"stage": stage, "launcher": launcher}[whom].send_signal(sent)
        _, err = process.communicate(timeout=100)
    assert "fold 0" in line
    assert len(ranks) == 2
    assert process.returncode == code
    assert "Traceback" not in err
    _, alive = psutil.wait_procs(family, timeout=60)
    assert alive == []
    assert [path.name for path in (study_file.parent / "ws/temporal").iterdir()] == ["launch.log"]


def test_a_launcher_without_its_configuration(make_study: Callable[..., Any]) -> None:
    with pytest.raises(MtkdError, match=r"^temporal\.accelerate = none\.yaml: no such file$"):
        launch(make_study(), "temporal", "none.yaml")


@pytest.mark.parametrize(
    "content", ["", "[1]", "a: [1", "no_such_key: 1", "\x01", "distributed_type: NO\nno_such_key: 1"]
)
def test_a_configuration_that_is_none_of_accelerates(
    make_study: Callable[..., Any], tmp_path: Path, content: str
) -> None:
    path = tmp_path / "launch.yaml"
    path.write_text(content)
    with pytest.raises(MtkdError, match=rf"^temporal\.accelerate = {path}: .") as refused:
        launch(make_study(), "temporal", str(path))
    assert "\n" not in str(refused.value)
