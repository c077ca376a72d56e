"""Fetching with checksums, against a server on this machine."""

import functools
import hashlib
import http.server
import threading
from pathlib import Path

import pytest

from mtkd.errors import MtkdError
from mtkd.signals import download

FILES = {"Subject01_1.edf": b"one" * 5000, "Subject01_2.edf": b"two"}


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        super().do_GET()


@pytest.fixture
def server(tmp_path, monkeypatch):
    """A server of ``FILES`` that stands in for PhysioNet; ``served`` is its folder, ``asked`` what was asked of it."""
    served = tmp_path / "served"
    served.mkdir()
    for name, content in FILES.items():
        (served / name).write_bytes(content)
    sums = tmp_path / "sums"
    sums.write_text("".join(f"{sha256(served / name)} {name}\n" for name in FILES))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=served)) as found:
        found.served, found.asked = served, []
        monkeypatch.setattr(download, "EEGMAT", f"http://127.0.0.1:{found.server_port}/")
        monkeypatch.setattr(download, "_SUMS", sums)
        thread = threading.Thread(target=found.serve_forever, args=[0.01])
        thread.start()
        yield found
        found.shutdown()
        thread.join()


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()} if folder.exists() else {}


def test_all_files_are_fetched_and_told_of(server, tmp_path, capsys):
    folder = tmp_path / "raw" / "eegmat"
    assert download.fetch(folder) == folder
    assert contents(folder) == FILES
    said = capsys.readouterr().out.splitlines()
    assert [line.split(maxsplit=2)[2] for line in said] == [
        f"fetching {name} ({count} of 2)" for count, name in enumerate(FILES, start=1)
    ]


def again(folder: Path) -> None:
    """As another process would ask; this one looks once."""
    download.fetch.cache_clear()
    download.fetch(folder)


def test_what_is_there_is_only_checked(server, tmp_path, capsys):
    folder = tmp_path / "raw"
    download.fetch(folder)
    server.asked.clear()
    capsys.readouterr()
    again(folder)
    assert (server.asked, capsys.readouterr().out) == ([], "")


def test_a_damaged_file_is_fetched_again(server, tmp_path):
    folder = tmp_path / "raw"
    download.fetch(folder)
    (folder / "Subject01_2.edf").write_bytes(b"tww")
    again(folder)
    assert contents(folder) == FILES


def test_another_file_than_the_published_one_is_refused_and_not_kept(server, tmp_path):
    (server.served / "Subject01_2.edf").write_bytes(b"not the published one")
    folder = tmp_path / "raw"
    with pytest.raises(MtkdError, match=r"Subject01_2\.edf: cannot be fetched .*; set data\.folder"):
        download.fetch(folder)
    assert contents(folder) == {"Subject01_1.edf": FILES["Subject01_1.edf"]}


def test_a_missing_file_is_refused_by_its_address(server, tmp_path):
    (server.served / "Subject01_1.edf").unlink()
    with pytest.raises(MtkdError, match=rf"127\.0\.0\.1:{server.server_port}/Subject01_1\.edf"):
        download.fetch(tmp_path / "raw")
    assert contents(tmp_path / "raw") == {}


def test_no_network_is_one_sentence(tmp_path, monkeypatch):
    monkeypatch.setattr(download, "EEGMAT", "http://127.0.0.1:9/")
    with pytest.raises(MtkdError) as caught:
        download.fetch(tmp_path / "raw")
    assert "\n" not in str(caught.value)
    assert contents(tmp_path / "raw") == {}


def test_the_shipped_checksums_are_those_of_the_real_files(shared_data):
    lines = [line.split() for line in download._SUMS.read_text().splitlines()]
    named = {name: digest for digest, name in lines}
    assert len(named) == len(lines) == 48  # the 24 subjects who count well, two conditions
    present = [path for path in (shared_data / "eegmat").glob("*.edf") if path.name in named][:4]
    assert present
    assert {path.name: sha256(path) for path in present} == {path.name: named[path.name] for path in present}
