"""Times and memory of parts of a run; beyond the budget, model calls are counted, not repeated."""

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from fmbseg.allocator import give_back
from fmbseg.estimate.memory import peak_bytes, reset_peak

TEXTS = "class names"
"""The kind of model call that a unit of a run makes once, however many images it has."""
ENLARGED = "masks enlarged"
"""The kind of model call whose answers are too large to be kept."""
_MOST_TEXTS = 128


@dataclass
class Cost:
    """What some units of work took, images for instance.

    Attributes:
        units: that were measured.
        seconds: of all of them, with the calls that were counted, without reading class names.
        texts_s: most seconds that reading the class names took.
        more_bytes: most memory beyond what the process held before.
        asked: kind of model call to how much of it was asked for.
        done: how much of that was really computed.
    """

    units: int = 0
    seconds: float = 0.0
    texts_s: float = 0.0
    more_bytes: int = 0
    asked: Counter[str] = field(default_factory=Counter)
    done: Counter[str] = field(default_factory=Counter)

    @property
    def each_s(self) -> float:
        """Seconds of one unit."""
        return self.seconds / max(self.units, 1)

    def basis(self, count: int) -> str:
        """What it stands on, such as "3 of 5 images measured whole"."""
        parts = [
            f"{self.done[kind]:,} of {asked:,} {kind}"
            if self.done[kind]
            else f"{asked:,} {kind} at the pace of earlier ones"
            for kind, asked in self.asked.items()
            if self.done[kind] < asked
        ]
        how = f"in part ({', '.join(parts)})" if parts else "whole"
        return f"{min(self.units, count):,} of {count:,} images measured {how}"


class Meter:
    """Measures work, and the model calls in it.

    Attributes:
        until: the clock's time from which a call is no longer repeated: one with inputs of the
            same sizes as an earlier one gets that one's answer, and counts as long.
    """

    def __init__(
        self, clock: Callable[[], float] = time.perf_counter,
        synchronise: Callable[[], None] = lambda: None,
    ) -> None:  # fmt: skip
        """Take a clock (seconds) and what waits for a device that computes by itself."""
        self.until = float("inf")
        self._clock, self._synchronise = clock, synchronise
        self._seen: dict[tuple[Any, ...], tuple[Any, float, int]] = {}
        self._cost = Cost()
        self._rest_bytes = self._peak_bytes = 0

    def now(self) -> float:
        """The clock, after all that was begun has ended."""
        self._synchronise()
        return self._clock()

    def rest(self) -> int:
        """Give freed memory back to the system; returns what the process holds now."""
        give_back()
        reset_peak()
        return peak_bytes()

    @contextmanager
    def measured(self, cost: Cost, units: int = 1) -> Iterator[None]:
        """Add what is inside to a cost."""
        self._rest_bytes = self._peak_bytes = self.rest()
        self._cost, began = cost, self.now()
        yield
        cost.seconds += self.now() - began
        cost.units += units
        self._note_peak()
        cost.more_bytes = max(cost.more_bytes, self._peak_bytes - self._rest_bytes)
        self._cost = Cost()

    def wrap(self, model: object, kinds: Mapping[str, str]) -> None:
        """Let a model's methods (name to kind of call) be measured and counted."""
        for name, kind in kinds.items():
            setattr(model, name, self._wrapped(kind, getattr(model, name)))

    def _wrapped(self, kind: str, function: Callable[..., Any]) -> Callable[..., Any]:
        if kind == TEXTS:
            return lambda names, templates=None: self._texts(function, names, templates)
        return lambda *inputs: self._call(kind, function, inputs)

    def _call(self, kind: str, function: Callable[..., Any], inputs: Sequence[Any]) -> Any:
        # An image's own call, or one about an encoded image with so many prompts or masks.
        sizes = [tuple(getattr(one, "image_hw", None) or one.shape) for one in inputs]
        units = sizes[-1][0] if len(inputs) > 1 else 1
        cost, key = self._cost, (function, *sizes)
        cost.asked[kind] += units
        if key in self._seen and self.now() >= self.until:
            answer, seconds, more_bytes = self._seen[key]
            cost.seconds += seconds
            self._peak_bytes = max(self._peak_bytes, self._rest_bytes + more_bytes)
            empty = kind == ENLARGED
            return inputs[-1].new_full((units, *sizes[0]), -1.0) if empty else answer
        self._note_peak()
        began = self.now()
        answer = function(*inputs)
        seconds = self.now() - began
        cost.done[kind] += units
        kept = None if kind == ENLARGED else answer
        self._seen[key] = kept, seconds, self._note_peak() - self._rest_bytes
        return answer

    def _texts(
        self, function: Callable[..., Any], names: Sequence[str], templates: Sequence[str] | None
    ) -> Any:
        """Read class names; of a very long list the first ones only, which stand for the others."""
        few = names[: max(1, _MOST_TEXTS // len(templates or [""]))]
        began = self.now()
        answer = function(few, templates)
        seconds = self.now() - began
        self._cost.seconds -= seconds
        self._cost.texts_s = max(self._cost.texts_s, seconds * len(names) / len(few))
        return answer[[k % len(few) for k in range(len(names))]]

    def _note_peak(self) -> int:
        """The peak since the last note; the largest one is kept."""
        found = peak_bytes()
        self._peak_bytes = max(self._peak_bytes, found)
        reset_peak()
        return found
