"""Damaged files of each kind: ``python benchmarks/fuzz.py [--files N] [--seed S] [--json F]``.

A good file of each kind is changed at random, read as a study would read it, and taken through its steps into samples,
by filters that look ahead and by those that do not. Each must become numbers, or end in one sentence of the project's
own that names the file or its folder: no crash, no hang, no unbounded memory, no file written elsewhere, no program,
address or foreign library called up. Files are read in processes of their own, of which each may take two gigabytes
more than it has, and a minute a file.
"""

import contextlib
import gzip
import itertools
import json
import os
import random
import resource
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import fuzz_files as files
import numpy as np
from rows import Rows, finish, parser

from mtkd.config import Bids, Data, Deap, Edf, Mahnob, Signals, Table
from mtkd.errors import MtkdError
from mtkd.shards.read import ShardSet
from mtkd.shards.schema import encode
from mtkd.signals import readers
from mtkd.signals.preprocess import preprocess

GIB, SECONDS, CHUNK = 2**30, 60, 100
FORBIDDEN = (
    *("os.system", "os.exec", "os.posix_spawn", "subprocess.Popen", "pickle.find_class", "ctypes.dlopen"),
    *("socket.connect", "socket.getaddrinfo", "webbrowser.open", "urllib.Request", "ftplib.connect"),
)
INTERESTING = [b"-1", b"0", b"99999999", b"nan", b"1e308", b"\xff" * 4, b"\x00" * 8, b"../x", b"<!ENTITY", b"R.", b'"']


@dataclass(frozen=True)
class Kind:
    """A kind of file: a good one in a folder, and reading all of that folder.

    Of some, which are opened in a process of their own first, only each so-manieth file is made. Of packed ones half
    are changed before they are packed, or no change would get beyond the checksum.
    """

    name: str
    write: Callable[[Path], Path]
    read: Callable[[Path], None]
    each: int = 1
    packed: bool = False


def _reads(data: Data) -> Callable[[Path], None]:
    def read(folder: Path) -> None:
        found = readers.find(folder, data)
        for file in found.files:
            for recording in readers.read(file, data):
                for span, signals in itertools.chain(preprocess(recording, ZERO), preprocess(recording, CAUSAL)):
                    assert all(np.isfinite(signal.data).all() for signal in signals.values())
                    encode(file.subject, span, signals)

    return read


def _read_shards(folder: Path) -> None:
    shards = ShardSet(folder)
    for key, sample in shards.samples.items():
        for member in sample.members:
            if member.endswith(".npy"):
                shards.read(key, member)


ZERO, CAUSAL = (
    Signals.model_validate(
        {
            "modalities": {
                kind: {
                    "sfreq": 64 if kind == "eeg" else 16,
                    "phase": phase,
                    "steps": [{"bandpass": [4, 30]}] if kind == "eeg" else [],
                }
                for kind in ("eeg", "eda", "resp", "ppg", "temp", "emg", "eog")
            },
            "lead_s": 0,
        }
    )
    for phase in ("zero", "causal")
)
CHANNELS = {"GSR1": "eda", "Status": "ignore", "*": "eeg"}
DEAP, MAHNOB = Deap(reader="deap", folder="x", baseline_s=0.5), Mahnob(reader="mahnob", folder="x")
EDF = Edf.model_validate({"reader": "edf", "folder": "x", "conditions": {"rest": {}}, "channels": CHANNELS})
BIDS = Bids.model_validate({"reader": "bids", "folder": "x", "ratings": {}})
TABLE = Table.model_validate({"reader": "table", "folder": "x", "channels": CHANNELS})
KINDS = [
    Kind(".dat of Python 2", files.deap("dat"), _reads(DEAP)),
    Kind(".dat of Python 3", files.deap("pickle"), _reads(DEAP)),
    Kind(".mat", files.deap("mat"), _reads(DEAP)),
    Kind(".mat, compressed", files.deap("mat", compressed=True), _reads(DEAP)),
    Kind(".bdf", files.bdf, _reads(MAHNOB)),
    Kind(".edf", files.edf, _reads(EDF)),
    Kind("session.xml", files.session, _reads(MAHNOB)),
    Kind("CSV", files.table, _reads(TABLE)),
    Kind("participant_ratings.csv", files.ratings, _reads(DEAP)),
    Kind("BIDS events.tsv", files.bids("events.tsv"), _reads(BIDS)),
    Kind("BIDS channels.tsv", files.bids("channels.tsv"), _reads(BIDS)),
    Kind("BIDS physio.tsv.gz", files.bids("physio.tsv.gz"), _reads(BIDS), packed=True),
    Kind("BIDS physio.json", files.bids("physio.json"), _reads(BIDS)),
    Kind("BrainVision .vhdr", files.raw(".vhdr"), _reads(TABLE)),
    Kind("EEGLAB .set", files.raw(".set"), _reads(TABLE), each=10),
    Kind("FIF", files.raw(".fif"), _reads(TABLE), each=10),
    Kind("tar of a shard", files.shards("a.tar"), _read_shards),
    Kind("index of shards", files.shards("index.json"), _read_shards),
]


def mutated(content: bytes, chance: random.Random) -> bytes:
    """The content with some changes; half of them lie near its start, where what counts stands."""
    changed = bytearray(content)
    for _ in range(chance.choice([1, 1, 1, 2, 3, 6])):
        near = chance.random() < 0.5
        at = chance.randrange(max(1, min(len(changed), 1500) if near else len(changed)))
        what = chance.randrange(6)
        if what == 0:
            changed[at : at + 1] = bytes([chance.randrange(256)])
        elif what == 1:
            new = chance.choice(INTERESTING)
            changed[at : at + len(new)] = new
        elif what == 2:
            changed[at:at] = chance.choice(INTERESTING)
        elif what == 3:
            del changed[at : at + chance.randint(1, 40)]
        elif what == 4:
            changed[at:at] = changed[at : at + chance.randint(1, 300)]
        elif chance.random() < 0.2:
            del changed[at:]
    return bytes(changed)


def changed(kind: Kind, content: bytes, chance: random.Random) -> bytes:
    """A file of this kind with some changes."""
    if kind.packed and chance.random() < 0.5:
        return gzip.compress(mutated(gzip.decompress(content), chance), 1)
    return mutated(content, chance)


class _Watch:
    """What Python tells of a process that no reading of a file should do."""

    def __init__(self, place: Path) -> None:
        self.place, self.seen = str(place), ""
        sys.dont_write_bytecode = True
        sys.addaudithook(self)

    def __call__(self, event: str, arguments: tuple) -> None:
        if event == "open":
            path, _, flags = arguments
            writes = flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
            if writes and isinstance(path, str) and not path.startswith((self.place, os.devnull)):
                self.seen = f"wrote {path}"
        elif event in FORBIDDEN and not (event == "subprocess.Popen" and arguments[0] == sys.executable):
            self.seen = f"called {event}"


def _one(kind: Kind, folder: Path, path: Path, content: bytes, watch: _Watch | None = None) -> str:
    """What came of one file: ``read``, ``refused``, or what is wrong."""
    path.write_bytes(content)
    before = set(folder.parent.rglob("*"))
    try:
        kind.read(folder)
        ended = "read"
    except MtkdError as error:
        told = str(error)
        ended = "refused" if str(folder) in told and "\n" not in told else f"a sentence without its file: {told!r}"
    except MemoryError:
        ended = "more memory than a file may take"
    except Exception as error:
        ended = f"{type(error).__name__}: {error}"
    if set(folder.parent.rglob("*")) != before:
        return "files that were not there"
    return watch.seen if watch and watch.seen else ended


def _chunk(kind: Kind, folder: Path, numbers: range, seed: int, log: Path) -> None:
    """Read some files in this process; ``log`` holds a line for each that has ended."""
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + 2 * GIB, resource.RLIM_INFINITY))
    path = kind.write(folder)
    content = path.read_bytes()
    watch = _Watch(folder.parent)
    with log.open("w") as file:
        for number in numbers:
            signal.alarm(SECONDS)
            watch.seen = ""
            new = changed(kind, content, random.Random(f"{seed} {number}"))
            file.write(json.dumps(_one(kind, folder, path, new, watch)) + "\n")
            file.flush()


def ended(kind: Kind, numbers: range, seed: int, scratch: Path) -> list[str]:
    """What came of some files, read in a process of their own; what ends it is told of the file it was at."""
    found: list[str] = []
    while len(found) < len(numbers):
        left = numbers[len(found) :]
        with tempfile.TemporaryDirectory(dir=scratch) as place:
            folder, log = Path(place) / "inside", Path(place) / "log"
            folder.mkdir()
            log.touch()
            child = os.fork()
            if child == 0:
                with contextlib.suppress(BaseException), Path(os.devnull).open("w") as sys.stderr:
                    _chunk(kind, folder, left, seed, log)
                    os._exit(0)
                os._exit(1)
            _, status = os.waitpid(child, 0)
            found += [json.loads(line) for line in log.read_text().splitlines()]
            if status != 0:
                found.append(f"its process ended with status {status}")
    return found


def _chunks(n_files: int) -> Iterator[range]:
    for start in range(0, n_files, CHUNK):
        yield range(start, min(start + CHUNK, n_files))


def measure(n_files: int, seed: int) -> Rows:
    """A row for each kind: files that came to something else than being read or refused."""
    rows = Rows()
    with tempfile.TemporaryDirectory() as place:
        for kind in KINDS:
            found = [
                how for numbers in _chunks(n_files // kind.each) for how in ended(kind, numbers, seed, Path(place))
            ]
            bad = [(number, how) for number, how in enumerate(found) if how not in ("read", "refused")]
            for number, how in bad[:5]:
                print(f"{kind.name}, file {number}: {how}", flush=True)
            told = f"{len(found)} files, {found.count('read')} read, {found.count('refused')} refused"
            rows.at_most(f"damaged files, {kind.name}", len(bad), 0, told)
    return rows


def main() -> None:
    """Measure, print, write."""
    arguments = parser(__doc__)
    arguments.add_argument("--files", type=int, default=1200, help="of each kind")
    arguments.add_argument("--seed", type=int, default=0)
    given = arguments.parse_args()
    finish("fuzz.py", measure(given.files, given.seed), given.json)


if __name__ == "__main__":
    main()
