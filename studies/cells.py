"""A cell of a study: one workspace, cached and logged like any other.

The units of a cell run in the flow's order without a Prefect server: a study is dozens of short
runs.
"""

import multiprocessing
import os
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fmbseg.params_edit import write_params
from fmbseg.progress import progress
from fmbseg.steps import evaluate, plan
from fmbseg.steps.workspace import Workspace
from fmbseg.store import MANIFEST, file_sha, read_json
from studies.worker import end_with_parent, work

PARAMS = Path("params.yaml")
AT_ONCE = 2
"""Processes, and so cells that are computed at the same time."""


class CellError(RuntimeError):
    """A cell failed; says where its log is."""


@dataclass(frozen=True)
class Cell:
    """A workspace and how it differs from a params.yaml.

    Attributes:
        root: its folder.
        overrides: dotted key to value.
        base: a cell to finish first; what is equal there is not computed again here.
        prepare: makes what the parameters name, once `base` is done.
        until: its last step; a cell that others share images and masks with may end early.
        params: the file that it differs from; the checkout's.
    """

    root: Path
    overrides: Mapping[str, Any]
    base: "Cell | None" = None
    prepare: Callable[[], None] | None = field(default=None, compare=False)
    until: str = plan.PLAN[-1].name
    params: Path = PARAMS

    @property
    def workspace(self) -> Workspace:
        """The workspace itself."""
        return Workspace.open(self.root)

    def metrics(self, method: str, data_set: str) -> dict[str, Any]:
        """A metric file."""
        unit = evaluate.unit_name(method, data_set)
        folder = self.workspace.evaluate / unit
        return dict(read_json(folder / "metrics.json"))

    def run(self, processes: Executor) -> float:
        """Bring it up to date in a process of the pool.

        Returns:
            How many seconds that took; 0 when it was up to date.

        Raises:
            CellError: a step failed.
        """
        self.write_params()
        if self.prepare is not None:
            self.prepare()
        if self._up_to_date():
            return 0.0
        if self.base is not None:
            share(self.base.root, self.root)
        began = time.perf_counter()
        log = self.root / ".scratch" / "cell.log"
        log.parent.mkdir(exist_ok=True)
        try:
            done = processes.submit(work, self.root, self.until, log).result()
        except BrokenProcessPool as error:
            raise CellError(f"{self.root}: its process was killed; log: {log}") from error
        if not done:
            last = log.read_text(errors="replace").strip().splitlines()[-3:]
            raise CellError(f"{self.root}: {' | '.join(last)}; the whole log: {log}")
        return time.perf_counter() - began

    def write_params(self) -> None:
        """Write its params.yaml, always anew: the defaults may have changed."""
        self.root.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(self.params, self.root / PARAMS)
        write_params(self.root / PARAMS, dict(self.overrides))

    def _up_to_date(self) -> bool:
        return up_to_date(self.workspace, self.until)


def up_to_date(workspace: Workspace, until: str = plan.PLAN[-1].name) -> bool:
    """Whether all units of a workspace fit its parameters, up to those of a step."""
    try:
        return plan.problem(workspace, until) is None
    except ValueError:  # a key needs what earlier steps have yet to make
        return False


SHARED = ("data/download/[!.]*", "data/pseudo_masks/[!.]*", "reports/review")
"""Units that do not depend on how a workspace trains and scores."""


def share(base: Path, root: Path, patterns: Sequence[str] = SHARED) -> None:
    """Link one workspace's images and pseudo masks, or other units, into another.

    Units replace whole folders and keys hold no paths: what fits is found valid there, what does
    not fit is made anew, and the base's own files are never written to.
    """
    for unit in sorted(found for one in patterns for found in base.glob(f"{one}/{MANIFEST}")):
        target = root / unit.parent.relative_to(base)
        if (target / MANIFEST).is_file() and file_sha(target / MANIFEST) == file_sha(unit):
            continue
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(unit.parent, target, copy_function=os.link)


def run_all(cells: Sequence[Cell], title: str) -> dict[Path, float]:
    """Bring all and their bases up to date, bases first, `AT_ONCE` at the same time.

    Returns:
        Root to the seconds it took.

    Raises:
        CellError: the first that failed, once the others under way have ended.
    """
    futures: dict[Path, Future[float]] = {}
    started = time.perf_counter()

    def one(cell: Cell) -> float:
        if cell.base is not None:
            futures[cell.base.root].result()
        return cell.run(processes)

    ordered = sorted(_with_bases(cells), key=_depth)
    with (
        ProcessPoolExecutor(
            AT_ONCE, multiprocessing.get_context("spawn"), initializer=end_with_parent
        ) as processes,
        ThreadPoolExecutor(AT_ONCE) as threads,
        progress(title, total=len(ordered), unit="cell") as done,
    ):
        for cell in ordered:
            futures[cell.root] = threads.submit(one, cell)
        for cell in ordered:
            try:
                futures[cell.root].result()
            except BaseException:
                threads.shutdown(wait=True, cancel_futures=True)
                raise
            done.update()
    seconds = {root: future.result() for root, future in futures.items()}
    fresh = sum(value > 0 for value in seconds.values())
    took = time.perf_counter() - started
    print(f"{title}: {fresh} of {len(ordered)} cells computed in {took:.0f} s")
    return seconds


def _depth(cell: Cell) -> int:
    return 0 if cell.base is None else 1 + _depth(cell.base)


def _with_bases(cells: Sequence[Cell]) -> list[Cell]:
    found = {cell.root: cell for cell in cells}
    waiting = list(cells)
    while waiting:
        base = waiting.pop().base
        if base is not None and base.root not in found:
            found[base.root] = base
            waiting.append(base)
    return list(found.values())
