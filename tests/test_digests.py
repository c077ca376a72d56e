"""Digests are those of the bytes, whatever is remembered: a file is read again once anything about it has changed."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from blake3 import blake3
from hypothesis import given
from hypothesis import strategies as st

from mtkd import digests
from mtkd.digests import TABLE, digest, digest_of_all, digests_of


@pytest.fixture(autouse=True)
def small_is_large(monkeypatch):
    """Every file of these tests is kept in the table, however new it is."""
    monkeypatch.setattr(digests, "LARGE", 1)
    monkeypatch.setattr(digests, "_SETTLED_S", 0.0)
    monkeypatch.setattr(digests, "_seen", {})


@pytest.fixture
def reads(monkeypatch) -> list[str]:
    """Names of the files that were read, in their order."""
    found = []

    def told(path: Path) -> str:
        found.append(path.name)
        return digest(path)

    monkeypatch.setattr(digests, "digest", told)
    return found


def in_a_new_process(monkeypatch) -> None:
    monkeypatch.setattr(digests, "_seen", {})


def put(folder: Path, **contents: bytes) -> list[Path]:
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    time.sleep(0.02)
    return [folder / name for name in contents]


@given(st.binary(max_size=300))
def test_a_digest_is_that_of_the_bytes(tmp_path_factory, content):
    path = tmp_path_factory.getbasetemp() / "content.bin"
    path.write_bytes(content)
    assert digest(path) == blake3(content).hexdigest()


def test_a_file_larger_than_what_is_read_at_once(tmp_path):
    content = os.urandom(3 * 2**20 + 17)
    (path,) = put(tmp_path, x=content)
    assert digest(path) == blake3(content).hexdigest()


def test_files_are_read_once_a_process_and_with_a_workspace_once(tmp_path, reads, monkeypatch):
    paths = put(tmp_path, a=b"1", b=b"2")
    expected = {path: blake3(path.read_bytes()).hexdigest() for path in paths}
    for _ in range(2):
        assert digests_of(paths, tmp_path) == expected
    in_a_new_process(monkeypatch)
    assert digests_of(paths, tmp_path) == expected
    assert sorted(reads) == ["a", "b"]
    in_a_new_process(monkeypatch)
    assert digests_of(paths) == expected  # without the table
    assert sorted(reads) == ["a", "a", "b", "b"]


def change(path: Path) -> None:
    path.write_bytes(b"2")


def change_and_set_its_time_back(path: Path) -> None:
    before = path.stat()
    path.write_bytes(b"2")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def put_another_in_its_place(path: Path) -> None:
    before, other = path.stat(), path.with_name("other")
    other.write_bytes(b"2")
    os.utime(other, ns=(before.st_atime_ns, before.st_mtime_ns))
    other.rename(path)


@pytest.mark.parametrize("becomes", [change, change_and_set_its_time_back, put_another_in_its_place])
@pytest.mark.parametrize("new_process", [True, False])
def test_a_changed_file_is_read_again(tmp_path, monkeypatch, becomes, new_process):
    (path,) = put(tmp_path, x=b"1")
    first = digests_of([path], tmp_path)[path]
    becomes(path)
    if new_process:
        in_a_new_process(monkeypatch)
    assert digests_of([path], tmp_path)[path] == blake3(b"2").hexdigest() != first


def test_what_was_changed_a_moment_ago_is_not_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(digests, "_SETTLED_S", 60.0)
    (path,) = put(tmp_path, x=b"1")
    digests_of([path], tmp_path)
    assert not (tmp_path / TABLE).exists()


def test_small_files_are_not_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(digests, "LARGE", 3)
    paths = put(tmp_path, small=b"12", large=b"123")
    digests_of(paths, tmp_path)
    assert list(json.loads((tmp_path / TABLE).read_text())) == [str(tmp_path / "large")]


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff", b'{"x": 1}', b'{"x": [[1], 2, 3]}', b"[" * 10**6])
def test_a_damaged_table_is_as_good_as_none(tmp_path, content):
    (path,) = put(tmp_path, x=b"1")
    (tmp_path / TABLE).write_bytes(content)
    assert digests_of([path], tmp_path)[path] == blake3(b"1").hexdigest()
    assert list(json.loads((tmp_path / TABLE).read_text())) == [str(path)]


def test_files_that_are_gone_leave_the_table(tmp_path):
    first, second = put(tmp_path, a=b"1", b=b"2")
    digests_of([first], tmp_path)
    first.unlink()
    digests_of([second], tmp_path)
    assert list(json.loads((tmp_path / TABLE).read_text())) == [str(second)]


def test_a_workspace_that_cannot_be_written_costs_only_time(tmp_path):
    (path,) = put(tmp_path, x=b"1")
    (tmp_path / "file").write_bytes(b"")
    assert digests_of([path], tmp_path / "file" / "below") == {path: blake3(b"1").hexdigest()}


def test_the_order_of_files_counts(tmp_path):
    a, b = put(tmp_path, a=b"1", b=b"2")
    assert digest_of_all([a, b]) != digest_of_all([b, a])
    assert digest_of_all([a, b]) == digest_of_all([a, b], tmp_path)


def test_processes_that_keep_at_once_leave_a_whole_table(tmp_path):
    put(tmp_path, **{f"f{n}": bytes([n]) * 2**24 for n in range(3)})
    time.sleep(2.1)
    code = (
        "import sys; from pathlib import Path; from mtkd.digests import digests_of\n"
        "folder = Path(sys.argv[1])\n"
        "for n in range(3): digests_of([folder / f'f{n}'], folder)"
    )
    running = [subprocess.Popen([sys.executable, "-c", code, tmp_path], stderr=subprocess.PIPE) for _ in range(4)]
    assert [process.communicate()[1] for process in running] == [b""] * 4
    told = json.loads((tmp_path / TABLE).read_text())
    for name, (_, found) in told.items():
        assert digest(Path(name)) == found
    assert told
    assert not [path.name for path in tmp_path.iterdir() if "partial" in path.name]
