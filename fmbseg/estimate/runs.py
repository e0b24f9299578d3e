"""One image after the other through some code, until the budget is spent."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

from fmbseg.estimate.meter import Meter, Phase, Rate
from fmbseg.estimate.models import TEXT
from fmbseg.progress import tracked


@dataclass(frozen=True)
class Runs:
    """Measures work by the image.

    Attributes:
        meter: of all work.
        ends: the clock's time after which no further image is begun.
        progress: show bars.
    """

    meter: Meter
    ends: float
    progress: bool

    def each(self, label: str, work: Callable[[str], object], names: Sequence[str]) -> Rate:
        """Do something for each image, at least for one.

        Of three or more the first is not counted: in it things are set up and files are read
        that later ones find in memory.
        """
        phases: list[Phase] = []
        self.meter.rest()  # what earlier work freed is no part of this one's memory
        for name in tracked(names, f"estimate: {label}", shown=self.progress):
            with self.phase() as phase:
                work(name)
            phases.append(phase)
            if self.is_over:
                break
        rate = Rate.of(phases[1:] if len(phases) > 2 else phases)
        # Often the first image alone is computed whole, so that its memory does count.
        return replace(rate, peak_bytes=max(phase.peak_bytes for phase in phases))

    @property
    def is_over(self) -> bool:
        """Whether the budget is spent."""
        return self.meter.now() > self.ends

    @contextmanager
    def phase(self) -> Iterator[Phase]:
        """A phase without the reading of class names, which a run does once."""
        with self.meter.phase(without=TEXT) as found:
            yield found
