"""What is really computed and what is only counted, so that measuring keeps to its budget."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TypeVar

from fmbseg.allocator import give_back
from fmbseg.estimate.memory import peak_bytes, reset_peak

T = TypeVar("T")


@dataclass
class Work:
    """One kind of work, such as "CLIP blocks".

    Attributes:
        asked: units that the code asked for.
        done: units that were really computed.
        seconds: spent on those.
        more_bytes: most memory while some were computed at once, beyond that at rest, by how many.
    """

    asked: float = 0.0
    done: float = 0.0
    seconds: float = 0.0
    more_bytes: dict[float, int] = field(default_factory=dict, compare=False)

    def memory_of(self, units: float) -> int:
        """What so many would take: as the fewest that were computed at once and are no fewer."""
        no_fewer = [count for count in self.more_bytes if count >= units]
        if no_fewer:
            return self.more_bytes[min(no_fewer)]
        return max(self.more_bytes.values(), default=0)


@dataclass
class Phase:
    """A stretch of real code, with what was left out of it added at the rate of the rest.

    Attributes:
        seconds: that it would take.
        work: what it asked for, by kind.
        peak_bytes: most memory of the process during it, with what was left out; 0 where the system
            does not say.
    """

    seconds: float = 0.0
    work: dict[str, Work] = field(default_factory=dict)
    peak_bytes: int = 0


class Meter:
    """Lets work through until its kind has had its share of the budget, then only counts it.

    The first unit of each kind is always computed, and none is broken off.
    """

    def __init__(
        self,
        share_s: float,
        *,
        clock: Callable[[], float] = time.perf_counter,
        synchronise: Callable[[], None] = lambda: None,
    ) -> None:
        """Set the share.

        Args:
            share_s: seconds after which a kind is only counted.
            clock: seconds.
            synchronise: waits for a device that computes by itself.
        """
        self._share_s, self._clock, self._synchronise = share_s, clock, synchronise
        self._work: dict[str, Work] = {}
        self._unpaid_s = 0.0
        self._rest_bytes = self._peak_bytes = 0
        self.rest()

    def rest(self) -> int:
        """Give back what earlier work freed; what the process holds now is its memory at rest."""
        give_back()
        reset_peak()
        self._rest_bytes = self._peak_bytes = peak_bytes()
        return self._rest_bytes

    def now(self) -> float:
        """The clock, after all that was begun has ended."""
        self._synchronise()
        return self._clock()

    def wants(self, kind: str) -> bool:
        """Whether the next unit of this kind should be computed."""
        work = self._work.setdefault(kind, Work())
        return work.done == 0 or work.seconds < self._share_s

    def compute(self, kind: str, units: float, call: Callable[[], T]) -> T:
        """Do some work and note how long it took."""
        work = self._work.setdefault(kind, Work())
        self._note_peak()
        began = self.now()
        found = call()
        work.seconds += self.now() - began
        more = self._note_peak() - self._rest_bytes
        work.more_bytes[units] = max(work.more_bytes.get(units, 0), more)
        work.asked += units
        work.done += units
        return found

    def count(self, kind: str, units: float) -> None:
        """Note some work that was left out."""
        work = self._work.setdefault(kind, Work())
        work.asked += units
        self._peak_bytes = max(self._peak_bytes, self._rest_bytes + work.memory_of(units))

    def _note_peak(self) -> int:
        """The peak since the last note."""
        found = peak_bytes()
        self._peak_bytes = max(self._peak_bytes, found)
        reset_peak()
        return found

    @contextmanager
    def unpaid(self) -> Iterator[None]:
        """Inside, time passes that a real run would not spend."""
        began = self.now()
        yield
        self._unpaid_s += self.now() - began

    @contextmanager
    def phase(self, *, without: str = "") -> Iterator[Phase]:
        """Measure what is inside; the phase is filled in at the end.

        Args:
            without: a kind of work that is not part of it, since a run does it once.
        """
        found = Phase()
        before = {kind: replace(work) for kind, work in self._work.items()}
        unpaid, began = self._unpaid_s, self.now()
        reset_peak()
        self._peak_bytes = 0
        yield found
        found.seconds = self.now() - began - (self._unpaid_s - unpaid)
        self._note_peak()
        found.peak_bytes = self._peak_bytes
        for kind, work in self._work.items():
            old = before.get(kind, Work())
            asked, done = work.asked - old.asked, work.done - old.done
            if kind == without:
                found.seconds -= work.seconds - old.seconds
            elif asked:
                found.work[kind] = Work(asked, done, work.seconds - old.seconds)
                found.seconds += (asked - done) * work.seconds / work.done


@dataclass(frozen=True)
class Rate:
    """The mean of some phases.

    Attributes:
        seconds: a unit.
        units: measured.
        work: of all of them, by kind.
        peak_bytes: most memory.
    """

    seconds: float
    units: int
    work: Mapping[str, Work]
    peak_bytes: int

    @staticmethod
    def of(phases: Sequence[Phase], units: int | None = None) -> "Rate":
        """Join phases; `units` when they hold more or fewer than one each."""
        work: dict[str, Work] = {}
        for phase in phases:
            for kind, part in phase.work.items():
                total = work.setdefault(kind, Work())
                total.asked += part.asked
                total.done += part.done
                total.seconds += part.seconds
        count = len(phases) if units is None else units
        return Rate(
            sum(phase.seconds for phase in phases) / count, count, work,
            max(phase.peak_bytes for phase in phases),
        )  # fmt: skip

    @property
    def left_out(self) -> dict[str, Work]:
        """The kinds of which not all was computed."""
        return {kind: work for kind, work in self.work.items() if work.done < work.asked}
