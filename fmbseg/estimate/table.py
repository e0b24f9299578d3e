"""The estimate as text."""

from collections.abc import Sequence

from fmbseg.estimate.forecast import Row
from fmbseg.store import human_bytes

_UNITS = (("years", 365.25 * 86400), ("days", 86400.0), ("h", 3600.0), ("min", 60.0))


def human_time(seconds: float | None) -> str:
    """A duration as people read it: "35 s", "12 min", "3.4 h", "2.1 days", "1.2 years"."""
    if seconds is None:
        return "-"
    for unit, size in _UNITS:
        if seconds >= 2 * size or (unit == "years" and seconds >= size):
            return (
                f"{seconds / size:.{int(seconds < (10 if unit == 'min' else 100) * size)}f} {unit}"
            )
    return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s"


def lines(rows: Sequence[Row], workers: int) -> list[str]:
    """A table, then what each row stands on."""
    cells = [["step", "1 worker", f"{workers} workers", "disk", "memory"]]
    for row in rows:
        sizes = (row.disk_bytes, row.memory_bytes)
        room = [human_bytes(round(size)) if size else "-" for size in sizes]
        cells.append([row.step, human_time(row.seconds), human_time(row.many_s), *room])
    if workers == 1:
        cells = [[*line[:2], *line[3:]] for line in cells]
    first, *others = (max(map(len, column)) for column in zip(*cells, strict=True))
    table = ["  ".join([line[0].ljust(first), *map(str.rjust, line[1:], others)]) for line in cells]
    return [*table, "", *(f"{row.step.strip()}: {row.basis}" for row in rows)]
