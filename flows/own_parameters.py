"""A run's own parameters: checked first, laid over params.yaml for this run, kept when asked for.

params.yaml is not touched while a run is under way. What differs from it goes into a file below
`.scratch/params/`, named after its content, and the run's tasks are handed that file's path in
place of the workspace's. A run that fails or is killed leaves params.yaml as it was.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from prefect import get_run_logger, runtime
from prefect.client.orchestration import get_client

from flows.parameters import Parameters
from fmbseg.params import Params, load_params
from fmbseg.params_edit import lay_over, write_params
from fmbseg.params_yaml import value_at
from fmbseg.steps.download import check
from fmbseg.steps.ready import require_ready
from fmbseg.steps.workspace import RUN_PARAMS, Workspace
from fmbseg.store import file_sha

_OF_THE_MACHINE = (
    "data.drops", "data.corrections", "data.benchmarks", "drops", "tracking.uri",
    "runner.dask_address",
)  # fmt: skip
"""Keys that only the operator may set: where data lies and which servers are used."""


class RequestError(ValueError):
    """A request asks for what a request may not; the text is one line."""


@dataclass(frozen=True)
class Began:
    """The state in which a run started.

    Attributes:
        place: what its tasks are handed: the workspace, or the file of the run's own parameters.
        params: the checked sections.
        params_sha: SHA-256 of the file that they were read from.
        changes: dotted key to value of what is this run's own.
        before: the same keys' values in params.yaml.
        keep: whether the changes go into params.yaml in the end.
        stale: dotted keys that a form showed with a value that params.yaml no longer has.
    """

    place: str
    params: Params
    params_sha: str
    changes: Mapping[str, Any] = field(default_factory=dict)
    before: Mapping[str, Any] = field(default_factory=dict)
    keep: bool = False
    stale: tuple[str, ...] = ()


def begin(root: str, parameters: Parameters, shown: Mapping[str, Any] | None = None) -> Began:
    """Check what no step could use, and lay a run's own parameters over params.yaml.

    Args:
        root: the workspace.
        parameters: the run's own.
        shown: see `Parameters.overrides`.

    Raises:
        ParamsError: a parameter is unknown or out of range.
        RequestError: a key that only params.yaml itself may hold.
        DataError: images, classes or labels are not there.
        VocabularyError: the class file cannot be used.
        NotReadyError: the device or the models' weights are not on this machine.
    """
    path = Path(root) / "params.yaml"
    changes = parameters.overrides(shown)
    for dotted in changes:
        if any(dotted == key or dotted.startswith(f"{key}.") for key in _OF_THE_MACHINE):
            raise RequestError(f"{dotted}: not for a request to say; set it in {path}")
    today, params = load_params(path), load_params(path, changes)
    workspace = Workspace(Path(root), params)
    check(workspace)
    require_ready(workspace)
    alone = parameters.left_alone(shown or {})
    stale = tuple(key for key, value in alone.items() if _value(today, key) != value)
    before = {dotted: _value(today, dotted) for dotted in changes}
    changes = {k: v for k, v in changes.items() if before[k] != _value(params, k)}
    if not changes:
        return Began(root, params, file_sha(path), stale=stale)
    own = _laid_over(path, changes)
    return Began(str(own), params, file_sha(own), changes, before, parameters.keep, stale)


def keep(root: str, began: Began) -> None:
    """Write the run's own parameters to params.yaml when that was asked for, comments kept."""
    if began.keep:
        write_params(Path(root) / "params.yaml", dict(began.changes))


def say_changes(began: Began) -> None:
    """Log what is this run's own, and what that means for params.yaml and DVC."""
    for key in began.stale:
        get_run_logger().warning(
            "%s: the form showed an older value than params.yaml has now; that of params.yaml "
            "counts. `make serve`, begun again, shows it", key,
        )  # fmt: skip
    if not began.changes:
        return
    own = ", ".join(
        f"{k} {v!r} (params.yaml: {began.before[k]!r})" for k, v in began.changes.items()
    )
    after = (
        "written there once the run has succeeded"
        if began.keep
        else "params.yaml stays as it is (keep: true writes them); outputs and dvc.lock will be "
        "those of this run, and `dvc status` will say so; the next run computes only what differs"
    )
    get_run_logger().info("this run's own parameters: %s; %s", own, after)


def require_own(root: str) -> None:
    """Refuse a request for a workspace that is none of this checkout's.

    Raises:
        RequestError: not the checkout, nor a folder with a params.yaml below its runs/.
    """
    place, runs = Path(root).resolve(), Path("runs").resolve()
    if place != Path().resolve() and not place.is_relative_to(runs):
        raise RequestError(f"root: found {root!r}; wanted '.' or a workspace below runs/")


def shown_values() -> dict[str, Any]:
    """What the form of this run's deployment shows; nothing for a run without one."""
    deployment = runtime.deployment.id
    if deployment is None:
        return {}
    with get_client(sync_client=True) as client:
        schema = client.read_deployment(deployment).parameter_openapi_schema or {}
    fields = schema.get("definitions", {}).get("Parameters", {}).get("properties", {})
    return {
        name: one["default"]
        for name, one in fields.items()
        if name not in ("others", "keep") and one.get("default") is not None
    }


def _value(params: Params, dotted: str) -> Any:
    return value_at(params.model_dump(mode="json"), dotted)


def _laid_over(path: Path, changes: dict[str, Any]) -> Path:
    """The file of a run's own parameters; the same parameters give the same file."""
    folder = path.parent / RUN_PARAMS
    folder.mkdir(parents=True, exist_ok=True)
    made = folder / f"{os.getpid()}.new"
    lay_over(path, changes, made)
    own = folder / f"{file_sha(made)[:16]}.yaml"
    os.replace(made, own)
    return own
