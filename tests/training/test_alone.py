"""Two runs that are to train the same teacher."""

import errno
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from filelock import FileLock

from mtkd.config import Optim
from mtkd.training import alone as module
from mtkd.training.alone import alone
from mtkd.training.runtime import Runtime
from mtkd.workspace import Unit

_HOLDS = """
import sys, time
from filelock import FileLock
with FileLock(sys.argv[1]):
    print("held", flush=True)
    time.sleep(600)
"""


@pytest.fixture
def unit(tmp_path: Path) -> Unit:
    return Unit("temporal", tmp_path / "temporal/fold-0-abc", {"stage": "temporal"})


def lock_of(unit: Unit) -> Path:
    return unit.folder.with_name(".fold-0-abc.lock")


def make(unit: Unit) -> None:
    with unit.build() as (folder, _):
        (folder / "weights").write_text("1")


def test_one_that_is_alone_makes_what_is_not_there(unit: Unit) -> None:
    told: list[str] = []
    for expected in (True, False):
        with alone(unit, Runtime(Optim()), told.append) as needed:
            assert needed == expected
            assert lock_of(unit).is_file()
            if needed:
                make(unit)
    assert told == []
    assert list(unit.folder.parent.iterdir()) == [unit.folder]


def test_another_waits_and_finds_it_made(unit: Unit, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "POLL_S", 0.01)
    waits, needed = threading.Event(), []

    def second() -> None:
        with alone(unit, Runtime(Optim()), lambda line: waits.set()) as is_needed:
            needed.append(is_needed)

    with alone(unit, Runtime(Optim()), print):
        thread = threading.Thread(target=second)
        thread.start()
        assert waits.wait(60)
        assert needed == []
        make(unit)
    thread.join(60)
    assert needed == [False]
    assert list(unit.folder.parent.iterdir()) == [unit.folder]


def test_a_killed_run_holds_nothing(unit: Unit) -> None:
    lock_of(unit).parent.mkdir()
    holder = [sys.executable, "-c", _HOLDS, str(lock_of(unit))]
    with subprocess.Popen(holder, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        process.kill()
        process.wait(60)
    told: list[str] = []
    with alone(unit, Runtime(Optim()), told.append) as needed:
        assert needed
    assert told == []


def test_a_file_system_without_locks(unit: Unit, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(lock: FileLock, blocking: bool) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(FileLock, "acquire", refuse)
    told: list[str] = []
    with alone(unit, Runtime(Optim()), told.append) as needed:
        assert needed
    assert told == [
        f"{lock_of(unit)}: cannot be locked (No locks available); start no second run of this study meanwhile"
    ]
