"""A shard set elsewhere: what is fetched, when, and what is refused."""

import contextlib
import functools
import gzip
import json
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import fsspec
import numpy as np
import psutil
import pytest
from moto.server import ThreadedMotoServer

from mtkd.config import Study
from mtkd.errors import MtkdError
from mtkd.shards import remote
from mtkd.shards.build import open_shards, run
from mtkd.shards.index import NAME
from mtkd.shards.read import ShardSet
from mtkd.workspace import MANIFEST, Unit


class _Handler(SimpleHTTPRequestHandler):
    asked: list[str] = []  # noqa: RUF012
    encodings: set[str] = set()  # noqa: RUF012

    def log_message(self, format: str, *arguments: object) -> None:
        """Nothing to the terminal."""

    def do_GET(self) -> None:
        self.asked.append(self.path.strip("/"))
        self.encodings.add(self.headers["Accept-Encoding"])
        super().do_GET()


@pytest.fixture
def served(study: Callable[..., Study], tmp_path: Path) -> Iterator[tuple[Unit, str]]:
    """A shard set that stands, and a server of its folder on this machine."""
    unit = run(study())
    _Handler.asked.clear()
    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(_Handler, directory=str(unit.folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield unit, f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    remote.fetched_unit.cache_clear()


@pytest.fixture
def elsewhere(served: tuple[Unit, str], study: Callable[..., Study], tmp_path: Path) -> Study:
    """The study in another workspace, that has no recordings."""
    made = study(f"shards.root={served[1]}", name="elsewhere")
    shutil.rmtree(tmp_path / "raw")
    return made


def test_a_set_on_a_server_reads_as_at_home(served, elsewhere, capsys):
    unit, root = served
    found, shards = open_shards(elsewhere)
    assert found.manifest().digest == unit.manifest().digest
    assert run(elsewhere) == found
    assert root in capsys.readouterr().out
    assert list(shards.samples) == [f"s0{subject}_t0{trial}" for subject in (1, 2, 3) for trial in (1, 2)]
    assert set(_Handler.asked) == {MANIFEST, NAME}
    here = shards.read("s02_t01", "eeg.npy")
    assert here.shape == (32, 512)
    shards.read("s02_t02", "eeg.npy")
    assert [name for name in _Handler.asked if name.endswith(".tar")] == ["s02.tar"]
    assert (found.folder / "s02.tar").read_bytes() == (unit.folder / "s02.tar").read_bytes()
    assert _Handler.encodings == {"identity"}  # what a server packs may be of any size once it is unpacked


@pytest.mark.parametrize("scheme", ["file://", ""])
def test_other_roots_of_fsspec(served, study, scheme):
    unit, _ = served
    found, shards = open_shards(study(f"shards.root={scheme}{unit.folder}", name="elsewhere"))
    assert shards.read("s01_t01", "eda.npy").shape[0] == 1
    assert found.folder != unit.folder


def test_a_bucket(served, study, monkeypatch):
    """A real client of S3 against a server on this machine."""
    unit, _ = served
    server = ThreadedMotoServer(port=0)
    server.start()
    host, port = server.get_host_and_port()
    for name, value in {
        "ACCESS_KEY_ID": "x",
        "SECRET_ACCESS_KEY": "x",
        "ENDPOINT_URL": f"http://{host}:{port}",
    }.items():
        monkeypatch.setenv(f"AWS_{name}", value)
    try:
        bucket = fsspec.filesystem("s3", skip_instance_cache=True)
        bucket.mkdir("studies")
        bucket.put(f"{unit.folder}/", "studies/small/", recursive=True)
        made = study("shards.root=s3://studies/small", name="elsewhere")
        found, shards = open_shards(made)
        np.testing.assert_array_equal(
            shards.read("s02_t01", "eeg.npy"), ShardSet(unit.folder).read("s02_t01", "eeg.npy")
        )
        assert sorted(path.name for path in found.folder.glob("[!.]*")) == [NAME, MANIFEST, "s02.tar"]
        with pytest.raises(
            MtkdError, match=r"^s3://studies/nothing/manifest\.json: cannot be read \(FileNotFoundError"
        ):
            open_shards(study("shards.root=s3://studies/nothing", name="elsewhere"))
    finally:
        server.stop()


def test_a_damaged_tar_is_refused_by_its_address_and_not_kept(served, elsewhere):
    unit, root = served
    path = unit.folder / "s03.tar"
    content = bytearray(path.read_bytes())
    content[1000] ^= 1
    path.unlink()
    path.write_bytes(content)
    found, shards = open_shards(elsewhere)
    with pytest.raises(MtkdError, match=rf"^{root}/s03\.tar: its checksum is not the manifest's$"):
        shards.read("s03_t01", "eeg.npy")
    assert not (found.folder / "s03.tar").exists()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda content: content.pop("seal"), "damaged manifest"),
        (lambda content: content["files"].update(x=1), "damaged manifest"),
        (lambda content: content["measured"].update(n_trials=7), "its seal is not that of its content"),
    ],
)
def test_a_manifest_that_was_changed_is_refused(served, elsewhere, change, words):
    unit, root = served
    content = json.loads((unit.folder / MANIFEST).read_text())
    change(content)
    (unit.folder / MANIFEST).write_text(json.dumps(content))
    with pytest.raises(MtkdError, match=words) as caught:
        open_shards(elsewhere)
    assert str(caught.value).startswith(f"{root}/{MANIFEST}: ")


def test_a_manifest_cannot_name_files_outside_the_folder(served, elsewhere):
    unit, _ = served
    manifest = unit.manifest()
    files = {**manifest.files, "../outside.tar": manifest.files["s01.tar"]}
    changed = manifest.model_copy(update={"files": files}).sealed()
    (unit.folder / MANIFEST).write_text(changed.model_dump_json())
    with pytest.raises(MtkdError, match=r"names the file '\.\./outside\.tar', which is none of a shard set"):
        open_shards(elsewhere)


def test_the_fingerprint_of_a_manifest_is_that_of_its_inputs(served, elsewhere):
    """It names the folder that things are fetched to."""
    unit, _ = served
    changed = unit.manifest().model_copy(update={"fingerprint": "../../escaped"}).sealed()
    (unit.folder / MANIFEST).write_text(changed.model_dump_json())
    with pytest.raises(MtkdError, match="not of a shard set"):
        open_shards(elsewhere)


def test_a_set_of_other_signals_is_refused(served, study):
    made = study(f"shards.root={served[1]}", "signals.modalities.eda.sfreq=32", name="elsewhere")
    with pytest.raises(MtkdError, match=rf"^{served[1]}: its signals are not those of the study"):
        open_shards(made)


def test_an_index_cannot_name_files_outside_the_folder(served, elsewhere, tmp_path):
    found, _ = open_shards(elsewhere)
    (found.folder.parent / "outside.tar").write_bytes(b"x")
    with pytest.raises(MtkdError, match=r"/\.\./outside\.tar: is not in the manifest of its set$"):
        remote.fetch(served[1], found.folder, "../outside.tar")


@pytest.mark.parametrize("root", ["http://127.0.0.1:9/nothing", "/nothing/here", "nonsense://x", "s3"])
def test_a_root_that_is_not_there_is_refused_by_its_address(study, root):
    with pytest.raises(MtkdError) as caught:
        open_shards(study(f"shards.root={root}"))
    assert str(caught.value).startswith(f"{root}/{MANIFEST}: ")
    assert "\n" not in str(caught.value)


def test_a_server_that_says_nothing_is_not_waited_for(study, monkeypatch):
    monkeypatch.setattr(remote, "_SILENCE_S", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        root = f"http://127.0.0.1:{silent.getsockname()[1]}"
        started = time.perf_counter()
        with pytest.raises(MtkdError, match=rf"^{root}/manifest\.json: cannot be read \("):
            open_shards(study(f"shards.root={root}", name="elsewhere"))
        assert time.perf_counter() - started < 20


class _Bad(BaseHTTPRequestHandler):
    """Servers that mean no good, by the first part of the address."""

    def log_message(self, format: str, *arguments: object) -> None:
        """Nothing to the terminal."""

    def do_HEAD(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "1000")
        self.send_header("Accept-Ranges", "bytes")
        self.end_headers()

    def do_GET(self) -> None:
        kind = self.path.split("/")[1].replace("%20", " ")
        if kind == "slow header":
            with contextlib.suppress(OSError):
                self.wfile.write(b"HTTP/1.1 200 OK\r\nX: ")
                while True:
                    self.wfile.write(b"x")
                    time.sleep(0.2)
        self.send_response(206 if kind == "endless" else 200)
        if kind == "packed":
            self.send_header("Content-Encoding", "gzip")
        self.end_headers()
        with contextlib.suppress(OSError):
            while True:
                self.wfile.write(b"{" if kind == "drip" else _ZEROS if kind == "packed" else bytes(2**20))
                self.wfile.flush()
                time.sleep(0.2 if kind == "drip" else 0)


_ZEROS = gzip.compress(bytes(2**26))


@pytest.mark.parametrize("kind", ["endless", "packed", "drip", "slow header"])
def test_a_server_that_comes_to_no_end_is_left(study, monkeypatch, kind):
    monkeypatch.setattr(remote, "_PATIENCE_S", 1.0)
    monkeypatch.setattr(remote, "_MANIFEST_BYTES", 2**22)
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Bad)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    root, before = f"http://127.0.0.1:{server.server_port}/{kind}", psutil.Process().memory_info().rss
    started = time.perf_counter()
    with pytest.raises(MtkdError, match=rf"^{root}/manifest\.json: (larger than any manifest|cannot be read \()"):
        open_shards(study(f"shards.root={root}", name="elsewhere"))
    assert time.perf_counter() - started < 20
    assert psutil.Process().memory_info().rss - before < 5e8
    server.shutdown()
    server.server_close()


def test_of_several_processes_one_fetches(served, elsewhere):
    found, _ = open_shards(elsewhere)
    code = "import sys; from pathlib import Path; from mtkd.shards.remote import fetch; "
    code += "fetch(sys.argv[1], Path(sys.argv[2]), 's01.tar')"
    command = [sys.executable, "-c", code, served[1], str(found.folder)]
    readers = [subprocess.Popen(command) for _ in range(3)]
    assert [reader.wait() for reader in readers] == [0, 0, 0]
    assert _Handler.asked.count("s01.tar") == 1
