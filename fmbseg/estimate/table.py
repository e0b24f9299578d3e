"""The estimate as text."""

from collections.abc import Sequence

from fmbseg.estimate.project import Row
from fmbseg.store import human_bytes

_UNITS = (("years", 365.25 * 86400), ("days", 86400.0), ("h", 3600.0), ("min", 60.0))


def human_time(seconds: float) -> str:
    """A duration as people read it: "35 s", "12 min", "3.4 h", "2.1 days", "1.2 years"."""
    for unit, size in _UNITS:
        if seconds >= 2 * size or (unit == "years" and seconds >= size):
            return f"{seconds / size:.{1 if seconds < 100 * size and unit != 'min' else 0}f} {unit}"
    return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s"


def lines(rows: Sequence[Row], workers: int) -> list[str]:
    """A table, then what each row stands on."""
    cells: list[tuple[str, ...]] = [("step", "1 worker", f"{workers} workers", "disk", "memory")]
    for row in rows:
        memory = "-" if row.memory_bytes is None else human_bytes(round(row.memory_bytes))
        disk = human_bytes(round(row.disk_bytes)) if row.disk_bytes else "-"
        cells.append((row.step, _time(row.seconds), _time(row.seconds_many), disk, memory))
    if workers == 1:
        cells = [(step, one, disk, memory) for step, one, _, disk, memory in cells]
    widths = [max(len(line[column]) for line in cells) for column in range(len(cells[0]))]
    table = [
        "  ".join(
            word.ljust(width) if column == 0 else word.rjust(width)
            for column, (word, width) in enumerate(zip(line, widths, strict=True))
        )
        for line in cells
    ]
    return [*table, "", *(f"{row.step.strip()}: {row.basis}" for row in rows)]


def _time(seconds: float | None) -> str:
    return "-" if seconds is None else human_time(seconds)
