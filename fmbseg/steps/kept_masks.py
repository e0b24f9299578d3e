"""The masks that are trained on: which step makes them, and where they lie."""

from pathlib import Path

from fmbseg.steps.workspace import Workspace

MASKS_FROM = "subsample"
"""Name of the step whose masks are trained on."""


def masks_file(workspace: Workspace) -> Path:
    """The COCO file of the masks that are trained on."""
    return workspace.root / "data" / MASKS_FROM / "kept.json"
