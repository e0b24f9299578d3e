"""Prefect's cache follows the manifest in a unit's output folder.

A task's cache key is its unit's content key. When the unit's files are missing or were edited,
the record under that key is dropped first, so the task runs again. When they are valid without a
record (DVC made them, or they came by `dvc pull`), the record is written first: a hit like any.
"""

import errno
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prefect import Task
from prefect.cache_policies import CachePolicy
from prefect.client.schemas.objects import State, TaskRun
from prefect.context import TaskRunContext
from prefect.results import get_result_store

from fmbseg.steps.plan import unit_named
from fmbseg.steps.workspace import Workspace
from fmbseg.store import unit_is_valid

RESULTS = Path(".prefect-results")
"""Prefect's records of finished tasks; deleting them costs no recomputation."""


@dataclass
class UnitPolicy(CachePolicy):
    """Cache by the key of the unit that a task makes.

    Attributes:
        step: name of the step that the unit belongs to; the task's arguments are `root` and the
            unit's name.
    """

    step: str = ""

    def compute_key(
        self,
        task_ctx: TaskRunContext,
        inputs: dict[str, Any],
        flow_parameters: dict[str, Any],
        **kwargs: Any,
    ) -> str | None:
        """The unit's key, after the record under it was made to agree with the unit's files."""
        unit = unit_named(Workspace.open(inputs["root"]), self.step, inputs["unit"])
        folder, key = unit.folder, unit.key()
        place = hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:12]
        record = f"{folder.name}-{place}-{key.digest}"
        if not unit_is_valid(folder, key):
            (RESULTS / record).unlink(missing_ok=True)
        elif not _is_whole(RESULTS / record):
            get_result_store().write(str(folder / unit.of.file), key=record)
        return record


def _is_whole(record: Path) -> bool:
    """Whether a record is there and can be read: Prefect does not flush what it writes."""
    try:
        return isinstance(json.loads(record.read_bytes()), dict)
    except (OSError, ValueError):
        return False


def is_io_trouble(task: Task[..., Any], run: TaskRun, state: State[Any]) -> bool:
    """Whether a failed task is worth another try: trouble of disk or network, not a full disk."""
    error = state.result(raise_on_failure=False)
    missing = isinstance(error, FileNotFoundError | NotADirectoryError | PermissionError)
    full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
    return isinstance(error, OSError) and not (missing or full)
