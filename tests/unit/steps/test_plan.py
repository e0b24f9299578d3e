"""How the steps' units are started: those that have something to do, a few hundred at a time."""

from collections.abc import Iterable
from functools import partial
from pathlib import Path

import pytest

from fmbseg.steps import plan
from fmbseg.steps.step import Step, Unit
from fmbseg.steps.workspace import Workspace
from fmbseg.store import UnitKey

UNITS = [f"{index:04d}" for index in range(3 * plan.IN_FLIGHT)]


@pytest.fixture
def stages(small_workspace: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[plan.Stages, "Watched"]:
    """A plan of one step with very many units, of which some are up to date."""
    asked = []

    def keys(workspace: Workspace):
        asked.append(workspace)
        return lambda name: UnitKey(inputs={"name": name})

    step = Step(
        name="many", writes="many", units=lambda _: UNITS, keys=keys, mapped=True,
        key=lambda workspace, name: keys(workspace)(name), run=lambda *_: True,
    )  # fmt: skip
    monkeypatch.setattr(plan, "PLAN", (step,))
    watched = Watched(asked)
    look = partial(Workspace.open, small_workspace)
    return plan.Stages(look, watched.start, watched.wait, watched.said.append), watched


class Watched:
    """Units that were started, and the most that were at once."""

    def __init__(self, asked: list[Workspace]) -> None:
        self.asked, self.said, self.started = asked, list[str](), list[str]()
        self.in_flight, self.most = set[str](), 0
        self.failing = ""

    def start(self, unit: Unit) -> str:
        self.started.append(unit.name)
        self.in_flight.add(unit.name)
        self.most = max(self.most, len(self.in_flight))
        return unit.name

    def wait(self, names: Iterable[str | None]) -> None:
        for name in names:
            self.in_flight.discard(name or "")
            if name == self.failing:
                raise OSError(name)


def test_a_few_hundred_units_are_started_before_the_first_has_to_be_finished(stages):
    made, watched = stages
    made.run_through("many")
    assert watched.started == UNITS
    assert watched.most == plan.IN_FLIGHT
    assert watched.in_flight == set()


def test_a_failure_ends_the_starting(stages):
    made, watched = stages
    watched.failing = UNITS[3]
    with pytest.raises(OSError, match=UNITS[3]):
        made.run_through("many")
    assert len(watched.started) == plan.IN_FLIGHT + 3


def test_what_is_up_to_date_is_one_line_and_shared_parts_of_keys_are_read_once(
    stages, small_workspace: Path
):
    made, watched = stages
    new = UNITS[5], UNITS[700]
    for name in UNITS:
        if name not in new:
            (small_workspace / "many" / name).mkdir(parents=True)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Unit, "problem", lambda unit: unit.key() and problem_of(unit))
        made.run_through("many")
    assert tuple(watched.started) == new
    assert watched.said == [f"many: {len(UNITS) - 2} of {len(UNITS)} units are up to date"]
    assert len(watched.asked) == 1


def problem_of(unit: Unit) -> str | None:
    return None if unit.folder.is_dir() else "not computed yet"


def test_a_units_key_is_the_same_alone_and_among_all(small_run: Path):
    workspace = Workspace.open(small_run)
    for unit in plan.units_of(workspace, "pseudo_masks"):
        alone = plan.unit_named(workspace, "pseudo_masks", unit.name)
        assert unit.key() == alone.key()
        assert unit == alone
