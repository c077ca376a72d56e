"""Reading members of a shard set by key, straight from the mapped tars."""

import contextlib
import mmap
import zlib
from collections.abc import Iterator
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from mtkd.config import Modality
from mtkd.errors import MtkdError, one_line
from mtkd.shards.index import Index, Sample, read_index
from mtkd.shards.remote import fetch
from mtkd.shards.schema import check_array, decode_array

_MOST_MAPS = 128


@dataclass
class Heard:
    """Whose trials were read, and of which stimuli."""

    subjects: set[str] = field(default_factory=set)
    stimuli: set[str] = field(default_factory=set)

    def note(self, sample: Sample) -> None:
        """Add a trial."""
        self.subjects.add(sample.subject)
        self.stimuli.add(sample.stimulus)

    def __or__(self, other: "Heard") -> "Heard":
        return Heard(self.subjects | other.subjects, self.stimuli | other.stimuli)


_WATCHING: ContextVar[Heard | None] = ContextVar("_WATCHING", default=None)


@contextlib.contextmanager
def watched() -> Iterator[Heard]:
    """Yield what is filled with all that this process reads of any set meanwhile, by whatever way."""
    heard = Heard()
    token = _WATCHING.set(heard)
    try:
        yield heard
    finally:
        _WATCHING.reset(token)


class ShardSet:
    """An open shard set. Tars are mapped when they are read, so processes of one node share their pages.

    Only so many at once, since each holds a file descriptor.

    With a ``root`` the folder holds what was fetched of the set there so far.
    """

    def __init__(self, folder: Path, root: str | None = None) -> None:
        self.folder, self.root = folder, root
        self.index: Index = read_index(folder)
        self.samples: dict[str, Sample] = {}
        self._shard_of: dict[str, str] = {}
        for name, samples in self.index.shards.items():
            for sample in samples:
                self.samples[sample.key] = sample
                self._shard_of[sample.key] = name
        self._maps: dict[str, mmap.mmap] = {}
        self._checked: set[tuple[str, str]] = set()

    def read(self, key: str, member: str) -> np.ndarray:
        """One array of one trial over the mapped bytes, which are checked against the index when first read.

        Raises:
            MtkdError: the set has no such trial or member, its bytes are damaged, or they are none of such a member;
                names the file.
        """
        content = self._bytes(key, member)
        if (heard := _WATCHING.get()) is not None:
            heard.note(self.samples[key])
        checked = (key, member) in self._checked
        try:
            array = decode_array(content)
            if not checked:
                check_array(self.samples[key], member, array)
                masks = member.replace(".npy", ".valid.npy")
                if self.root is not None and masks in self.samples[key].members:
                    self.read(key, masks)  # of which the index tells the share, and that may be taken for it
        except MtkdError:
            raise
        except Exception as error:  # NumPy's reader of headers raises nearly anything
            why = f"{type(error).__name__}: {one_line(error)}"
            raise MtkdError(f"{self.path(key)}: {key}.{member} is no such array ({why})") from None
        self._checked.add((key, member))
        return array

    def check_room(self, sample: Sample, modality: Modality) -> None:
        """Make sure that a trial's signal is as long as the index says, by which room is made for it.

        Raises:
            MtkdError: there are fewer bytes.
        """
        layout, member = sample.modalities[modality], sample.members.get(f"{modality}.npy")
        if member is not None and member.size < 4 * len(layout.ch_names) * sample.duration_s * layout.sfreq - 1:
            raise MtkdError(
                f"{self.path(sample.key)}: {sample.key}.{modality} has {member.size} bytes, "
                f"too few for the {sample.duration_s:g} s that the index tells"
            )

    def path(self, key: str) -> Path:
        """The tar that holds a trial."""
        return self.folder / self._shard_of[key]

    def _bytes(self, key: str, member: str) -> memoryview:
        sample = self.samples.get(key)
        if sample is None:
            raise MtkdError(f"{self.folder}: holds no trial {key}")
        if member not in sample.members:
            raise MtkdError(f"{self.path(key)}: the trial {key} has no member {member}")
        place = sample.members[member]
        whole = self._map(self._shard_of[key])
        if whole.size() < len(whole):  # touching what is no longer there would end the process
            raise MtkdError(f"{self.path(key)}: was cut short while it was in use")
        content = memoryview(whole)[place.offset : place.offset + place.size]
        checked = (key, member) in self._checked
        if len(content) != place.size or not (checked or zlib.crc32(content) == place.crc32):
            raise MtkdError(f"{self.path(key)}: {key}.{member} is damaged, its checksum is not the index's")
        return content

    def _map(self, name: str) -> mmap.mmap:
        if name in self._maps:
            self._maps[name] = self._maps.pop(name)  # the last one used is the last in order
        else:
            if len(self._maps) >= _MOST_MAPS:
                del self._maps[next(iter(self._maps))]  # it ends with the last array over it
            path = self.folder / name
            if self.root is not None:
                fetch(self.root, self.folder, name)
            try:
                with path.open("rb") as file:
                    self._maps[name] = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            except (FileNotFoundError, ValueError):
                raise MtkdError(f"{path}: missing or empty, though its index lists it") from None
            except OSError as error:
                raise MtkdError(f"{path}: cannot be read ({error.strerror})") from None
        return self._maps[name]

    def __getstate__(self) -> dict:
        return {"folder": self.folder, "root": self.root}  # maps do not travel to other processes

    def __setstate__(self, state: dict) -> None:
        self.__init__(state["folder"], state["root"])  # type: ignore[misc]
