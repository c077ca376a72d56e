"""Reading a pickle without running it: what it calls are stand-ins for NumPy's functions, which only take notes.

NumPy's own would trust the file: a pickled dtype says itself whether its elements are objects, so that a crafted one
makes NumPy follow addresses that stand in the file.
"""

import functools
import io
import pickle
import pickletools
import re
from collections.abc import Callable
from typing import Any

import numpy as np

from mtkd.errors import MtkdError


class _Dtype:
    """Stands for ``numpy.dtype(code, align, copy)``, of which only numbers are known."""

    def __init__(self, code: str, *_: Any) -> None:
        if not re.fullmatch(r"[bfiu][1248]", code):
            raise pickle.UnpicklingError(f"it holds an array of {code!r}, which is no number type")
        self.dtype = np.dtype(code)

    def __setstate__(self, state: tuple) -> None:
        self.dtype = self.dtype.newbyteorder("=" if state[1] == "|" else state[1])


class _Array:
    """Stands for an ``ndarray``: (version, shape, dtype, whether in Fortran's order, bytes) make a real one."""

    def __init__(self, encode: Callable[[str], bytes], *_: Any) -> None:
        self.encode = encode
        self.array: np.ndarray | None = None

    def __setstate__(self, state: tuple) -> None:
        _, shape, dtype, fortran, content = state
        raw = self.encode(content) if isinstance(content, str) else content
        self.array = np.frombuffer(raw, dtype.dtype).reshape(shape, order="F" if fortran else "C")


class _ArrayUnpickler(pickle.Unpickler):
    def __init__(self, content: bytes) -> None:
        super().__init__(io.BytesIO(content), encoding="latin1")
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

    def _encode(self, text: str, encoding: str = "latin1") -> bytes:
        """Stands for ``_codecs.encode``, with which Python 3 spells bytes in protocol 2.

        Each byte of an honest file is unpacked once. One that unpacks the same string again and again is after memory.
        """
        self._left -= len(text)
        if self._left < 0:
            raise pickle.UnpicklingError("it unpacks to more than its own size")
        return text.encode("latin1")


def load_arrays(content: bytes, source: str) -> dict[str, Any]:
    """The dictionary of arrays in a pickle, Python 2's included (``latin1``).

    Raises:
        MtkdError: the pickle is damaged, holds no dictionary, or names anything but NumPy arrays.
    """
    try:
        for opcode, index, _ in pickletools.genops(content):
            if "PUT" in opcode.name and int(index or 0) > len(content):  # ten bytes could claim a memo of 64 GB
                raise pickle.UnpicklingError(f"it numbers {index} objects in {len(content)} bytes")
        loaded = _ArrayUnpickler(content).load()
    except pickle.UnpicklingError as error:
        raise MtkdError(f"{source}: not a plain pickle of arrays: {' '.join(str(error).split())}") from None
    except Exception as error:  # a damaged pickle may raise nearly anything
        sentence = " ".join(str(error).split())
        raise MtkdError(f"{source}: damaged or foreign file ({type(error).__name__}: {sentence})") from None
    if not isinstance(loaded, dict):
        raise MtkdError(f"{source}: expected a dictionary of arrays, found {type(loaded).__name__}")
    return {key: value.array if isinstance(value, _Array) else value for key, value in loaded.items()}
