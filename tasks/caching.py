"""One truth for Prefect's cache: the manifest in a unit's output folder.

A task's cache key is its unit's content key. When the unit's files are missing or were edited,
the record under that key is dropped first, so the task runs again.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prefect.cache_policies import CachePolicy
from prefect.context import TaskRunContext

from fmbseg.steps.workspace import Workspace
from fmbseg.store import UnitKey, unit_is_valid

RESULTS = Path(".prefect-results")
"""Prefect's records of finished tasks; deleting them costs no recomputation."""


@dataclass
class UnitPolicy(CachePolicy):
    """Cache by the key of the unit that a task makes.

    Attributes:
        unit: (workspace, the task's other arguments) to the unit's folder and its content key.
    """

    unit: Callable[..., tuple[Path, UnitKey]] | None = None

    def compute_key(
        self,
        task_ctx: TaskRunContext,
        inputs: dict[str, Any],
        flow_parameters: dict[str, Any],
        **kwargs: Any,
    ) -> str | None:
        """The unit's key, after a stale record under it was dropped."""
        assert self.unit is not None
        arguments = dict(inputs)
        workspace = Workspace.open(arguments.pop("root"))
        folder, key = self.unit(workspace, **arguments)
        record = f"{key.digest}-{Path(folder).resolve().as_posix().replace('/', '_')[-80:]}"
        if not unit_is_valid(folder, key):
            (RESULTS / record).unlink(missing_ok=True)
        return record
