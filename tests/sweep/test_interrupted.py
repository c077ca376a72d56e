"""A sweep that is interrupted, one whose process is killed, and the one after: what was finished stands."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from mtkd.files import PARTIAL, read_json, write_json

N_TRIALS = 6


@dataclass(frozen=True)
class Ended:
    """How a sweep ended, what it said, which units and scratch folders were there then, and who outlived it."""

    code: int
    out: str
    err: str
    units: list[str]
    scratch: list[str]
    alive: list[psutil.Process]


@pytest.fixture(scope="module")
def study_file(make_study: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Shards, and a student from labels alone whose settings are to be searched on each of three folds."""
    folder = tmp_path_factory.mktemp("interrupted")
    study = make_study(
        "evaluate.students={labels alone: {teachers: {}}, distilled: {}, swept: {teachers: {}, settings: sweep}}",
        "splits.n_folds=4",
        f"sweep.n_trials={N_TRIALS}",
        "sweep.search={optim.lr: {low: 1.0e-3, high: 2.0e-3}}",
        workspace=folder / "workspace",
    )
    write_json(folder / "study.yaml", study.model_dump())
    subprocess.run([sys.executable, "-m", "mtkd", "shards", str(folder / "study.yaml")], check=True, timeout=300)
    return folder / "study.yaml"


@pytest.fixture(scope="module")
def terminated(study_file: Path) -> Ended:
    return _sweep(study_file, signal.SIGTERM, after="fold 0: ")


@pytest.fixture(scope="module")
def interrupted(study_file: Path, terminated: Ended) -> Ended:
    """After the terminated one."""
    return _sweep(study_file, signal.SIGINT, after="fold 1: ")


@pytest.fixture(scope="module")
def killed(study_file: Path, interrupted: Ended) -> Ended:
    """After the interrupted one."""
    return _sweep(study_file, signal.SIGKILL, after="fold 2: ")


@pytest.fixture(scope="module")
def last(study_file: Path, killed: Ended) -> Ended:
    return _sweep(study_file)


def _sweep(study_file: Path, sent: signal.Signals | None = None, after: str = "") -> Ended:
    """``mtkd sweep``, to which a signal is sent when it has said a line with these words."""
    command = [sys.executable, "-m", "mtkd", "sweep", str(study_file)]
    family: list[psutil.Process] = []
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        said = []
        for line in process.stdout or []:
            said.append(line)
            if sent and not family and after in line:
                family = [
                    child for child in psutil.Process(process.pid).children(recursive=True) if not _is_agent(child)
                ]
                assert family  # Ray is there
                if sent == signal.SIGINT:  # as a terminal does it, to all processes at once
                    os.killpg(process.pid, sent)
                else:
                    process.send_signal(sent)
        _, err = process.communicate(timeout=200)
    assert bool(family) == bool(sent)
    _, alive = psutil.wait_procs(family, timeout=60)
    names = sorted(path.name for path in (study_file.parent / "workspace/sweep").iterdir() if path.is_dir())
    return Ended(
        process.returncode,
        "".join(said),
        err,
        [name for name in names if PARTIAL not in name],
        [name for name in names if PARTIAL in name],
        alive,
    )


def _is_agent(process: psutil.Process) -> bool:
    """Ray's agents, which do nothing for a sweep, end by themselves within a minute when their node is killed."""
    return "agent" in " ".join(process.cmdline()).lower()


def test_a_terminated_sweep_says_so_and_leaves_nothing_half_done(terminated: Ended) -> None:
    assert terminated.code == 128 + signal.SIGTERM
    assert terminated.err == "mtkd: interrupted; the next run goes on from what is finished\n"
    assert [name.rpartition("-")[0] for name in terminated.units] == ["fold-0"]
    assert terminated.scratch == []
    assert terminated.alive == []


def test_an_interrupted_sweep_says_so_in_one_sentence(interrupted: Ended) -> None:
    assert interrupted.code == 2
    last_line = interrupted.err.splitlines()[-1]
    assert last_line == "mtkd: sweep: interrupted with 2 of 3 searches unfinished; run it again"
    assert "Traceback" not in interrupted.err + interrupted.out


def test_an_interrupted_sweep_keeps_the_searches_that_were_finished(interrupted: Ended) -> None:
    assert [name.rpartition("-")[0] for name in interrupted.units] == ["fold-0", "fold-1"]
    assert interrupted.scratch == []
    assert interrupted.alive == []


def test_a_killed_sweep_leaves_no_process_and_nothing_under_a_final_name(interrupted: Ended, killed: Ended) -> None:
    assert killed.code == -signal.SIGKILL
    assert [name.rpartition("-")[0] for name in killed.units] == ["fold-0", "fold-1", "fold-2"]
    assert set(interrupted.units) < set(killed.units)
    assert killed.alive == []


def test_the_next_sweep_searches_what_is_missing_and_sweeps_up(killed: Ended, last: Ended, study_file: Path) -> None:
    assert last.code == 0, last.err
    assert f"{N_TRIALS} trials of 1 search\n" in last.out
    assert last.out.count("reused") == 3
    assert len(killed.scratch) == 1
    assert last.scratch == []
    assert set(killed.units) < set(last.units)
    for unit in last.units:
        trials = read_json(study_file.parent / "workspace/sweep" / unit / "trials.json")
        assert len(trials) == N_TRIALS
        assert all(trial["error"] is None for trial in trials)
