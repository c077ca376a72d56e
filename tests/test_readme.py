"""Every command of the README is run, on a study small enough for a test."""

import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

COMMAND = re.compile(r"^ {4}((?:bash|mtkd) .+)$", re.MULTILINE)
RUN_HERE = ["bash launch/quickstart.sh", "bash launch/quickstart.sh eegmat FOLDER"]
RUNS_THIS = "bash launch/test.sh"
BESIDE = "evaluate.teachers="  # tests/evaluate/test_beside.py runs that one and looks at what came of it
PATTERN = "mtkd STAGE configs/study/simulated.yaml [key.sub=value ...]"  # the others are of its kind


def commands(repo: Path) -> list[str]:
    return COMMAND.findall((repo / "README.md").read_text())


def test_no_command_is_left_out(repo: Path) -> None:
    named = {*RUN_HERE, RUNS_THIS, PATTERN}
    found = set(commands(repo))
    assert named <= found
    rest = found - named
    assert rest
    assert all(command.startswith("mtkd ") for command in rest)


@pytest.fixture
def finished(pipeline: Any, tmp_path: Path) -> list[str]:
    """The finished small study as the words of a command line, in a workspace of its own."""
    study = pipeline.copy(tmp_path / "workspace")
    return [str(pipeline.file), f"workspace={study.workspace}"]


def test_the_quickstart_on_a_finished_study(script: Callable[..., str], finished: list[str]) -> None:
    said = script("launch/quickstart.sh", *finished)
    assert "labels alone" in said
    assert "report.html" in said


def test_every_mtkd_command(
    repo: Path, pipeline: Any, finished: list[str], mtkd: Callable[..., Any], subtests: pytest.Subtests
) -> None:
    workspace = finished[1].partition("=")[2]
    for command in sorted(set(commands(repo)) - {*RUN_HERE, RUNS_THIS, PATTERN}):
        if BESIDE in command:
            continue
        with subtests.test(command):
            _, stage, study, *given = shlex.split(command)
            assert study == "configs/study/simulated.yaml"
            moved = [word.replace("data_shards/simulated", workspace) for word in given]
            few = ["evaluate.students={labels alone: {teachers: {}}, distilled: {}}"] if stage == "distill" else []
            done = mtkd(stage, *finished, *few, *moved)
            assert done.code == 0, done.err
