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

from fmbseg.params_edit import round_trip_yaml
from fmbseg.params_yaml import read_tree, value_at
from fmbseg.store import write_bytes

_BEFORE = Path(".dvc") / "tmp" / "fmbseg.dvc.lock"
"""dvc.lock as it was, while one is written that may not stay."""


@contextmanager
def dvc_lock_kept(repository: Path) -> Iterator[None]:
    """Put dvc.lock back when the block fails: it must not vouch for outputs that were refused.

    Killed in between, the next call puts it back.
    """
    lock, before = repository / "dvc.lock", repository / _BEFORE
    if before.is_file():
        _put_back(lock, before)
    write_bytes(before, lock.read_bytes() if lock.is_file() else b"")
    try:
        yield
    except BaseException:
        _put_back(lock, before)
        raise
    before.unlink()


def record_params(repository: Path, params: Path) -> None:
    """Put a run's parameters into dvc.lock, in place of those that stand in params.yaml.

    Args:
        repository: the workspace.
        params: the file that the run's parameters were read from.
    """
    lock = repository / "dvc.lock"
    if params == repository / "params.yaml" or not lock.is_file():
        return
    tree, yaml = read_tree(params), round_trip_yaml()
    content = yaml.load(lock.read_bytes())
    for stage in content["stages"].values():
        recorded = stage.get("params", {}).get("params.yaml", {})
        for dotted in recorded:
            recorded[dotted] = copy.deepcopy(value_at(tree, dotted))  # else ruamel writes aliases
    written = BytesIO()
    yaml.dump(content, written)
    write_bytes(lock, written.getvalue())


def _put_back(lock: Path, before: Path) -> None:
    content = before.read_bytes()
    if content:
        write_bytes(lock, content)
    else:
        lock.unlink(missing_ok=True)
    before.unlink()
