"""Reading a pickle without running it: what it calls are stand-ins for NumPy's functions, which only take notes.

NumPy's own would trust the file: a pickled dtype says itself whether its elements are objects, so that a crafted one
makes NumPy follow addresses that stand in the file.
"""

import io
import pickle
import pickletools
import re
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

    def __init__(self, *_: Any) -> None:
        self.array: np.ndarray | None = None

    def __setstate__(self, state: tuple) -> None:
        _, shape, dtype, fortran, content = state
        raw = content.encode("latin1") if isinstance(content, str) else content
        self.array = np.frombuffer(raw, dtype.dtype).reshape(shape, order="F" if fortran else "C")


def _encode(text: str, encoding: str = "latin1") -> bytes:
    """Stands for ``_codecs.encode``, with which Python 3 spells bytes in protocol 2."""
    return text.encode("latin1")


_STAND_INS = {
    ("numpy.core.multiarray", "_reconstruct"): _Array,
    ("numpy._core.multiarray", "_reconstruct"): _Array,
    ("numpy", "ndarray"): _Array,
    ("numpy", "dtype"): _Dtype,
    ("_codecs", "encode"): _encode,
}


class _ArrayUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _STAND_INS:
            raise pickle.UnpicklingError(f"it asks for {module + '.' + name!r}")
        return _STAND_INS[module, name]


def load_arrays(content: bytes, source: str) -> dict[str, Any]:
    """The dictionary of arrays in a pickle, Python 2's included (``latin1``).

    Raises:
        MtkdError: the pickle is damaged, holds no dictionary, or names anything but NumPy arrays.
    """
    try:
        for opcode, index, _ in pickletools.genops(content):
            if "PUT" in opcode.name and int(index or 0) > len(content):  # ten bytes could claim a memo of 64 GB
                raise pickle.UnpicklingError(f"it numbers {index} objects in {len(content)} bytes")
        loaded = _ArrayUnpickler(io.BytesIO(content), encoding="latin1").load()
    except pickle.UnpicklingError as error:
        raise MtkdError(f"{source}: not a plain pickle of arrays: {' '.join(str(error).split())}") from None
    except Exception as error:  # a damaged pickle may raise nearly anything
        sentence = " ".join(str(error).split())
        raise MtkdError(f"{source}: damaged or foreign file ({type(error).__name__}: {sentence})") from None
    if not isinstance(loaded, dict):
        raise MtkdError(f"{source}: expected a dictionary of arrays, found {type(loaded).__name__}")
    return {key: value.array if isinstance(value, _Array) else value for key, value in loaded.items()}
