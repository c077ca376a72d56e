"""Reading a pickle without running it: only what a NumPy array needs is admitted."""

import io
import pickle
import pickletools
from typing import Any

from mtkd.errors import MtkdError

_ALLOWED = {
    ("numpy.core.multiarray", "_reconstruct"),
    ("numpy._core.multiarray", "_reconstruct"),
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
    ("_codecs", "encode"),
}


class _ArrayUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _ALLOWED:
            raise pickle.UnpicklingError(f"it asks for {module + '.' + name!r}")
        return super().find_class(module, name)


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
    return loaded
