"""The fuzz run: it finds nothing in a few files of each kind, and it would find what there could be."""

import faulthandler
import importlib
import os
import random
import signal
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from mtkd.errors import MtkdError

KINDS = 18


@pytest.fixture
def fuzz(repo: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(repo / "benchmarks")
    module = importlib.import_module("fuzz")
    monkeypatch.setattr(module, "SECONDS", 3)
    return module


@pytest.mark.parametrize("number", range(KINDS))
def test_some_files_of_each_kind(
    fuzz: ModuleType, tmp_path: Path, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert len(fuzz.KINDS) == KINDS
    kind = fuzz.KINDS[number]
    monkeypatch.setattr(fuzz, "SECONDS", 60)
    found = fuzz.ended(kind, range(40 // kind.each), 7, tmp_path)
    assert len(found) == 40 // kind.each
    assert set(found) <= {"read", "refused"}


@pytest.mark.parametrize("number", range(KINDS))
def test_the_good_file_of_each_kind_reads(fuzz: ModuleType, tmp_path: Path, number: int) -> None:
    kind = fuzz.KINDS[number]
    path = kind.write(tmp_path)
    assert fuzz._one(kind, tmp_path, path, path.read_bytes()) == "read"


def test_changes_follow_the_seed_and_change_something(fuzz: ModuleType) -> None:
    content = bytes(range(256)) * 20
    made = [fuzz.mutated(content, random.Random(f"0 {number}")) for number in range(50)]
    assert made == [fuzz.mutated(content, random.Random(f"0 {number}")) for number in range(50)]
    assert len(set(made) - {content}) > 40


def refuse(folder: Path) -> None:
    raise MtkdError("somewhere: something is wrong")


def crash(folder: Path) -> None:
    faulthandler.disable()  # whose dump, which pytest turns on, would look like a crash of the tests
    os.kill(os.getpid(), signal.SIGSEGV)


def allocate(folder: Path) -> None:
    np.ones(2**30)  # eight gigabytes


@pytest.mark.parametrize(
    ("read", "said"),
    [
        (crash, "its process ended with status "),
        (lambda folder: time.sleep(30), "its process ended with status "),
        (allocate, "more memory than a file may take"),
        (lambda folder: (folder.parent / "left").write_text("x"), "files that were not there"),
        (lambda folder: [][1], "IndexError"),
        (lambda folder: os.system("true"), "called os.system"),
        (lambda folder: (folder.parents[1] / "elsewhere").touch(), "wrote "),
        (refuse, "a sentence without its file"),
    ],
)
def test_whatever_is_wrong_is_found(fuzz: ModuleType, tmp_path: Path, read: Callable[[Path], None], said: str) -> None:
    def write(folder: Path) -> Path:
        (folder / "x").write_text("x")
        return folder / "x"

    found = fuzz.ended(fuzz.Kind("x", write, read), range(2), 0, tmp_path)
    assert len(found) == 2
    assert found[0].startswith(said)
