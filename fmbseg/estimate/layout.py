"""What runs beside what: the units of a run over its workers, in the flow's order."""

from collections import defaultdict
from dataclasses import dataclass


@dataclass(frozen=True)
class Job:
    """A unit under way: its step, seconds after the run's start, and the memory that it adds."""

    step: str
    begins: float
    ends: float
    more_bytes: float


class Layout:
    """Jobs, each of which begins as soon as a worker is free."""

    def __init__(self, workers: int, begins: float) -> None:
        """All workers are free at a time, seconds after the run's start."""
        self.jobs: list[Job] = []
        self._free = [begins] * workers

    def put(self, step: str, seconds: float, more_bytes: float, after: float = 0.0) -> None:
        """Give a job to the next free worker, not before a time."""
        worker = self._free.index(min(self._free))
        begins = max(self._free[worker], after)
        self._free[worker] = begins + seconds
        self.add(step, begins, seconds, more_bytes)

    def add(self, step: str, begins: float, seconds: float, more_bytes: float) -> None:
        """Add a job that needs no worker."""
        self.jobs.append(Job(step, begins, begins + seconds, more_bytes))

    def end(self, step: str) -> float:
        """When the last job of a step ends; 0 where it has none."""
        return max((job.ends for job in self.jobs if job.step == step), default=0.0)

    def most_bytes(self, *, together: bool) -> dict[str, float]:
        """Step to the most memory while one of its jobs runs.

        Args:
            together: all jobs share one process, so that what runs beside the step counts too.
        """
        most: dict[str, float] = defaultdict(float)
        running: list[Job] = []
        for job in sorted(self.jobs, key=lambda job: job.begins):
            running = [one for one in running if together and one.ends > job.begins] + [job]
            total = sum(one.more_bytes for one in running)
            for one in running:
                most[one.step] = max(most[one.step], total)
        return most
