"""What the last run of a workspace left, so that a run with nothing to do can end at once.

A run looks at every unit, commits to DVC, completes its MLflow run and draws Prefect's artifacts.
Where all of that was done for the outputs that lie here now, doing it again changes nothing.
"""

import os
from pathlib import Path
from typing import Any

from fmbseg.steps import plan
from fmbseg.steps.workspace import Workspace
from fmbseg.store import StoreError, file_sha, read_json, sha_of, write_json

_FILE = Path(".scratch") / "finished.json"


def remember(root: str, store: Path | None) -> None:
    """Note that a run has done all there is to do.

    Args:
        root: the workspace.
        store: the tracker's database file; None where the tracker is a server.
    """
    workspace = Workspace.open(root)
    outputs = _outputs(workspace)
    if outputs is not None:
        state = {"outputs": outputs, "store": None if store is None else str(store)}
        write_json(workspace.root / _FILE, state)


def nothing_to_do(root: str | Path) -> bool:
    """Whether a run ended with the outputs, parameters, code and data of this moment.

    False as well where dvc.lock or the tracker's database has been changed or deleted since.
    """
    workspace = Workspace.open(root)
    try:
        found: dict[str, Any] = read_json(workspace.root / _FILE)
        store = found["store"]
        recorded = store is None or Path(store).is_file()
        return recorded and bool(found["outputs"]) and found["outputs"] == _outputs(workspace)
    except (StoreError, OSError, KeyError, TypeError):
        return False


def _outputs(workspace: Workspace) -> str | None:
    """Digest of all units' keys, params.yaml, dvc.lock and the tracker that is asked for.

    None where a unit is not up to date.
    """
    keys = plan.keys_if_done(workspace)
    if keys is None:
        return None
    paths = [workspace.root / name for name in ("params.yaml", "dvc.lock")]
    files = [file_sha(path) if path.is_file() else None for path in paths]
    return sha_of([keys, files, os.environ.get("FMBSEG_TRACKING_URI")])
