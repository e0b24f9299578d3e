"""Files under a temporary name that get their own when they are whole and on the disk."""

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from fmbseg.store.flush import flush_file, flush_names

PARTIAL = ".partial-"
"""In the name of a unit's folder until it is complete; all of it is flushed then, at once."""


@contextmanager
def growing_path(path: Path, *, flush: bool = True) -> Iterator[Path]:
    """A temporary name to write to; afterwards the file has its own name.

    Under that name lies the old file, or all of the new one, after a cut of power too. An error
    inside the `with` leaves no trace.

    Args:
        path: target; missing parent folders are made.
        flush: see `fmbseg.store.files.write_bytes`.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    flush = flush and not any(PARTIAL in name for name in path.parts)
    temporary = path.parent / f".tmp-{os.getpid()}-{secrets.token_hex(6)}"
    try:
        yield temporary
        if flush:
            flush_file(temporary)
        os.replace(temporary, path)
        if flush:
            flush_names(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def growing_file(path: Path) -> Iterator[TextIO]:
    """Write a UTF-8 file of any length, with `growing_path`'s promises."""
    with (
        growing_path(path) as temporary,
        temporary.open("w", encoding="utf-8", newline="\n") as stream,
    ):
        yield stream


@contextmanager
def passing_file(folder: Path) -> Iterator[TextIO]:
    """A text file without a name, for what is read back once: `seek(0)`, then read.

    Args:
        folder: on the disk that shall hold it, since memory shall not.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f".tmp-{os.getpid()}-{secrets.token_hex(6)}"
    try:
        with path.open("w+", encoding="utf-8", newline="\n") as stream:
            yield stream
    finally:
        path.unlink(missing_ok=True)
