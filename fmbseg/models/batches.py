"""How much goes through a model at once: what a budget of memory holds."""

import logging
from collections.abc import Callable, Iterator, Sequence
from typing import Literal, Protocol, TypeVar

import torch

T = TypeVar("T")
R = TypeVar("R")
BudgetGb = float | Literal["auto"]
IMAGES_AT_ONCE = 16
"""So many images are handed to a model together where it takes several, at most."""
_SHARE = 0.25
"""The budget `auto`, as a share of the memory that is free when it is first asked for."""
_log = logging.getLogger(__name__)


class Meter(Protocol):
    """Says what a device's memory does."""

    def free_bytes(self) -> int:
        """What is free now."""
        ...

    def peak_bytes(self, work: Callable[[], R]) -> tuple[R, int]:
        """What some work answers, and how much memory it took beside what was taken before."""
        ...

    def release(self) -> None:
        """Give back what is kept for later use."""
        ...


class CudaMeter:
    """A CUDA device's memory, by torch's own counts; other threads' work counts as well."""

    def __init__(self, device: torch.device) -> None:
        self._device = device

    def free_bytes(self) -> int:
        """What the driver has, and what torch keeps without using it."""
        kept = torch.cuda.memory_reserved(self._device)
        unused = kept - torch.cuda.memory_allocated(self._device)
        return int(torch.cuda.mem_get_info(self._device)[0]) + unused

    def peak_bytes(self, work: Callable[[], R]) -> tuple[R, int]:
        """See `Meter`; resets torch's count of the peak."""
        torch.cuda.reset_peak_memory_stats(self._device)
        before = torch.cuda.memory_allocated(self._device)
        found = work()
        return found, torch.cuda.max_memory_allocated(self._device) - before

    def release(self) -> None:
        """Empty torch's cache."""
        torch.cuda.empty_cache()


def meter_of(device: torch.device) -> Meter | None:
    """What measures a device's memory; None where nothing does: then there are no batches."""
    return CudaMeter(device) if device.type == "cuda" and torch.cuda.is_available() else None


class Batches:
    """Hands a model as many items at once as a budget of memory holds.

    The first item goes alone, and the memory that it took is measured; so is the first batch of
    every other size of items. Where the device runs out of memory all the same, the budget is
    halved, the log says so, and the same items are tried again.

    Attributes:
        images: so many images are worth handing over together.
    """

    def __init__(
        self, what: str, meter: Meter | None, budget_gb: BudgetGb = "auto", *, unmeasured: int = 1
    ) -> None:
        """Nothing is measured yet.

        Args:
            what: the model, for the log.
            meter: of the device's memory.
            budget_gb: memory for the items under way, in GB; "auto": a quarter of what is free.
            unmeasured: so many items go at once where there is no meter.
        """
        self._what, self._meter, self._unmeasured = what, meter, unmeasured
        self._budget = None if budget_gb == "auto" else budget_gb * 1e9
        self._per_element: dict[int, float] = {}
        self.images = IMAGES_AT_ONCE if meter is not None else 1

    def over(
        self, items: Sequence[T], forward: Callable[[Sequence[T]], R], elements: int
    ) -> Iterator[tuple[Sequence[T], R]]:
        """Some items and what the model answers to them, until all had their turn, in order.

        Args:
            items: all of one size.
            forward: the model.
            elements: numbers in one item.

        Raises:
            torch.OutOfMemoryError: a single item does not fit.
        """
        start = 0
        while start < len(items):
            some = items[start : start + self._at_once(elements)]
            try:
                found = self._measured(some, forward, elements)
            except torch.OutOfMemoryError:
                if len(some) == 1:
                    raise
                found = None
            if found is None:  # here, where no frame of the failed pass holds memory any more
                self._halve(len(some), elements)
                continue
            yield some, found
            start += len(some)

    def _at_once(self, elements: int) -> int:
        if self._meter is None:
            return self._unmeasured
        if not self._per_element:
            return 1
        if self._budget is None:
            self._budget = self._meter.free_bytes() * _SHARE
        return max(1, int(self._budget / (elements * max(self._per_element.values()))))

    def _measured(self, some: Sequence[T], forward: Callable[[Sequence[T]], R], elements: int) -> R:
        if self._meter is None or elements in self._per_element:
            return forward(some)
        found, peak = self._meter.peak_bytes(lambda: forward(some))
        self._per_element[elements] = max(peak, 1) / (elements * len(some))
        return found

    def _halve(self, tried: int, elements: int) -> None:
        """Let at most half as many items of that size through from now on."""
        if self._meter is None:
            self._unmeasured = tried // 2
        else:
            self._meter.release()
            taken = tried * elements * max(self._per_element.values())
            self._budget = min(self._budget or taken, taken) / 2
        _log.warning(
            "%s: the device ran out of memory over %d at once; goes on with %d "
            "(runtime.batch_memory_gb sets a budget)", self._what, tried, self._at_once(elements),
        )  # fmt: skip
