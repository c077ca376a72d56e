"""Trainings side by side in processes of their own, when somebody stops the one that started them."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from mtkd.files import write_json


@pytest.fixture(scope="module")
def study_file(make_study: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Shards and graph teachers that would train for long."""
    tmp_path = tmp_path_factory.mktemp("pool")
    study = make_study("spatial.optim={epochs: 100000, patience: 100000}", workspace=tmp_path / "ws")
    write_json(tmp_path / "study.yaml", study.model_dump())
    subprocess.run([sys.executable, "-m", "mtkd", "shards", str(tmp_path / "study.yaml")], check=True, timeout=300)
    return tmp_path / "study.yaml"


def wait_for(condition: Callable[[], bool], timeout_s: float = 100) -> None:
    limit = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < limit
        time.sleep(0.1)


@pytest.mark.parametrize(
    ("sent", "to", "code"),
    [(signal.SIGINT, "all", 130), (signal.SIGTERM, "it", 143), (signal.SIGKILL, "it", -9)],
)
def test_workers_end_with_who_started_them(study_file: Path, sent: signal.Signals, to: str, code: int) -> None:
    command = [sys.executable, "-m", "mtkd", "spatial", str(study_file)]
    folder = study_file.parent / "ws/spatial"
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        wait_for(lambda: len(psutil.Process(process.pid).children(recursive=True)) >= 2)
        time.sleep(8)  # they import torch, then train
        family = psutil.Process(process.pid).children(recursive=True)
        if to == "all":  # as a terminal does it
            os.killpg(process.pid, sent)
        else:
            process.send_signal(sent)
        _, err = process.communicate(timeout=60)
    assert process.returncode == code
    assert "Traceback" not in err
    if sent != signal.SIGKILL:
        assert err.splitlines()[-1] == "mtkd: interrupted; the next run goes on from what is finished"
    _, alive = psutil.wait_procs(family, timeout=30)
    assert alive == []
    assert [path for path in folder.glob("*") if not path.name.startswith(".")] == []
