"""How freed memory is kept."""

import ctypes
import functools
import sys

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_MMAP_MAX = -1, -3, -4  # malloc.h
_KEPT = 2**29
_LARGEST = 2**25  # the most that glibc takes


@functools.cache
def keep_freed_memory(however_large: bool = False) -> None:
    """Have glibc keep freed arrays for the next ones, up to half a gigabyte.

    It would hand each large array back to the system and get the next one page by page: filling a batch costs less than
    that. It still does so with arrays beyond 32 MB, unless all are kept, ``however_large``: for a process that reads
    one recording after another.
    """
    if sys.platform != "linux":
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:  # musl has none
        mallopt(_M_MMAP_THRESHOLD, _LARGEST)
        mallopt(_M_TRIM_THRESHOLD, _KEPT)
        if however_large:
            mallopt(_M_MMAP_MAX, 0)
