"""Where a long step is, as a record and as a line of text."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from tqdm import tqdm


@dataclass(frozen=True)
class Report:
    """Where a step is.

    Attributes:
        label: what the step calls itself.
        unit: of `done` and `total`, in the singular; "B" means bytes.
        done: so far, with what was done before a cut.
        total: None where it is not known.
        fresh: done since this process began the step.
        seconds: since then.
        figures: the latest, such as the loss.
        ended: whether this is the step's last report.
    """

    label: str
    unit: str
    done: float
    total: float | None
    fresh: float
    seconds: float
    figures: Mapping[str, float] = field(default_factory=dict)
    ended: bool = False

    @property
    def share(self) -> float | None:
        """Done of the total, 0 to 1; None where the total is not known."""
        return min(self.done / self.total, 1.0) if self.total else None

    @property
    def rate(self) -> float:
        """Units a second."""
        return self.fresh / self.seconds if self.seconds > 0 else 0.0

    @property
    def left_s(self) -> float | None:
        """Seconds to the end at this rate; None where that cannot be said."""
        if self.total is None or self.rate <= 0:
            return None
        return max(self.total - self.done, 0) / self.rate

    def words(self) -> str:
        """One line, such as `train: 62 % (1,860 of 3,000 steps), 12.1 steps/s, 1:34 left, loss …`.

        Of a step that ended: how much it did in what time.
        """
        if self.ended:
            said = [f"{self._amount(self.fresh)} in {clock(self.seconds)}"]
        elif self.share is not None and self.total is not None:
            amounts = f"{self._number(self.done)} of {self._amount(self.total)}"
            said = [f"{100 * self.share:.0f} % ({amounts})"]
        else:
            said = [self._amount(self.done)]
        if self.fresh > 0:
            said.append(self._speed())
        elif not self.ended:
            said.append(f"for {clock(self.seconds)}")
        if self.left_s is not None and not self.ended:
            said.append(f"{clock(self.left_s)} left")
        said += [f"{name} {value:.4g}" for name, value in self.figures.items()]
        return f"{self.label}: {', '.join(said)}"

    def _number(self, count: float) -> str:
        return tqdm.format_sizeof(count, "B") if self.unit == "B" else f"{count:,.0f}"

    def _amount(self, count: float) -> str:
        if self.unit == "B":
            return self._number(count)
        return f"{count:,.0f} {self.unit}{'' if count == 1 else 's'}"

    def _speed(self) -> str:
        if self.unit == "B":
            return f"{tqdm.format_sizeof(self.rate, 'B')}/s"
        if self.rate >= 1:
            return f"{self.rate:.3g} {self.unit}s/s"
        each = 1 / self.rate
        return f"{f'{each:.3g} s' if each < 600 else clock(each)} per {self.unit}"


def clock(seconds: float) -> str:
    """A duration as a clock shows it: 0:07, 1:34, 12:00:00."""
    whole = round(seconds)
    minutes, hours = whole // 60 % 60, whole // 3600
    return f"{hours}:{minutes:02}:{whole % 60:02}" if hours else f"{minutes}:{whole % 60:02}"
