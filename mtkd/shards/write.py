"""Writing one tar of samples and its part of the index."""

import tarfile
import zlib
from collections.abc import Iterable
from pathlib import Path

import webdataset

from mtkd.errors import MtkdError
from mtkd.files import publish_file
from mtkd.shards.index import Member, Sample
from mtkd.shards.schema import SampleInfo


def write_shard(path: Path, samples: Iterable[tuple[SampleInfo, dict[str, bytes]]]) -> list[Sample]:
    """Write a WebDataset tar, whole or not at all, and return its entries of the index. Equal samples give equal bytes.

    Raises:
        MtkdError: two samples share a key.
    """
    infos: dict[str, SampleInfo] = {}
    sums: dict[str, dict[str, int]] = {}
    with publish_file(path) as aside:
        with (
            aside.open("wb") as file,
            webdataset.TarWriter(file, encoder=False, mtime=0, user="mtkd", group="mtkd") as tar,
        ):
            for info, members in samples:
                if info.key in infos:
                    raise MtkdError(f"{path}: the trial {info.key} comes twice")
                infos[info.key] = info
                sums[info.key] = {name: zlib.crc32(content) for name, content in members.items()}
                tar.write({"__key__": info.key, **members})
        entries = _index(aside, sums)
    return [Sample(**info.model_dump(), members=entries[key]) for key, info in infos.items()]


def _index(path: Path, sums: dict[str, dict[str, int]]) -> dict[str, dict[str, Member]]:
    """Where each member lies, by the headers alone: what was written need not be read again for its checksum."""
    found: dict[str, dict[str, Member]] = {}
    with tarfile.open(path) as tar:
        for member in tar:
            key, _, name = Path(member.name).name.partition(".")
            place = Member(offset=member.offset_data, size=member.size, crc32=sums[key][name])
            found.setdefault(key, {})[name] = place
    return found
