"""What the C library does with memory that was given back to it."""

from __future__ import annotations

import ctypes
import sys

# malloc.h of glibc
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
_LARGEST_KEPT_BYTES = 32 << 20
_MOST_KEPT_BYTES = 1 << 30


def keep_freed_memory() -> bool:
    """Let this process keep arrays of up to 32 MiB that it frees; whether that could be asked for.

    glibc hands them to the kernel, which clears every page before the next array gets it. For a
    process that makes and drops such arrays all the time that is a third of its work.
    """
    if sys.platform != "linux":
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):  # another C library
        return False
    return bool(
        mallopt(_MMAP_THRESHOLD, _LARGEST_KEPT_BYTES) and mallopt(_TRIM_THRESHOLD, _MOST_KEPT_BYTES)
    )
