"""glibc's memory allocator, told to keep what it has: SAM's big tensors come and go.

A tensor above glibc's threshold is mapped anew for every use and its pages are cleared one by one
as they are touched; that took up to half of SAM's processor time. With these settings freed memory
is used again at once, by every thread (one arena), and goes back to the system at the process's
end. docs/performance.md has the figures.
"""

import ctypes
import os
import sys

SWITCH = "FMBSEG_ALLOCATOR"
"""Environment variable; `system` leaves the allocator as it is."""
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -2, -3, -8  # of glibc's malloc.h
_SETTINGS = {
    _MMAP_THRESHOLD: 2**30,
    _TRIM_THRESHOLD: 2**31 - 1,
    _TOP_PAD: 64 * 2**20,
    _ARENA_MAX: 1,
}
_OWN = (
    "MALLOC_TRIM_THRESHOLD_", "MALLOC_TOP_PAD_", "MALLOC_MMAP_THRESHOLD_", "MALLOC_ARENA_MAX",
    "GLIBC_TUNABLES", "LD_PRELOAD",
)  # fmt: skip
"""Whoever set one of these knows what they want."""


def give_back() -> None:
    """Return freed memory to the system now, where the allocator can."""
    if sys.platform == "linux":
        libc = ctypes.CDLL(None)
        if hasattr(libc, "malloc_trim"):
            libc.malloc_trim(0)


def keep_memory() -> bool:
    """Set this process's allocator; to be called by programs as they start, before threads do.

    Returns:
        Whether it was set: on Linux with glibc, unless `FMBSEG_ALLOCATOR=system` or an
        environment variable of malloc's own forbids it.
    """
    if sys.platform != "linux" or os.environ.get(SWITCH) == "system":
        return False
    if any(name in os.environ for name in _OWN):
        return False
    libc = ctypes.CDLL(None)
    if not hasattr(libc, "gnu_get_libc_version"):
        return False
    return all(libc.mallopt(name, value) for name, value in _SETTINGS.items())
