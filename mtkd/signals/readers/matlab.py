"""Numeric arrays of a MATLAB file (version 5 to 7), by MathWorks' "MAT-File Format".

SciPy's reader believes the file: a number type that is none makes it crash, and compressed kilobytes may unpack to any
size.
"""

import math
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mtkd.errors import MtkdError, one_line

MAX_BYTES = 2**30
"""Of one array: a compressed file of a few kilobytes could claim any size. DEAP's hold a tenth of it."""

_STORED = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
_INT32, _UINT32, _MATRIX, _COMPRESSED = 5, 6, 14, 15
_KINDS = ("nothing", "cell", "struct", "object", "char", "sparse array")  # by their number; those beyond are numbers
_DOUBLE, _LAST_NUMBER = 6, 15
_IS_LOGICAL, _IS_COMPLEX = 0x200, 0x800
_HEAD = 2048
"""Bytes in which flags, shape and name of an array stand, so that others than those asked for are not unpacked."""


def load_matlab(path: Path, names: tuple[str, ...]) -> dict[str, Any]:
    """The arrays of some names that the file has.

    Raises:
        MtkdError: the file is damaged, foreign or of version 7.3, or an array is no plain one or larger than
            ``MAX_BYTES``.
    """
    content = memoryview(path.read_bytes())
    version = bytes(content[124:128])
    if version == b"\x00\x02IM" or content[:4] == b"\x89HDF":
        raise MtkdError(f"{path}: a MATLAB file of version 7.3; save it with -v7")
    if version not in (b"\x00\x01IM", b"\x01\x00MI"):
        raise MtkdError(f"{path}: damaged or foreign file, no MATLAB file of version 5 to 7")
    order = "<" if version.endswith(b"IM") else ">"
    try:
        return _variables(_Elements(content, order, 128), names, path)
    except (ValueError, struct.error, zlib.error) as error:
        raise MtkdError(f"{path}: damaged or foreign file ({type(error).__name__}: {one_line(error)})") from None


@dataclass
class _Elements:
    """Data elements one after the other: each a type, a size and so many bytes."""

    content: memoryview
    order: str
    at: int = 0

    def next(self, is_whole: bool = True) -> tuple[int, memoryview]:
        """Type and bytes of the next one; less bytes than it claims only where it need not be whole."""
        kind, size = struct.unpack_from(self.order + "II", self.content, self.at)
        start = self.at + 8
        if kind >> 16:  # four bytes at most stand beside their type and size
            kind, size, start = kind & 0xFFFF, kind >> 16, self.at + 4
            if size > 4:
                raise ValueError("a short element that is long")
        found = self.content[start : start + size]
        if is_whole and len(found) < size:
            raise ValueError(f"{size} bytes are promised where {len(found)} are left")
        # compressed elements are not filled up, so that those behind them may begin anywhere
        length = start + size - self.at
        self.at += length if kind == _COMPRESSED else -(-length // 8) * 8
        return kind, found


def _variables(elements: _Elements, names: tuple[str, ...], path: Path) -> dict[str, Any]:
    found = {}
    while elements.at < len(elements.content):
        kind, content = elements.next()
        head = content
        if kind == _COMPRESSED:
            inside = memoryview(zlib.decompressobj().decompress(content, _HEAD))
            kind, head = _Elements(inside, elements.order).next(is_whole=False)
        if kind != _MATRIX:
            raise ValueError(f"an element of the type {kind} where an array should be")
        about = _Elements(head, elements.order)
        flags, shape, name = _about(about)
        if name not in names:
            continue
        _check(path, name, flags, shape)
        if head is not content:
            about.content = _unpacked(content, elements.order, path, name)
        found[name] = _numbers(about, flags, shape)
    return found


def _about(array: _Elements) -> tuple[int, tuple[int, ...], str]:
    """Flags, shape and name of an array, after which its numbers stand."""
    (kind, flags), (shape_kind, shape) = array.next(), array.next()
    if kind != _UINT32 or len(flags) != 8:
        raise ValueError("an array without flags")
    (word,) = struct.unpack_from(array.order + "I", flags)
    if word & 0xFF > _LAST_NUMBER or shape_kind != _INT32:  # functions and new objects have no shape
        return word, (), ""
    return word, struct.unpack(f"{array.order}{len(shape) // 4}i", shape), bytes(array.next()[1]).decode("latin1")


def _check(path: Path, name: str, flags: int, shape: tuple[int, ...]) -> None:
    """Refuse what is no array of numbers, or too large, before it is unpacked."""
    number = flags & 0xFF
    bits = "logical" if flags & _IS_LOGICAL else "complex one" if flags & _IS_COMPLEX else ""
    kind = _KINDS[number] if number < _DOUBLE else bits
    if kind:
        raise MtkdError(f"{path}: {name!r} is a {kind}, not an array of numbers")
    if min(shape, default=-1) < 0:
        raise ValueError(f"an array of the shape {shape}")
    if math.prod(shape) * 8 > MAX_BYTES:
        raise MtkdError(f"{path}: {name!r} claims the size {shape}, more than {MAX_BYTES} bytes")


def _unpacked(content: memoryview, order: str, path: Path, name: str) -> memoryview:
    """What stands in a compressed array, whose check sum must agree."""
    unpacker = zlib.decompressobj()
    inside = unpacker.decompress(content, MAX_BYTES + _HEAD)
    if unpacker.decompress(unpacker.unconsumed_tail, 1):
        raise MtkdError(f"{path}: {name!r} unpacks to more than {MAX_BYTES} bytes")
    if not unpacker.eof:
        raise ValueError("compressed bytes that do not end")
    return _Elements(memoryview(inside), order).next()[1]


def _numbers(array: _Elements, flags: int, shape: tuple[int, ...]) -> np.ndarray:
    """The array, which MATLAB may store in a smaller type than it is of."""
    kind, content = array.next()
    if kind not in _STORED:
        raise ValueError(f"numbers of the type {kind}")
    values = np.frombuffer(content, array.order + _STORED[kind]).reshape(shape, order="F")
    return values.astype(np.float64, copy=False) if flags & 0xFF == _DOUBLE else values
