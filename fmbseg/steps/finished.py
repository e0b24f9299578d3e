"""What the last finished run covered: `reports/finished.json`."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from fmbseg.steps.corrections import copied_contents
from fmbseg.steps.workspace import DROPS, Workspace
from fmbseg.store import StoreError, read_json, write_json


def finished_path(workspace: Workspace) -> Path:
    """Where a finished run records what it covered."""
    return workspace.root / "reports" / "finished.json"


def remember(workspace: Workspace) -> None:
    """Record what the run that just finished covered."""
    from fmbseg.steps import plan  # brings every step's libraries; a look needs none

    write_json(
        finished_path(workspace),
        {
            "finished_at": datetime.now(UTC).isoformat(timespec="seconds"),
            "drops": _covered(workspace), "corrections": copied_contents(workspace),
            "units": plan.keys(workspace),
        },
    )  # fmt: skip


def finished_at(workspace: Workspace) -> datetime | None:
    """When the last run finished; None before the first."""
    last = last_finished(workspace)
    return datetime.fromisoformat(last["finished_at"]) if last else None


def last_finished(workspace: Workspace) -> dict[str, Any] | None:
    """What the last run recorded; None where that is damaged, so that a new run replaces it."""
    try:
        found = read_json(finished_path(workspace))
        return {
            "finished_at": str(found["finished_at"]), "drops": dict(found["drops"]),
            "corrections": dict(found.get("corrections", {})),
        }  # fmt: skip
    except (StoreError, KeyError, TypeError, ValueError):
        return None


def _covered(workspace: Workspace) -> dict[str, str]:
    """Name below `data.drops` to SHA-256, of the listing's images that lie there."""
    prefix = f"{DROPS}/"
    if not (workspace.downloads / DROPS).is_dir():
        inside, drops = workspace.images_root().resolve(), workspace.drops.resolve()
        if not drops.is_relative_to(inside):
            return {}
        prefix = "" if drops == inside else f"{drops.relative_to(inside).as_posix()}/"
    return {
        name.removeprefix(prefix): sha
        for name, sha in workspace.listing().images.items()
        if name.startswith(prefix)
    }
