"""Writing one tar of samples and its part of the index."""

import tarfile
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO

from mtkd.errors import MtkdError
from mtkd.shards.index import Member, Sample
from mtkd.shards.schema import SampleInfo

_END = bytes(2 * tarfile.BLOCKSIZE)


def write_shard(path: Path, samples: Iterable[tuple[SampleInfo, dict[str, bytes]]]) -> list[Sample]:
    """Write a tar as WebDataset lays it out, and return its entries of the index. Equal samples give equal bytes.

    The library's own writer would load torch into every process that converts recordings: a second, and 200 MB.

    Raises:
        MtkdError: two samples share a key.
    """
    written: dict[str, Sample] = {}
    with path.open("wb") as file:
        for info, contents in samples:
            if info.key in written:
                raise MtkdError(f"{path}: the trial {info.key} comes twice")
            members = {name: _write(file, f"{info.key}.{name}", contents[name]) for name in sorted(contents)}
            written[info.key] = Sample(**dict(info), members=members)
        file.write(_END)
        file.write(bytes(-file.tell() % tarfile.RECORDSIZE))
    return list(written.values())


def _write(file: BinaryIO, name: str, content: bytes) -> Member:
    """Append a member: its header, its content, and zeros to the end of the block."""
    file.write(_header(name, len(content)))
    offset = file.tell()
    file.write(content)
    file.write(bytes(-len(content) % tarfile.BLOCKSIZE))
    return Member(offset=offset, size=len(content), crc32=zlib.crc32(content))


def _header(name: str, size: int) -> bytes:
    """A member's header, by the library's where name or size need more than one block."""
    if name.isascii() and len(name) <= tarfile.LENGTH_NAME and size < 8**11:
        head = b"%s%s%011o%s" % (name.encode().ljust(tarfile.LENGTH_NAME, b"\0"), _OWNER, size, _REST)
        return head[:148] + b"%06o\0" % sum(head) + head[155:]
    return _info(name, size).tobuf(tarfile.PAX_FORMAT)


def _info(name: str, size: int) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.size, info.mode, info.uname, info.gname = size, 0o444, "mtkd", "mtkd"
    return info


_BLANK = _info("", 0).tobuf(tarfile.PAX_FORMAT)
_OWNER, _REST = _BLANK[100:124], _BLANK[135:148] + b" " * 8 + _BLANK[156:]
"""What is the same in all: between name and size, and after it, with blanks for the checksum."""
