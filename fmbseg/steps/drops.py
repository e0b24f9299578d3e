"""What arrived in `data.drops` since the last finished run."""

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from fmbseg.steps import units
from fmbseg.steps.workspace import Workspace
from fmbseg.store import write_json


@dataclass(frozen=True)
class News:
    """How `data.drops` differs from what the last finished run covered.

    Attributes:
        added: names of readable new images.
        replaced: names whose content changed.
        removed: names that are gone.
        bad: `{"image", "reason"}` of new files that cannot be used.
        digest: of the folder's whole content.
    """

    added: tuple[str, ...]
    replaced: tuple[str, ...]
    removed: tuple[str, ...]
    bad: tuple[dict[str, str], ...]
    digest: str

    @property
    def wants_run(self) -> bool:
        """Whether there is something to train on, or to forget; bad files alone are not."""
        return bool(self.added or self.replaced or self.removed)


def finished_path(workspace: Workspace) -> Path:
    """Where a finished run records what it covered."""
    return workspace.root / "reports" / "finished.json"


def remember(workspace: Workspace) -> None:
    """Record what the run that just finished covered."""
    write_json(
        finished_path(workspace),
        {
            "finished_at": datetime.now(UTC).isoformat(timespec="seconds"),
            "drops": _covered(workspace),
            "units": units.keys(workspace),
        },
    )


def _covered(workspace: Workspace) -> dict[str, str]:
    prefix = "drops/"
    return {
        name.removeprefix(prefix): sha
        for name, sha in workspace.listing().images.items()
        if name.startswith(prefix)
    }
