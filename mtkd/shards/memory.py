"""How freed memory is kept."""

import ctypes
import functools
import sys

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # malloc.h
_KEPT = 2**29
_LARGEST = 2**25  # the most that glibc takes


@functools.cache
def keep_freed_memory() -> None:
    """Have glibc keep freed arrays for the next ones, up to half a gigabyte.

    It would hand each large array back to the system and get the next one page by page: filling a batch costs less than
    that.
    """
    if sys.platform != "linux":
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:  # musl has none
        mallopt(_M_MMAP_THRESHOLD, _LARGEST)
        mallopt(_M_TRIM_THRESHOLD, _KEPT)
