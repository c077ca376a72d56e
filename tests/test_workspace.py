"""Units: found again by what they are made of, refused when they are not what their manifest says."""

import json
import math
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mtkd import workspace
from mtkd.errors import MtkdError
from mtkd.workspace import MANIFEST, Unit, make_unit, read_manifest, versions

INPUTS = {"a": 1, "b": [1.5, {"c": "ä"}], "d": {"z": None, "y": True}}


@pytest.fixture
def unit(tmp_path) -> Unit:
    """A unit that stands, with two files, one of them in a folder."""
    made = at(tmp_path)
    build(made, b"some bytes")
    return made


def at(tmp_path: Path, inputs=None) -> Unit:
    inputs = inputs or INPUTS
    return Unit("shards", tmp_path / "shards" / f"all-{workspace.fingerprint(inputs)}", inputs)


def build(unit: Unit, content: bytes) -> None:
    with unit.build() as (folder, measured):
        (folder / "sub").mkdir()
        (folder / "sub" / "x.bin").write_bytes(content)
        (folder / "y.bin").write_bytes(b"y")
        measured["n"] = 3


def again(unit: Unit) -> bool:
    """``stands`` as a new process would see it: within one, files are checked once."""
    workspace._check.cache_clear()
    return unit.stands()


def test_a_unit_stands_once_it_is_built(tmp_path):
    unit = at(tmp_path)
    assert not unit.stands()
    build(unit, b"some bytes")
    assert again(unit)
    manifest = unit.manifest()
    assert manifest.stage == "shards"
    assert manifest.inputs == INPUTS
    assert manifest.measured == {"n": 3}
    assert set(manifest.files) == {"sub/x.bin", "y.bin"}
    assert manifest.files["sub/x.bin"].n_bytes == 10
    assert manifest.versions == versions() == json.loads((unit.folder / MANIFEST).read_text())["versions"]


def test_a_unit_that_does_not_stand_says_which_stage_makes_it(tmp_path):
    with pytest.raises(MtkdError, match=r"all-.*: not there yet; run `mtkd shards` first"):
        at(tmp_path).manifest()


def test_a_build_that_fails_leaves_nothing_and_the_next_one_succeeds(tmp_path):
    def fail() -> None:
        with unit.build() as (folder, _):
            (folder / "x.bin").write_bytes(b"half")
            raise ZeroDivisionError

    unit = at(tmp_path)
    with pytest.raises(ZeroDivisionError):
        fail()
    assert list(unit.folder.parent.iterdir()) == []
    assert not unit.stands()
    build(unit, b"whole")
    assert again(unit)


def test_the_manifest_is_written_last(tmp_path, monkeypatch):
    unit = at(tmp_path)
    seen = []
    monkeypatch.setattr(workspace, "write_json", lambda path, content: seen.extend(path.parent.rglob("*")) or 1 / 0)
    with pytest.raises(ZeroDivisionError):
        build(unit, b"x")
    assert {path.name for path in seen} == {"sub", "x.bin", "y.bin"}
    assert list(unit.folder.parent.iterdir()) == []


BUILD = """
import sys, time
from pathlib import Path
from mtkd.workspace import Unit
with Unit("shards", Path(sys.argv[1]), {"a": 1}).build() as (folder, measured):
    (folder / "x.bin").write_bytes(b"half" * 1000)
    print(folder, flush=True)
    time.sleep(60)
"""


def test_a_build_killed_in_the_middle_leaves_nothing_and_the_next_one_sweeps_up(tmp_path):
    unit = at(tmp_path, {"a": 1})
    with subprocess.Popen(
        [sys.executable, "-c", BUILD, str(unit.folder)], stdout=subprocess.PIPE, text=True
    ) as process:
        left = Path(process.stdout.readline().strip())
        os.kill(process.pid, signal.SIGKILL)
    while Path(f"/proc/{process.pid}").exists():
        time.sleep(0.01)
    assert (left / "x.bin").is_file()
    assert not unit.folder.exists()
    assert not unit.stands()
    build(unit, b"whole")
    assert again(unit)
    assert list(unit.folder.parent.iterdir()) == [unit.folder]


def test_a_flipped_bit_is_found_wherever_it_lies(unit):
    path = unit.folder / "sub" / "x.bin"
    whole = path.read_bytes()
    for at_byte in range(len(whole)):
        damaged = bytearray(whole)
        damaged[at_byte] ^= 1
        path.write_bytes(damaged)
        with pytest.raises(MtkdError, match=r"sub/x\.bin: its checksum is not the manifest's"):
            again(unit)
    path.write_bytes(whole)
    assert again(unit)


@pytest.mark.parametrize("content", [b"", b"some byte", b"some bytes and more"])
def test_a_file_of_another_length_is_found(unit, content):
    (unit.folder / "sub" / "x.bin").write_bytes(content)
    with pytest.raises(MtkdError, match=r"sub/x\.bin: "):
        again(unit)


def test_a_missing_file_is_found(unit):
    (unit.folder / "y.bin").unlink()
    with pytest.raises(MtkdError, match=r"y\.bin: missing"):
        again(unit)


def test_a_foreign_folder_under_the_name_is_not_touched(tmp_path):
    unit = at(tmp_path)
    unit.folder.mkdir(parents=True)
    (unit.folder / "thesis.txt").write_text("mine")
    with pytest.raises(MtkdError, match=r"all-.*: has no manifest\.json, so it is none of mtkd's"):
        again(unit)
    assert (unit.folder / "thesis.txt").read_text() == "mine"


def test_a_unit_of_other_inputs_under_the_name_is_refused(unit, tmp_path):
    other = at(tmp_path, {"a": 2})
    shutil.copytree(unit.folder, other.folder)
    with pytest.raises(MtkdError, match=f"{other.folder}: made by shards {unit.fingerprint}, not by shards"):
        again(other)


def test_a_unit_of_another_stage_under_the_name_is_refused(unit):
    with pytest.raises(MtkdError, match="made by shards"):
        again(Unit("cache", unit.folder, INPUTS))


def test_a_link_that_leads_nowhere_is_found_before_anything_is_built(tmp_path):
    unit = at(tmp_path)
    unit.folder.parent.mkdir()
    unit.folder.symlink_to(tmp_path / "gone")
    with pytest.raises(MtkdError, match=r"all-.*: has no manifest\.json"):
        again(unit)


@pytest.mark.parametrize(
    "changes",
    [
        {"inputs": {"a": 2}},
        {"measured": {}},
        {"measured": {"n": 4}},
        {"measured": {"n": math.nan}},
        {"versions": {}},
        {"seal": ""},
        {"more": 1},
    ],
)
def test_a_manifest_that_was_edited_is_refused(unit, changes):
    path = unit.folder / MANIFEST
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    with pytest.raises(MtkdError, match=f"{path}: damaged manifest, .*; delete {unit.folder} to make it again"):
        again(unit)


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: "",
        lambda text: text[: len(text) // 2],
        lambda text: "[]",
        lambda text: '{"stage": "shards"}',
        lambda text: "[" * 5000,
        lambda text: text[:-2] + ', "n": ' + "9" * 5000 + "}",
        lambda text: re.sub(r'"files": \{.*', '"files": {}}', text, flags=re.DOTALL),
    ],
)
def test_a_damaged_manifest_is_refused_by_its_name(unit, damage):
    path = unit.folder / MANIFEST
    path.write_text(damage(path.read_text()))
    said = f"{path}: .*; delete {unit.folder} to make it again$"
    with pytest.raises(MtkdError, match=said):
        again(unit)
    with pytest.raises(MtkdError, match=said):
        read_manifest(unit.folder)


def test_files_are_checked_once_a_process(unit):
    assert again(unit)
    (unit.folder / "y.bin").write_bytes(b"z")
    assert unit.stands()


def test_the_digest_follows_the_content_and_nothing_else(tmp_path):
    one, same, other = (at(tmp_path / name) for name in ("one", "same", "other"))
    build(one, b"some bytes")
    time.sleep(0.01)
    build(same, b"some bytes")
    build(other, b"some bytez")
    assert one.manifest().digest == same.manifest().digest != other.manifest().digest


def test_a_unit_is_named_by_its_inputs(make_study, tmp_path):
    study = make_study(workspace=tmp_path)
    one, other = make_unit(study, "cache", "fold-0", INPUTS), make_unit(study, "cache", "fold-0", INPUTS | {"a": 2})
    assert one.folder == tmp_path / "cache" / f"fold-0-{one.fingerprint}"
    assert one.folder != other.folder
    assert make_unit(study, "cache", "fold-0", dict(INPUTS)).folder == one.folder
