"""A line for every unit that was computed: what, when, by which process, in how many seconds."""

import contextlib
import json
import os
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any


@dataclass
class Entry:
    """One attempt at a unit; written when `computed` ends up True."""

    computed: bool = False
    notes: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Journal:
    """A file of JSON lines; several processes may add to it at once."""

    path: Path

    @contextlib.contextmanager
    def entry(self, step: str, unit: str, key: str) -> Iterator[Entry]:
        """Time the block; a unit that was computed in it gets its line."""
        began, entry = time.perf_counter(), Entry()
        yield entry
        if entry.computed:
            line = {
                "step": step, "unit": unit, "key": key,
                "finished_at": datetime.now(UTC).isoformat(timespec="seconds"),
                "seconds": round(time.perf_counter() - began, 3),
                "pid": os.getpid(), "host": socket.gethostname(), **entry.notes,
            }  # fmt: skip
            text = json.dumps(line) + "\n"
            try:
                self._append(text)
            except FileNotFoundError:  # somebody removed the folder between two of the calls
                self._append(text)

    def lines(self) -> list[dict[str, Any]]:
        """All lines, oldest first; a line that was cut is left out."""
        if not self.path.is_file():
            return []
        found = []
        for line in self.path.read_bytes().splitlines():
            with contextlib.suppress(ValueError):
                found.append(json.loads(line))
        return found

    def _append(self, text: str) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a+b") as file:
            cut = file.seek(0, os.SEEK_END) > 0
            if cut:
                file.seek(-1, os.SEEK_END)
                cut = file.read(1) != b"\n"
            file.write(("\n" + text if cut else text).encode())  # one write: lines never mix
