import random

import pytest

from fmbseg.estimate.schedule import Schedule, Unit


def by_looking_at_every_moment(schedule: Schedule, step: str) -> float:
    """Slow and obvious: what runs at each moment at which something begins."""
    most = 0.0
    for unit in (one for one in schedule.units if one.step == step):
        for moment in {one.begins for one in schedule.units}:
            if unit.begins <= moment < unit.ends:
                beside = [o.memory_bytes for o in schedule.units if o.begins <= moment < o.ends]
                most = max(most, schedule.idle_bytes + sum(beside))
    return most


@pytest.mark.parametrize("seed", range(30))
def test_the_memory_of_a_step_is_the_most_of_all_that_runs_beside_it(seed: int):
    draw = random.Random(seed)
    units = []
    for _ in range(draw.randrange(2, 14)):
        begins = draw.randrange(20)
        ends = begins + draw.randrange(1, 9)
        units.append(Unit(draw.choice("ab"), begins, ends, draw.randrange(1, 50)))
    schedule = Schedule(tuple(units), 10.0, together=True)
    for step in {unit.step for unit in units}:
        assert schedule.memory_bytes(step) == by_looking_at_every_moment(schedule, step)


@pytest.mark.timeout(20)
def test_a_hundred_thousand_units_are_laid_out_in_seconds():
    units = tuple(Unit("pseudo_masks", n // 3, n // 3 + 1, 1.0) for n in range(100_000))
    assert Schedule(units, 0.0, together=True).memory_bytes("pseudo_masks") == 3.0
