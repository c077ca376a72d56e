"""Reading a pickle without running it: what it calls are stand-ins for NumPy's functions, which only take notes.

NumPy's own would trust the file: a pickled dtype says itself whether its elements are objects, so that a crafted one
makes NumPy follow addresses that stand in the file.
"""

import functools
import io
import pickle
import pickletools
import re
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from mtkd.errors import MtkdError

_MOST_TUPLES = 1000
"""Of an honest file: four an array."""
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
        self._left = len(content)
        array = functools.partial(_Array, self._encode)
        self._stand_ins = {
            ("numpy.core.multiarray", "_reconstruct"): array,
            ("numpy._core.multiarray", "_reconstruct"): array,
            ("numpy", "ndarray"): array,
            ("numpy", "dtype"): _Dtype,
            ("_codecs", "encode"): self._encode,
        }

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in self._stand_ins:
            raise pickle.UnpicklingError(f"it asks for {module + '.' + name!r}")
        return self._stand_ins[module, name]

    def persistent_load(self, index: Any) -> memoryview:
        return self._large[index]

    def _encode(self, text: str, encoding: str = "latin1") -> bytes:
        """Stands for ``_codecs.encode``, with which Python 3 spells bytes in protocol 2.

        Each byte of an honest file is unpacked once. One that unpacks the same string again and again is after memory.
        """
        self._left -= len(text)
        if self._left < 0:
            raise pickle.UnpicklingError("it unpacks to more than its own size")
        return text.encode("latin1")


def load_arrays(content: bytes | memoryview, source: str) -> dict[str, Any]:
    """The dictionary of arrays in a pickle, Python 2's included. They lie in ``content``, nothing is copied.

    Raises:
        MtkdError: the pickle is damaged, holds no dictionary, or names anything but NumPy arrays.
    """
    try:
        loaded = _ArrayUnpickler(memoryview(content)).load()
    except pickle.UnpicklingError as error:
        raise MtkdError(f"{source}: not a plain pickle of arrays: {' '.join(str(error).split())}") from None
    except Exception as error:  # a damaged pickle may raise nearly anything
        sentence = " ".join(str(error).split())
        raise MtkdError(f"{source}: damaged or foreign file ({type(error).__name__}: {sentence})") from None
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
        UnpicklingError: it asks for persistent objects itself, or for a memo larger than it.
        ValueError: it ends amid an argument, or holds what is no instruction.
    """
    parts: list[bytes | memoryview] = []
    large: list[memoryview] = []
    copied = 0
    for name, at, start, stop in _instructions(content):
        if "PERSID" in name:
            raise pickle.UnpicklingError("it asks for an object that is not in it")
        if "PUT" in name:
            argument = bytes(content[start:stop])
            index = int(argument) if name == "PUT" else int.from_bytes(argument, "little")
            if index > len(content):  # ten bytes could claim a memo of 64 GB
                raise pickle.UnpicklingError(f"it numbers {index} objects in {len(content)} bytes")
        if name in ("BINSTRING", "BINBYTES") and stop - start > _LARGE:
            parts += [content[copied:at], b"J" + len(large).to_bytes(4, "little") + b"Q"]  # BININT, BINPERSID
            large.append(content[start + 4 : stop])
            copied = stop
    return b"".join([*parts, content[copied:]]), large


def _instructions(content: memoryview) -> Iterator[tuple[str, int, int, int]]:
    """Name of each instruction of a pickle, where it and its argument start and where they end; none is carried out.

    Raises:
        ValueError: it ends amid an argument, or holds what is no instruction.
    """
    at, n_tuples = 0, 0
    while True:
        opcode = _OPCODES.get(chr(content[at])) if at < len(content) else None
        if opcode is None:
            raise ValueError("it does not end" if at >= len(content) else f"at {at} is no instruction")
        if opcode.name == "STOP":
            return
        n_tuples += opcode.name.startswith(("TUPLE", "FROZENSET"))
        if n_tuples > _MOST_TUPLES:  # one in another a million times overflows the stack when it is a key
            raise ValueError(f"it holds more than {_MOST_TUPLES} tuples")
        stop = _skipped(content, at + 1, opcode)
        if stop > len(content):
            raise ValueError("it ends amid an argument")
        yield opcode.name, at, at + 1, stop
        at = stop


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
