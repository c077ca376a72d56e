"""Nothing half-written under its final name, and fingerprints that see what matters."""

import contextlib
import json
import os
import platform
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mtkd.errors import MtkdError
from mtkd.files import (
    PARTIAL,
    _pid_namespace,
    fingerprint,
    publish_file,
    publish_folder,
    read_json,
    scratch_folder,
    slug,
    write_json,
)


class Interrupted(BaseException):
    """Stands for a keyboard interrupt."""


def fail_in_a_file(path: Path, error: type[BaseException]) -> None:
    with publish_file(path) as aside:
        aside.write_bytes(b"half")
        raise error


def fail_in_a_folder(path: Path, error: type[BaseException]) -> None:
    with publish_folder(path) as aside:
        (aside / "sub").mkdir()
        (aside / "sub" / "x").write_bytes(b"half")
        raise error


@pytest.mark.parametrize("error", [ValueError, Interrupted])
def test_a_file_that_fails_leaves_nothing(tmp_path, error):
    with pytest.raises(error):
        fail_in_a_file(tmp_path / "sub" / "x.bin", error)
    assert list((tmp_path / "sub").iterdir()) == []


@pytest.mark.parametrize("error", [ValueError, Interrupted])
def test_a_file_that_fails_leaves_what_stood_there(tmp_path, error):
    path = tmp_path / "x.bin"
    path.write_bytes(b"old")
    with pytest.raises(error):
        fail_in_a_file(path, error)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_appears_whole_and_alone(tmp_path):
    path = tmp_path / "sub" / "x.bin"
    path.parent.mkdir()
    path.write_bytes(b"old")
    with publish_file(path) as aside:
        aside.write_bytes(b"whole")
        assert path.read_bytes() == b"old"
    assert path.read_bytes() == b"whole"
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("error", [ValueError, Interrupted])
def test_a_folder_that_fails_leaves_nothing(tmp_path, error):
    with pytest.raises(error):
        fail_in_a_folder(tmp_path / "unit", error)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_appears_whole_and_alone(tmp_path):
    with publish_folder(tmp_path / "unit") as aside:
        assert list(aside.iterdir()) == []
        (aside / "sub").mkdir()
        (aside / "sub" / "x").write_bytes(b"whole")
        assert not (tmp_path / "unit").exists()
    assert (tmp_path / "unit" / "sub" / "x").read_bytes() == b"whole"
    assert [path.name for path in tmp_path.iterdir()] == ["unit"]


def test_a_folder_that_another_process_published_meanwhile_stays(tmp_path):
    with publish_folder(tmp_path / "unit") as aside:
        (aside / "mine").write_bytes(b"")
        (tmp_path / "unit").mkdir()
        (tmp_path / "unit" / "theirs").write_bytes(b"")
    assert [path.name for path in (tmp_path / "unit").iterdir()] == ["theirs"]
    assert [path.name for path in tmp_path.iterdir()] == ["unit"]


HOST = f"{platform.node().replace('-', '_')}.{_pid_namespace()}"


def _leftover(folder: Path, pid: object, host: str = HOST) -> Path:
    left = folder / f".unit{PARTIAL}{host}-{pid}-0a0b0c0d"
    left.mkdir()
    (left / "half").write_bytes(b"half")
    return left


def test_leftovers_of_dead_processes_are_swept_up_and_those_of_living_ones_are_not(tmp_path):
    dead = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, text=True)
    gone = [_leftover(tmp_path, int(dead.stdout))]
    # another host's processes may live, whatever their numbers are here; folders can be shared
    stays = [_leftover(tmp_path, os.getppid()), _leftover(tmp_path, int(dead.stdout), "elsewhere")]
    with publish_folder(tmp_path / "unit"):
        assert not any(path.exists() for path in gone)
    assert all(path.exists() for path in stays)


def test_a_leftover_of_an_earlier_process_with_our_own_number_is_no_obstacle(tmp_path):
    """In a container process numbers come again with every start."""
    left = _leftover(tmp_path, os.getpid())
    with publish_folder(tmp_path / "unit") as aside:
        assert list(aside.iterdir()) == []
    assert {path.name for path in tmp_path.iterdir()} == {"unit", left.name}


KILLED = """
import sys, time
from pathlib import Path
from mtkd.files import {publish}
with {publish}(Path(sys.argv[1])) as aside:
    ({place}).write_bytes(b"half" * 1000)
    print("writing", flush=True)
    time.sleep(60)
"""


@pytest.mark.parametrize(
    ("publish", "place"), [("publish_file", "aside"), ("publish_folder", "aside / 'x'")], ids=["file", "folder"]
)
def test_a_killed_process_leaves_nothing_under_the_final_name(tmp_path, publish, place):
    command = [sys.executable, "-c", KILLED.format(publish=publish, place=place), str(tmp_path / "unit")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "writing\n"
        process.kill()
    assert not (tmp_path / "unit").exists()
    assert len(list(tmp_path.iterdir())) == 1  # what it left, which its name tells from a result
    deadline = time.monotonic() + 5
    while Path(f"/proc/{process.pid}").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    if publish == "publish_folder":
        with publish_folder(tmp_path / "unit") as aside:
            (aside / "x").write_bytes(b"whole")
        assert [path.name for path in tmp_path.iterdir()] == ["unit"]
        assert (tmp_path / "unit" / "x").read_bytes() == b"whole"


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@given(json_values)
def test_json_goes_out_and_in_and_keeps_its_fingerprint(tmp_path_factory, content):
    path = tmp_path_factory.getbasetemp() / "content.json"
    write_json(path, content)
    assert read_json(path) == content
    assert fingerprint(read_json(path)) == fingerprint(content)


@given(json_values, json_values)
def test_fingerprints_are_equal_for_equal_content_only(one, other):
    assert (fingerprint(one) == fingerprint(other)) == (json.dumps(one) == json.dumps(other))


@given(json_values)
def test_a_fingerprint_is_twelve_hex_digits(content):
    found = fingerprint(content)
    assert len(found) == 12
    assert set(found) <= set("0123456789abcdef")


def test_a_fingerprint_is_the_same_in_every_process(tmp_path):
    code = "from mtkd.files import fingerprint; print(fingerprint({'b': [1.5, 'ä'], 'a': None}))"
    made = {
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, env={**os.environ, "PYTHONHASHSEED": seed}
        ).stdout.strip()
        for seed in ("0", "1")
    }
    assert made == {fingerprint({"b": [1.5, "ä"], "a": None})}


def test_the_order_of_keys_counts():
    assert fingerprint({"valence": 5, "arousal": 5}) != fingerprint({"arousal": 5, "valence": 5})


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_what_json_cannot_say_has_no_fingerprint(number):
    with pytest.raises(ValueError, match="JSON"):
        fingerprint({"a": number})


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"[1, 2", b"nothing"], ids=repr)
def test_a_file_that_is_no_json_is_refused_by_its_name(tmp_path, content):
    path = tmp_path / "x.json"
    path.write_bytes(content)
    with pytest.raises(MtkdError, match=r"x\.json: not a JSON file"):
        read_json(path)


def test_a_missing_json_file_is_refused_by_its_name(tmp_path):
    with pytest.raises(MtkdError, match=r"x\.json: no such file"):
        read_json(tmp_path / "x.json")


def test_json_that_cannot_be_written_leaves_what_stood_there(tmp_path):
    write_json(tmp_path / "x.json", {"a": 1})
    with pytest.raises(TypeError):
        write_json(tmp_path / "x.json", {"a": object()})
    assert read_json(tmp_path / "x.json") == {"a": 1}
    assert len(list(tmp_path.iterdir())) == 1


@given(st.text(max_size=20))
def test_a_slug_is_fit_for_a_files_name_and_its_own_slug(name):
    assert set(slug(name)) <= set("abcdefghijklmnopqrstuvwxyz0123456789-")
    assert slug(slug(name)) == slug(name)
    assert not slug(name).startswith("-")
    assert not slug(name).endswith("-")


@pytest.mark.parametrize("error", [None, MtkdError, KeyboardInterrupt])
def test_a_scratch_folder_is_gone_afterwards_however_it_ended(tmp_path, error):
    with contextlib.suppress(MtkdError, KeyboardInterrupt), scratch_folder(tmp_path / "x") as folder:
        (folder / "y").write_text("z")
        if error is not None:
            raise error
    assert list(tmp_path.iterdir()) == []
