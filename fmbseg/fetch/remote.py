"""Whether anything may be fetched, by one process at a time, and how messages write addresses."""

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from fmbseg.store.locks import FileLock, Timeout

OFFLINE = "FMBSEG_OFFLINE"
"""Environment variable; set to 1, true, yes or on, it forbids every fetch."""


class DownloadError(RuntimeError):
    """A file could not be fetched or is not the one wanted; nothing half-made is left in place."""


def shown(url: str) -> str:
    """An address without user, password, query and fragment, which may be secret."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return "(an address that cannot be read)"
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def require_online(what: str) -> None:
    """Refuse to go on when fetching is forbidden.

    Raises:
        DownloadError: `FMBSEG_OFFLINE` is set.
    """
    if os.environ.get(OFFLINE, "").lower() in {"1", "true", "yes", "on"}:
        raise DownloadError(
            f"{what}: not fetched, since {OFFLINE} is set; unset it, or put the file in place by "
            "hand"
        )


@contextlib.contextmanager
def locked(path: Path, what: str) -> Iterator[None]:
    """Hold a lock file; when another process holds it, say so and wait.

    Args:
        path: of the lock file, which stays. The kernel frees the lock when the process dies.
        what: is being fetched, for the message.
    """
    lock = FileLock(path)
    try:
        held = lock.acquire(blocking=False)
    except Timeout:
        print(f"{what}: another process is at it; waiting for it to end", file=sys.stderr)
        held = lock.acquire()
    with held:
        yield
