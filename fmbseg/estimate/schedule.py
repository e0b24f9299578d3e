"""What runs beside what: the flow's order on its workers, and the memory of it all at its worst."""

import math
from dataclasses import dataclass
from heapq import heappop, heappush

from fmbseg.estimate.figures import Figures
from fmbseg.params import Params
from fmbseg.steps import evaluate

FLOW_BYTES = 2e8
"""What the flow's own libraries add to the process that computes (Prefect, MLflow), about."""


@dataclass(frozen=True)
class Unit:
    """One unit of a step under way.

    Attributes:
        step: its name.
        begins: seconds after the run's start.
        ends: likewise.
        memory_bytes: most that it adds to what the models take.
    """

    step: str
    begins: float
    ends: float
    memory_bytes: float


@dataclass(frozen=True)
class Schedule:
    """The run's units in the flow's order.

    Attributes:
        units: all of them.
        idle_bytes: memory with the models in it and nothing running.
        together: the units share one process, as threads do.
    """

    units: tuple[Unit, ...]
    idle_bytes: float
    together: bool

    def end(self, step: str) -> float:
        """When the last unit of a step ends; 0 where it has none."""
        return max((unit.ends for unit in self.units if unit.step == step), default=0.0)

    def memory_bytes(self, step: str) -> float:
        """Most memory of one process while a unit of the step runs, with what runs beside it."""
        mine = [unit.memory_bytes for unit in self.units if unit.step == step]
        if not self.together:
            return self.idle_bytes + max(mine)
        most, sums, counts, running = 0.0, 0.0, 0, list[tuple[float, int]]()
        order = sorted(range(len(self.units)), key=lambda number: self.units[number].begins)
        for number in order:  # the sum can be largest only where a unit begins
            unit = self.units[number]
            while running and running[0][0] <= unit.begins:
                ended = self.units[heappop(running)[1]]
                sums, counts = sums - ended.memory_bytes, counts - (ended.step == step)
            sums, counts = sums + unit.memory_bytes, counts + (unit.step == step)
            heappush(running, (unit.ends, number))
            if counts:
                most = max(most, sums)
        return self.idle_bytes + most


def schedule(
    params: Params, figures: Figures, count: int, workers: int, *, train: Unit, subsample_s: float
) -> Schedule:
    """Lay out the run.

    Args:
        params: of the run.
        figures: of the sample.
        count: training images.
        workers: units of the mapped steps at a time.
        train: its length as `ends` and its memory.
        subsample_s: seconds of the step between stage 1 and the training.
    """
    idle, size = figures.base_bytes + FLOW_BYTES, params.data.shard_images
    free = [figures.models_s + figures.texts_s] * workers
    units = []

    def put(step: str, seconds: float, peak_bytes: float, not_before: float = 0.0) -> None:
        worker = free.index(min(free))
        begins = max(free[worker], not_before)
        free[worker] = begins + seconds
        more = max(peak_bytes - figures.base_bytes, 0.0)
        units.append(Unit(step, begins, begins + seconds, more))

    for shard in range(math.ceil(count / size)):
        images = min(size, count - shard * size)
        put("pseudo_masks", images * figures.stage1.seconds, figures.stage1.peak_bytes)
    masks_end = max(free)
    scored = [(one, evaluate.is_trained(one.unit)) for one in figures.scored]
    for one, is_trained in scored:
        if not is_trained:
            put("evaluate", one.images * one.rate.seconds + figures.texts_s, one.rate.peak_bytes)
    begins = masks_end + subsample_s
    more = max(train.memory_bytes - figures.base_bytes, 0.0)
    units.append(Unit("train", begins, begins + train.ends, more))
    for one, is_trained in scored:
        if is_trained:
            seconds = one.images * one.rate.seconds + figures.texts_s
            put("evaluate", seconds, one.rate.peak_bytes, begins + train.ends)
    return Schedule(tuple(units), idle, params.runner.kind == "threads")
