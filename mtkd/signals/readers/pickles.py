"""Reading a pickle without running it: what it calls are stand-ins for NumPy's functions, which only take notes.

NumPy's own would trust the file: a pickled dtype says itself whether its elements are objects, so that a crafted one
makes NumPy follow addresses that stand in the file.
"""

import io
import pickle
import pickletools
import re
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from mtkd.errors import MtkdError, one_line

_MOST = 10_000
"""Instructions of an honest file, which has a hundred: millions of them would take minutes and gigabytes."""
_OPCODES = {opcode.code: opcode for opcode in pickletools.opcodes}
_LARGE = 2**16
"""Bytes of a string that is left where it lies: an array's samples."""
_NEWLINE = re.compile(rb"\n")


class _Dtype:
    """Stands for ``numpy.dtype(code, align, copy)``, of which only numbers are known."""

    def __init__(self, code: str | bytes, *_: Any) -> None:
        code = _text(code)
        if not re.fullmatch(r"[bfiu][1248]", code):
            raise pickle.UnpicklingError(f"it holds an array of {code!r}, which is no number type")
        self.dtype = np.dtype(code)

    def __setstate__(self, state: tuple) -> None:
        order = _text(state[1])
        self.dtype = self.dtype.newbyteorder("=" if order == "|" else order)  # type: ignore[arg-type]


class _Array:
    """Stands for an ``ndarray``: (version, shape, dtype, whether in Fortran's order, bytes) make a real one."""

    def __init__(self, encode: Callable[[str], bytes], *_: Any) -> None:
        self.encode = encode
        self.array: np.ndarray | None = None

    def __setstate__(self, state: tuple) -> None:
        _, shape, dtype, fortran, content = state
        raw = self.encode(content) if isinstance(content, str) else memoryview(content).toreadonly()
        self.array = np.frombuffer(raw, dtype.dtype).reshape(shape, order="F" if fortran else "C")


class _ArrayUnpickler(pickle.Unpickler):
    def __init__(self, content: memoryview) -> None:
        instructions, self._large = _without_large(content)
        super().__init__(io.BytesIO(instructions), encoding="bytes")  # strings of Python 2 as they are, not as text
        self._stand_ins = _stand_ins(len(content))

    def find_class(self, module: str, name: str) -> Any:
        found = self._stand_ins.get((module.replace("numpy._core", "numpy.core"), name))  # as NumPy 2 calls it
        if found is None:
            raise pickle.UnpicklingError(f"it asks for {module + '.' + name!r}")
        return found

    def persistent_load(self, index: Any) -> memoryview:
        return self._large[index]


def _stand_ins(n_bytes: int) -> dict[tuple[str, str], Callable[..., Any]]:
    """What a pickle of so many bytes may call, made anew for each: it could leave its marks on them."""
    left = n_bytes

    def encode(text: str, encoding: str = "latin1") -> bytes:
        """``_codecs.encode``, with which Python 3 spells bytes in protocol 2.

        Each byte of an honest file is unpacked once. One that unpacks the same string again and again is after memory.
        """
        nonlocal left
        left -= len(text)
        if left < 0:
            raise pickle.UnpicklingError("it unpacks to more than its own size")
        return text.encode("latin1")

    def array(*_: Any) -> _Array:
        return _Array(encode)

    def from_buffer(content: Any, dtype: _Dtype, shape: tuple, order: str) -> _Array:
        """``numpy.core.numeric._frombuffer``, with which protocol 5 spells arrays."""
        made = array()
        made.__setstate__((1, shape, dtype, _text(order) == "F", content))
        return made

    def dtype(code: str | bytes, *_: Any) -> _Dtype:
        return _Dtype(code)

    return {
        ("numpy.core.multiarray", "_reconstruct"): array,
        ("numpy.core.numeric", "_frombuffer"): from_buffer,
        ("numpy", "ndarray"): array,
        ("numpy", "dtype"): dtype,
        ("_codecs", "encode"): encode,
    }


def load_arrays(content: bytes | memoryview, source: str) -> dict[str, Any]:
    """The dictionary of arrays in a pickle, Python 2's included. They lie in ``content``, nothing is copied.

    Raises:
        MtkdError: the pickle is damaged, holds no dictionary, or names anything but NumPy arrays.
    """
    try:
        loaded = _ArrayUnpickler(memoryview(content)).load()
    except pickle.UnpicklingError as error:
        raise MtkdError(f"{source}: not a plain pickle of arrays: {one_line(error)}") from None
    except Exception as error:  # a damaged pickle may raise nearly anything
        raise MtkdError(f"{source}: damaged or foreign file ({type(error).__name__}: {one_line(error)})") from None
    if not isinstance(loaded, dict):
        raise MtkdError(f"{source}: expected a dictionary of arrays, found {type(loaded).__name__}")
    return {
        _text(key): value.array if isinstance(value, _Array) else value
        for key, value in loaded.items()
        if isinstance(key, str | bytes)
    }


def _text(value: str | bytes) -> str:
    """Python 2 had one type for both."""
    return value.decode("latin1") if isinstance(value, bytes) else value


def _without_large(content: memoryview) -> tuple[bytes, list[memoryview]]:
    """A pickle whose large strings are asked for as persistent objects, and those strings, which are not copied.

    Raises:
        UnpicklingError: it asks for persistent objects itself, for a memo larger than it, or for a tuple once more:
            the hash of pairs of pairs of pairs, each of one object, takes for ever.
        ValueError: it ends amid an argument, or holds what is no instruction.
    """
    parts: list[bytes | memoryview] = []
    large: list[memoryview] = []
    copied, before = 0, ""
    tuples: set[int] = set()
    n_kept = 0
    for name, at, start, stop in _instructions(content):
        if "PERSID" in name:
            raise pickle.UnpicklingError("it asks for an object that is not in it")
        index = _kept(name, content[start:stop], n_kept)
        if index > len(content):  # ten bytes could claim a memo of 64 GB
            raise pickle.UnpicklingError(f"it numbers {index} objects in {len(content)} bytes")
        if "PUT" in name or name == "MEMOIZE":
            n_kept += 1
            (tuples.add if before.startswith(("TUPLE", "FROZENSET")) else tuples.discard)(index)
        elif name == "DUP" or ("GET" in name and index in tuples):
            raise pickle.UnpicklingError("it holds a tuple more than once")
        before = before if "PUT" in name or name == "MEMOIZE" else name
        if name == "FRAME":  # whose length is no longer right, and which need not be there
            parts.append(content[copied:at])
            copied = stop
        if name in ("BINSTRING", "BINBYTES") and stop - start > _LARGE:
            parts += [content[copied:at], b"J" + len(large).to_bytes(4, "little") + b"Q"]  # BININT, BINPERSID
            large.append(content[start + 4 : stop])
            copied = stop
    return b"".join([*parts, content[copied:]]), large


def _kept(name: str, argument: memoryview, n_kept: int) -> int:
    """The number under which an instruction keeps an object or asks for it; -1 of one that does neither."""
    if name == "MEMOIZE":
        return n_kept
    if "PUT" not in name and "GET" not in name:
        return -1
    return int(bytes(argument)) if name in ("PUT", "GET") else int.from_bytes(argument, "little")


def _instructions(content: memoryview) -> Iterator[tuple[str, int, int, int]]:
    """Name of each instruction of a pickle, where it and its argument start and where they end; none is carried out.

    Raises:
        ValueError: it ends amid an argument, or holds what is no instruction.
    """
    at = 0
    for _ in range(_MOST):
        opcode = _OPCODES.get(chr(content[at])) if at < len(content) else None
        if opcode is None:
            raise ValueError("it does not end" if at >= len(content) else f"at {at} is no instruction")
        if opcode.name == "STOP":
            return
        stop = _skipped(content, at + 1, opcode)
        if stop > len(content):
            raise ValueError("it ends amid an argument")
        yield opcode.name, at, at + 1, stop
        at = stop
    raise ValueError(f"it holds more than {_MOST} instructions")


def _skipped(content: memoryview, at: int, opcode: pickletools.OpcodeInfo) -> int:
    """Where an opcode's argument ends."""
    if opcode.arg is None:
        return at
    n_bytes = opcode.arg.n
    if n_bytes >= 0:
        return at + n_bytes
    if n_bytes == pickletools.UP_TO_NEWLINE:
        for _ in range(2 if opcode.name in ("GLOBAL", "INST") else 1):
            found = _NEWLINE.search(content, at)
            if found is None:
                raise ValueError("it ends amid a line")
            at = found.end()
        return at
    size = {
        pickletools.TAKEN_FROM_ARGUMENT1: 1,
        pickletools.TAKEN_FROM_ARGUMENT4: 4,
        pickletools.TAKEN_FROM_ARGUMENT4U: 4,
        pickletools.TAKEN_FROM_ARGUMENT8U: 8,
    }[n_bytes]
    return at + size + int.from_bytes(content[at : at + size], "little")
