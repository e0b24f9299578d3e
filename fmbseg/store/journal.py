"""A line for every unit that was computed: what, when, by which process, in how many seconds."""

import contextlib
import os
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from fmbseg.store.lines import append_line, read_lines

DECIDES_OUTPUTS = False
"""The journal changes no output of a step (see `fmbseg.steps.code`)."""


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
        """Time the block; append a line about the unit if it was computed."""
        began, entry = time.perf_counter(), Entry()
        yield entry
        if entry.computed:
            line = {
                "step": step, "unit": unit, "key": key,
                "finished_at": datetime.now(UTC).isoformat(timespec="seconds"),
                "seconds": round(time.perf_counter() - began, 3),
                "pid": os.getpid(), "host": socket.gethostname(), **entry.notes,
            }  # fmt: skip
            append_line(self.path, line)

    def lines(self) -> list[dict[str, Any]]:
        """All lines, oldest first; a line that was cut is left out."""
        return read_lines(self.path)
