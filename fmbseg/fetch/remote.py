"""What is to be fetched, from where, and how addresses are written in messages."""

import contextlib
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from fmbseg.store.locks import FileLock, Timeout

OFFLINE = "FMBSEG_OFFLINE"
"""Environment variable; set to 1, true, yes or on, it forbids every fetch."""


class DownloadError(RuntimeError):
    """A file could not be fetched or is not the one wanted; nothing half-made is left in place."""


@dataclass(frozen=True)
class Remote:
    """A file to fetch.

    Attributes:
        urls: addresses of the same bytes in the order of trying, http or https.
        about_bytes: size to reckon with before a server has told the real one.
        size_bytes: exact size, where it is published.
        md5: hexadecimal, where published.
        sha256: hexadecimal, where published.
    """

    urls: tuple[str, ...]
    about_bytes: int | None = None
    size_bytes: int | None = None
    md5: str | None = None
    sha256: str | None = None

    @property
    def has_checksum(self) -> bool:
        """Whether the publisher says what the bytes are."""
        return self.md5 is not None or self.sha256 is not None


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
