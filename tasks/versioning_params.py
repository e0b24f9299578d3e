"""dvc.lock of a run with parameters of its own: it records those, not what params.yaml holds.

`dvc commit` records the values that stand in params.yaml. Outputs that were made with others would
pass for up to date then, so the run's own values take their place: `dvc status` shows that
params.yaml differs from what the outputs were made with.
"""

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

import yaml
from ruamel.yaml import YAML

from fmbseg.store import write_bytes

_BEFORE = Path(".dvc") / "tmp" / "fmbseg.dvc.lock"
"""dvc.lock as it was, while one is written that holds params.yaml's values for a moment."""


@contextmanager
def own_params_recorded(repository: Path, params: Path) -> Iterator[None]:
    """Let the block write dvc.lock, then put the run's own parameters into it.

    Killed in between, the next run puts dvc.lock back (`restore_dvc_lock`).

    Args:
        repository: the workspace.
        params: the file that the run's parameters were read from.
    """
    lock, before = repository / "dvc.lock", repository / _BEFORE
    if params == repository / "params.yaml":
        yield
        return
    write_bytes(before, lock.read_bytes() if lock.is_file() else b"")
    yield
    if lock.is_file():
        _record(lock, yaml.safe_load(params.read_text()))
    before.unlink()


def restore_dvc_lock(repository: Path) -> None:
    """Put dvc.lock back where a run was killed before its parameters stood in it."""
    before = repository / _BEFORE
    if not before.is_file():
        return
    content = before.read_bytes()
    if content:
        write_bytes(repository / "dvc.lock", content)
    else:
        (repository / "dvc.lock").unlink(missing_ok=True)
    before.unlink()


def _record(lock: Path, tree: dict[str, Any]) -> None:
    yaml = YAML()
    yaml.width = 4096
    content = yaml.load(lock.read_bytes())
    for stage in content["stages"].values():
        recorded = stage.get("params", {}).get("params.yaml", {})
        for dotted in recorded:
            recorded[dotted] = copy.deepcopy(_value(tree, dotted))  # else ruamel writes aliases
    written = BytesIO()
    yaml.dump(content, written)
    write_bytes(lock, written.getvalue())


def _value(tree: dict[str, Any], dotted: str) -> Any:
    value: Any = tree
    for part in dotted.split("."):
        value = value[part]
    return value
