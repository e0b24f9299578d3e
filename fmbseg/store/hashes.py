"""Hashes of files, taken once per state of a file, by whichever process comes first.

A run looks at every image and every output several times. What was hashed is kept in a database in
the user's cache folder and holds as long as the file's inode, size and both of its dates stay the
same; no copy, edit or setting of a date leaves the date of the inode's change as it was. The
database may be deleted at any time, which costs the reading alone.
"""

import atexit
import contextlib
import functools
import hashlib
import io
import os
import sqlite3
import threading
import time
from collections.abc import Iterator
from pathlib import Path

DECIDES_OUTPUTS = False
"""What is kept is what would be read again (see `fmbseg.steps.code`)."""

SMALL_BYTES = 16_384
"""A smaller file is read as quickly as it is looked up."""
SETTLED_NS = 60_000_000_000
"""A file that changed since is read each time: it might change again within the same tick of the
clock, and what the system has not written to the disk yet is other bytes after a cut of power."""
_AT_ONCE, _SECONDS = 2_000, 5.0
"""New hashes are written when there are so many, or so long after the last time."""
_TABLE = """
create table if not exists hashes (
  path text not null, kind text not null, inode integer, size integer, modified integer,
  changed integer, hash text not null, primary key (path, kind)
) without rowid
"""


def file_sha(path: str | Path) -> str:
    """SHA-256 of a file's content, hexadecimal; its name plays no part."""
    return file_hash(path, "sha256")


def file_hash(path: str | Path, kind: str) -> str:
    """Hash of a file's content, hexadecimal; links are followed.

    Args:
        path: the file.
        kind: "sha256" or "md5".
    """
    with Path(path).open("rb") as stream:
        return hash_of(stream, path, kind)


def hash_of(stream: io.BufferedReader, path: str | Path, kind: str = "sha256") -> str:
    """Hash of an open file's content, hexadecimal.

    Args:
        stream: the file, at its start.
        path: its name.
        kind: "sha256" or "md5".
    """
    status = os.fstat(stream.fileno())
    known = _find(path, kind, status)
    if known is None:
        known = _read(stream, kind)
        if is_settled(status) and status.st_size >= SMALL_BYTES:
            _database().add(str(Path(path).absolute()), kind, state_of(status), known)
    return known


def known_hash(path: str | Path, kind: str = "sha256") -> str | None:
    """The hash of a file that was read in the state in which it is now, without opening it.

    Raises:
        OSError: no such file.
    """
    return _find(path, kind, Path(path).stat())


def note(path: str | Path, kind: str, text: str) -> None:
    """Keep a short text about a file for as long as it stays as it is.

    Args:
        path: the file; one that has just changed is passed over.
        kind: of the text, other than a hash's.
        text: for `noted` to return.
    """
    status = Path(path).stat()
    if is_settled(status):
        _database().add(str(Path(path).absolute()), kind, state_of(status), text)


def noted(path: str | Path, kind: str) -> str | None:
    """What `note` was told of a file in the state in which it is now.

    Raises:
        OSError: no such file.
    """
    return _database().find(str(Path(path).absolute()), kind, state_of(Path(path).stat()))


@contextlib.contextmanager
def read_at_once(folder: str | Path) -> Iterator[None]:
    """Inside, what is known of the files below a folder is looked up in memory.

    For whoever asks for nearly all of them: one by one they are read five times as slowly.
    """
    with _database().held(f"{Path(folder).absolute()}{os.sep}"):
        yield


def is_settled(status: os.stat_result) -> bool:
    """Whether a file has not changed for so long that its state tells its content."""
    return max(status.st_mtime_ns, status.st_ctime_ns) < time.time_ns() - SETTLED_NS


def state_of(status: os.stat_result) -> tuple[int, ...]:
    """What changes when a file's content does: inode, size and both dates."""
    return (status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)


def _find(path: str | Path, kind: str, status: os.stat_result) -> str | None:
    if status.st_size < SMALL_BYTES:
        return None
    return _database().find(str(Path(path).absolute()), kind, state_of(status))


def _read(stream: io.BufferedReader, kind: str) -> str:
    return hashlib.file_digest(stream, kind).hexdigest()


class _Database:
    """The hashes known so far; where it cannot be opened, none are."""

    def __init__(self, path: Path) -> None:
        self._lock, self._saved = threading.Lock(), time.monotonic()
        self._fresh: dict[tuple[str, str], tuple[tuple[int, ...], str]] = {}
        self._held: dict[tuple[str, str], tuple[tuple[int, ...], str]] = {}
        self._connection: sqlite3.Connection | None = None
        with contextlib.suppress(OSError, sqlite3.Error):
            path.parent.mkdir(parents=True, exist_ok=True)
            self._connection = self._opened(path)

    @staticmethod
    def _opened(path: Path) -> sqlite3.Connection:
        def connect() -> sqlite3.Connection:
            made = sqlite3.connect(path, timeout=5.0, check_same_thread=False)
            made.execute("pragma synchronous = off")
            made.execute(_TABLE)
            return made

        try:
            return connect()
        except sqlite3.DatabaseError as error:
            if isinstance(error, sqlite3.OperationalError):  # busy, or not to be written to
                raise
            path.unlink(missing_ok=True)  # damaged: it holds nothing that cannot be read again
            return connect()

    def find(self, path: str, kind: str, state: tuple[int, ...]) -> str | None:
        """The hash of a file in this state."""
        with self._lock, contextlib.suppress(sqlite3.Error):
            fresh = self._fresh.get((path, kind))
            if fresh is not None:
                return fresh[1] if fresh[0] == state else None
            held = self._held.get((path, kind))
            if held is not None and held[0] == state:
                return held[1]
            if self._connection is not None:
                row = self._connection.execute(
                    "select inode, size, modified, changed, hash from hashes "
                    "where path = ? and kind = ?", (path, kind),
                ).fetchone()  # fmt: skip
                if row is not None and row[:4] == state:
                    return str(row[4])
        return None

    @contextlib.contextmanager
    def held(self, folder: str) -> Iterator[None]:
        """Inside, what is known of files whose path begins with `folder` is in memory."""
        with self._lock, contextlib.suppress(sqlite3.Error):
            if self._connection is not None:
                rows = self._connection.execute(
                    "select path, kind, inode, size, modified, changed, hash from hashes "
                    "where path >= ? and path < ?", (folder, folder[:-1] + chr(ord(os.sep) + 1)),
                )  # fmt: skip
                self._held = {
                    (path, kind): (tuple(state), found) for path, kind, *state, found in rows
                }
        try:
            yield
        finally:
            with self._lock:
                self._held = {}

    def add(self, path: str, kind: str, state: tuple[int, ...], found: str) -> None:
        """Note a hash; many are written at once."""
        with self._lock:
            self._fresh[path, kind] = (state, found)
            due = time.monotonic() > self._saved + _SECONDS or len(self._fresh) >= _AT_ONCE
        if due:
            self.save()

    def save(self) -> None:
        """Write what is new; where that cannot be, it is found anew next time."""
        with self._lock:
            rows = [(*of, *state, found) for of, (state, found) in self._fresh.items()]
            self._fresh.clear()
            self._saved = time.monotonic()
            if self._connection is not None and rows:
                with contextlib.suppress(sqlite3.Error), self._connection:
                    self._connection.executemany(
                        "insert or replace into hashes values (?, ?, ?, ?, ?, ?, ?)", rows
                    )


@functools.cache
def _opened(process: int) -> _Database:
    base = os.environ.get("XDG_CACHE_HOME")
    folder = (Path(base) if base else Path.home() / ".cache") / "fmbseg"
    database = _Database(folder / "hashes.sqlite")
    atexit.register(database.save)
    return database


def _database() -> _Database:
    """The process's own: a connection does not survive a fork."""
    return _opened(os.getpid())
