"""How a step makes one unit: under a lock, with room on the disk, noted in the journal."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from fmbseg.steps.workspace import Workspace
from fmbseg.store import UnitKey, explain_full_disk, require_space, sha_of
from fmbseg.store import run_unit as run_stored_unit


def run_unit(
    workspace: Workspace,
    step: str,
    folder: Path,
    key: UnitKey,
    compute: Callable[[Path], dict[str, Any] | None],
    *,
    keep: Path | None = None,
    needs_bytes: int = 0,
) -> bool:
    """`store.run_unit` with the run's number of torch threads and a line in the journal.

    Args:
        workspace: whose unit.
        step: name of the step.
        folder: the unit's folder.
        key: what the unit is computed from.
        compute: writes the outputs into the folder it is handed; may return notes for the
            journal.
        keep: folder of resume state.
        needs_bytes: about how much it will write.

    Returns:
        True when there was something to do.

    Raises:
        DiskFullError: the disk has less room than that, or filled up; what is there is whole.
    """
    notes: dict[str, Any] = {}
    what = f"{step} {folder.name}"

    def noted(out: Path) -> None:
        import torch

        torch.set_num_threads(workspace.params.threads)
        require_space(out, needs_bytes, what)
        notes.update(compute(out) or {})

    place = folder.relative_to(workspace.root).as_posix()
    journal = workspace.journal.entry(step, place, key.digest)
    with explain_full_disk(what, folder), journal as entry:
        entry.computed = run_stored_unit(folder, key, noted, keep=keep)
        entry.notes = {"like": like(workspace, step), "of_images": workspace.size(), **notes}
    return entry.computed


def like(workspace: Workspace, step: str) -> str:
    """Digest of what two units of a step share that take about the same time an image."""
    p = workspace.params
    sections = {step, "models"} | ({"pseudo_masks"} if step == "evaluate" else set())
    return sha_of([p.model_dump(include=sections), p.device, p.runtime.precision, p.threads])[:12]
