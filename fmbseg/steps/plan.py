"""The plan: the steps of the pipeline in order, and how they are run. There is no other list."""

from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

from fmbseg.steps import download, evaluate, export, pseudo_masks, report, review, subsample, train
from fmbseg.steps.step import Step, Unit
from fmbseg.steps.workspace import Workspace
from fmbseg.store import StoreError, unit_is_valid

PLAN: tuple[Step, ...] = (
    download.STEP,  # images and class names in place
    pseudo_masks.STEP,  # stage 1: CLIP says what is there, SAM says where
    review.STEP,  # the images that a person should look at, the most doubtful first
    subsample.STEP,  # the masks that are trained on
    train.STEP,  # stage 2: the vision encoder's patches learn CLIP's text space
    evaluate.STEP,  # every method on every data set
    report.STEP,  # one page
    export.STEP,  # labels for other tools, where params.yaml asks for them
)
STEPS = {step.name: step for step in PLAN}


def units_of(workspace: Workspace, step: str) -> list[Unit]:
    """Units of a step, in order; the first step that it reads must have finished."""
    return STEPS[step].units_in(workspace)


def unit_named(workspace: Workspace, step: str, name: str) -> Unit:
    """A unit by its name."""
    return Unit(workspace, STEPS[step], name)


def through(last: str) -> tuple[Step, ...]:
    """The steps up to the one named, that one included."""
    return PLAN[: [step.name for step in PLAN].index(last) + 1]


FEW = 64
"""Of a step with more units only those that have something to do are started."""
IN_FLIGHT = 256
"""So many units are started before the first of them has to be finished: each takes memory and a
record in Prefect's database while it waits for a worker."""


class Stages:
    """Runs the plan: a unit starts as soon as the steps that it reads are finished."""

    def __init__(
        self,
        open_workspace: Callable[[], Workspace],
        start: Callable[[Unit], Any],
        wait: Callable[[Iterable[Any]], object],
        say: Callable[[str], object] = lambda words: None,
    ) -> None:
        """Nothing is started yet.

        Args:
            open_workspace: reads the workspace as it is now.
            start: begins or makes a unit; what it returns is handed to `wait`.
            wait: until all are done; raises what one of them raised.
            say: is told how many units of a large step are left out, being up to date.
        """
        self._open, self._start, self._wait, self._say = open_workspace, start, wait, say
        self._started: dict[str, dict[str, Any]] = {}
        self._finished: set[str] = set()

    def run_through(self, last: str) -> None:
        """Finish all steps up to the one named; later ones may have begun, where they can."""
        for step in through(last):
            if step.name not in self._finished:
                for one in PLAN[PLAN.index(step) :]:
                    self._start_units(one)
                self._wait(self._started[step.name].values())
                step.after(self._open())
                self._finished.add(step.name)

    def _start_units(self, step: Step) -> None:
        """Start the units of a step that can run and have not been started."""
        if step.reads and step.reads[0] not in self._finished:
            return
        workspace = self._open()
        if step.name not in self._started:
            step.before(workspace)
            self._started[step.name] = {}
        started, units = self._started[step.name], step.units_in(workspace)
        ready = [
            unit for unit in units
            if unit.name not in started and set(unit.needs()) <= self._finished
        ]  # fmt: skip
        idle = [unit for unit in ready if unit.problem() is None] if len(units) > FEW else []
        if idle:
            started |= dict.fromkeys((unit.name for unit in idle), None)
            self._say(f"{step.name}: {len(idle):,} of {len(units):,} units are up to date")
        in_flight = deque[Any]()
        for unit in ready:
            if unit.name not in started:
                if len(in_flight) == IN_FLIGHT:
                    self._wait([in_flight.popleft()])
                started[unit.name] = self._start(unit)
                in_flight.append(started[unit.name])


def run_plan(
    root: str | Path, last: str = PLAN[-1].name, run: Callable[[Unit], bool] = Unit.run
) -> None:
    """Run the plan in this process, mapped units over `runner.workers` threads.

    Args:
        root: the workspace, or a file of parameters of it.
        last: name of the step to end with.
        run: makes a unit.
    """
    workspace = Workspace.open(root)
    with ThreadPoolExecutor(workspace.params.runner.workers) as threads:

        def start(unit: Unit) -> Future[bool] | None:
            if unit.of.mapped:
                return threads.submit(run, unit)
            run(unit)
            return None

        try:
            Stages(partial(Workspace.open, root), start, _wait).run_through(last)
        except BaseException:  # Ctrl-C, too: units that have not begun are left out
            threads.shutdown(wait=False, cancel_futures=True)
            raise


def _wait(futures: Iterable[Future[bool] | None]) -> None:
    for future in list(futures):
        if future is not None:
            future.result()


def run_step(workspace: Workspace, step: str, only: str | None = None) -> dict[str, bool]:
    """Run the units of a step one by one; returns unit name to whether it was computed.

    Args:
        workspace: whose units.
        step: its name.
        only: name of the one unit to run; None for all of them.
    """
    record = STEPS[step]
    record.before(workspace)
    units = record.units_in(workspace)
    done = {unit.name: unit.run() for unit in units if only in (None, unit.name)}
    record.after(workspace)
    return done


def keys(workspace: Workspace) -> dict[str, str]:
    """Map each unit's folder, relative to the workspace, to its key's digest; all must be done."""
    return {unit.place: unit.key().digest for step in PLAN for unit in step.units_in(workspace)}


def keys_if_done(workspace: Workspace) -> dict[str, str] | None:
    """What `keys` returns, each key made once; None where a unit is not up to date."""
    found = {}
    try:
        for unit in (unit for step in PLAN for unit in step.units_in(workspace)):
            key = unit.key()
            if not unit_is_valid(unit.folder, key):
                return None
            found[unit.place] = key.digest
    except (StoreError, OSError):
        return None
    return found


def problem(workspace: Workspace, last: str = PLAN[-1].name, but: str = "") -> str | None:
    """The first unit that is not up to date, with the reason; None when all are.

    Args:
        workspace: to look at.
        last: name of the last step that counts.
        but: name of a unit of the first step that does not count.
    """
    for step in through(last):
        try:
            for unit in step.units_in(workspace):
                if (step is PLAN[0] and unit.name == but) or (found := unit.problem()) is None:
                    continue
                return f"{unit.place}: {found}"
        except (StoreError, OSError) as error:
            return f"{step.name}: {error}"
    return None
