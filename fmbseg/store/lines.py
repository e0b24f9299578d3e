"""Files of JSON lines that grow: a kill or a cut of power damages a line, never the others."""

import contextlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def append_line(path: str | Path, record: Mapping[str, Any], *, flush: bool = True) -> None:
    """Add a line; several processes may add to a file at once.

    Args:
        path: the file; it and its folder are made where they are missing.
        record: JSON values.
        flush: force it onto the disk; see `write_bytes`.
    """
    path, text = Path(path), json.dumps(record) + "\n"
    try:
        _append(path, text, flush)
    except FileNotFoundError:  # somebody removed the folder between two of the calls
        _append(path, text, flush)


def read_lines(path: str | Path) -> list[dict[str, Any]]:
    """All lines, oldest first; a line that was cut is left out."""
    path, found = Path(path), []
    if path.is_file():
        for line in path.read_bytes().splitlines():
            with contextlib.suppress(ValueError):
                record = json.loads(line)
                if isinstance(record, dict):
                    found.append(record)
    return found


def _append(path: Path, text: str, flush: bool) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+b") as file:
        cut = file.seek(0, os.SEEK_END) > 0
        if cut:
            file.seek(-1, os.SEEK_END)
            cut = file.read(1) != b"\n"
        file.write(("\n" + text if cut else text).encode())  # one write: lines never mix
        if flush:
            file.flush()
            os.fsync(file.fileno())
