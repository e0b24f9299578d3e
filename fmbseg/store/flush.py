"""Forcing files onto the disk (fsync), so that a cut of power leaves them as they are.

A file that was written and renamed lies in the system's memory for up to half a minute. Without a
flush the rename can reach the disk before the content does, and what then stands under the name
after a cut of power is empty, or full of zeros.
"""

import errno
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

_THREADS = 8
"""File systems write what several threads ask for in one go: twenty times faster than in turn."""
_NO_SUCH_CALL = (errno.EINVAL, errno.ENOTSUP, errno.EBADF, errno.EACCES)


def flush_file(path: str | Path) -> None:
    """Force a file's content onto the disk.

    Raises:
        OSError: the disk could not write it.
    """
    writable = os.name == "nt" and Path(path).is_file()  # Windows flushes no other ones
    descriptor = os.open(path, os.O_RDWR if writable else os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def flush_names(folder: str | Path) -> None:
    """Force onto the disk which names a folder holds, where the file system has such a call.

    Raises:
        OSError: the disk could not write it.
    """
    try:
        flush_file(folder)
    except OSError as error:
        if error.errno not in _NO_SUCH_CALL:
            raise


def flush_tree(folder: str | Path, *, contents: bool = True) -> None:
    """Force a folder and everything below it onto the disk.

    Args:
        folder: whose files are complete.
        contents: False where only names changed, by files that were moved here.

    Raises:
        OSError: the disk could not write it.
    """
    files: list[Path] = []
    folders: list[Path] = []
    for parent, _, names in os.walk(folder):
        folders.append(Path(parent))
        files += [Path(parent) / name for name in names]
    with ThreadPoolExecutor(_THREADS, "flush") as threads:
        if contents:
            for _ in threads.map(flush_file, files):
                pass
        for _ in threads.map(flush_names, folders):
            pass
