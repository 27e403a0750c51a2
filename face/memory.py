"""What a process does with memory that it has freed (glibc only; elsewhere nothing happens).

By default a buffer of a picture's size is given back to the kernel at once, and the next one is filled with zeros page
by page: half of the time of decoding. So freed memory is kept, up to a bound, and what is beyond it is given back.
"""

import ctypes
import os
import resource
import sys
from functools import cache

_LIBC = ctypes.CDLL(None)
_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3
_KEPT_BYTES = 64 * 1024 * 1024
_LARGEST_KEPT_BYTES = 32 * 1024 * 1024


def keep_freed_memory() -> None:
    """For the whole process, from now on."""
    if hasattr(_LIBC, "mallopt"):
        _LIBC.mallopt(_M_MMAP_THRESHOLD, _LARGEST_KEPT_BYTES)
        _LIBC.mallopt(_M_TRIM_THRESHOLD, _KEPT_BYTES)


def address_space_bytes() -> int:
    """What the process has mapped; 0 where that is not told."""
    return _pages(0) * resource.getpagesize()


def resident_bytes() -> int:
    """What the process holds of the machine's memory now; 0 where that is not told."""
    return _pages(1) * resource.getpagesize()


def _pages(column: int) -> int:
    if sys.platform != "linux":
        return 0
    return int(os.pread(_sizes(), 200, 0).split()[column])


@cache
def _sizes() -> int:
    """Opened once: a confined process can't open it (:mod:`face.confinement`)."""
    return os.open("/proc/self/statm", os.O_RDONLY | os.O_CLOEXEC)


def return_memory(beyond_bytes: int) -> None:
    """Give freed memory back when the process holds more than this."""
    if resident_bytes() > beyond_bytes and hasattr(_LIBC, "malloc_trim"):
        _LIBC.malloc_trim(0)
