"""Locks that processes hold on a file; the kernel frees them when a process dies. The file stays.

Imported from here by what steps import, so that no unit is outdated by a newer `filelock`.
"""

from filelock import FileLock, Timeout

__all__ = ["FileLock", "Timeout"]

DECIDES_OUTPUTS = False
