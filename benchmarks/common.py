"""What benchmarks share: ways in turn, medians with their spread, memory, a Markdown table.

A benchmark is a module with `main() -> int` that prints Markdown to standard output and anything
else to standard error. `python -m benchmarks NAME` runs it and adds the machine and the date.
"""

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fmbseg.allocator import keep_memory
from fmbseg.estimate.memory import held_bytes, peak_bytes
from fmbseg.store import human_bytes

ROUNDS = 5
"""Rounds that count."""
BROKEN = 3
"""Exit code of a benchmark that found a promise broken; 1 is an error."""


def pin_threads(count: int = 1) -> None:
    """Fix the threads of torch, and set the allocator as the project's programs do."""
    import torch  # here, since a look at a workspace is measured without it

    torch.set_num_threads(count)
    keep_memory()


@dataclass(frozen=True)
class Timed:
    """What one way of doing something took.

    Attributes:
        seconds: of each round that counts.
        answer: of the last round.
        added_bytes: most memory that the first round, which does not count, added to the process;
            0 where it is not known.
    """

    seconds: tuple[float, ...]
    answer: Any = None
    added_bytes: int = 0

    @property
    def median(self) -> float:
        """Median of the seconds."""
        return statistics.median(self.seconds)

    def words(self) -> str:
        """Median, least and most, such as `13.5 s (13.1 to 14.0)`; below 0.1 s in ms."""
        unit, size = ("ms", 1e3) if self.median < 0.1 else ("s", 1.0)
        first, least, most = (
            f"{value * size:.3g}" for value in (self.median, min(self.seconds), max(self.seconds))
        )
        return f"{first} {unit} ({least} to {most})"


def in_turn(
    ways: Mapping[str, Callable[[], Any]],
    rounds: int = ROUNDS,
    clock: Callable[[], float] = time.process_time,
) -> dict[str, Timed]:
    """Do the same in several ways, round by round; they take turns at going first.

    Args:
        ways: name to call.
        rounds: that count. One more comes before: it warms up, and tells the memory.
        clock: seconds; by default those of the processor, which other work changes less.
    """
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    answers: dict[str, Any] = {}
    added = {way: added_bytes(call) for way, call in ways.items()}
    for turn in range(rounds):
        for way in list(ways)[:: -1 if turn % 2 else 1]:
            began = clock()
            answers[way] = ways[way]()
            seconds[way].append(clock() - began)
    return {way: Timed(tuple(seconds[way]), answers[way], added[way]) for way in ways}


def added_bytes(call: Callable[[], object]) -> int:
    """Most memory that a call adds to what the process holds; 0 where the system does not tell."""
    held = held_bytes()
    try:
        Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew; see proc(5)
    except OSError:
        call()
        return 0
    call()
    return max(peak_bytes() - held, 0)


def ratio_words(above: Timed, below: Timed) -> str:
    """Median of the rounds' ratios, least and most, such as `2.41 (2.2 to 2.6)`."""
    found = _ratios(above, below)
    return f"{statistics.median(found):.2f} ({min(found):.2f} to {max(found):.2f})"


def _ratios(above: Timed, below: Timed) -> list[float]:
    return [a / b for a, b in zip(above.seconds, below.seconds, strict=True)]


class Table:
    """A row a comparison, printed as it is measured.

    Attributes:
        exit_code: 0 as long as every promise is kept, else `BROKEN`.
    """

    def __init__(self) -> None:
        """Print the head."""
        self.exit_code = 0
        print(
            "| what | ours | stock way | floor | stock / ours | ours / floor | memory added: ours,"
            " stock | promise |"
        )
        print("|---|---|---|---|---|---|---|---|", flush=True)

    def row(
        self,
        what: str,
        ours: Timed,
        stock: Timed | None = None,
        floor: Timed | None = None,
        *,
        times_stock: float | None = None,
        times_floor: float | None = None,
        equal: bool = True,
    ) -> None:
        """Compare, print, and hold the promises.

        Args:
            what: was done.
            ours: in this project's way.
            stock: as a library's own code or a plain program does it.
            floor: what cannot be done without.
            times_stock: promise: so many times as fast as the stock way at least.
            times_floor: promise: so many times the floor at most.
            equal: whether the answers agree, as they must.
        """
        promises = []
        if stock is not None and times_stock is not None:
            found = statistics.median(_ratios(stock, ours))
            promises.append((f"≥ {times_stock:g} × stock", found >= times_stock))
        if floor is not None and times_floor is not None:
            found = statistics.median(_ratios(ours, floor))
            promises.append((f"≤ {times_floor:g} × floor", found <= times_floor))
        promises.append(("equal", equal))
        if not all(kept for _, kept in promises):
            self.exit_code = BROKEN
        cells = [
            what,
            *(one.words() if one else "-" for one in (ours, stock, floor)),
            ratio_words(stock, ours) if stock else "-",
            ratio_words(ours, floor) if floor else "-",
            ", ".join(human_bytes(one.added_bytes) for one in (ours, stock) if one),
            ", ".join(f"{words}: {'yes' if kept else 'NO'}" for words, kept in promises),
        ]
        print(f"| {' | '.join(cells)} |", flush=True)
