"""What a pipeline run is: its units, params, tags and data, read from the steps' files."""

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlflow.entities import Dataset, DatasetInput, InputTag, Param, RunTag

from fmbseg.params import redact
from fmbseg.steps import evaluate
from fmbseg.steps import units as all_units
from fmbseg.steps.code import package_versions
from fmbseg.steps.workspace import Workspace
from fmbseg.store import MANIFEST, file_sha, read_json, sha_of
from tasks.tracking.mlflow_client.store import PatientClient
from tasks.tracking.text import shown

_CHECKOUT = Path(__file__).parents[2]
NOTE = "mlflow.note.content"
"""The run's description, which MLflow reads as Markdown."""
UNITS = "key.units"
"""Tag of a run: unit to the beginning of its key, as JSON."""
_BATCH = 100
"""MLflow takes no more params or tags at once."""


@dataclass(frozen=True)
class Result:
    """One method's figures on one data set.

    Attributes:
        folder: of the evaluate step.
        figures: its metrics.json.
        key: of its unit.
    """

    folder: Path
    figures: dict[str, Any]
    key: str

    @property
    def name(self) -> str:
        """`<method>.<data set>`."""
        return f"{self.figures['method']}.{self.figures['data_set']}"


def results(workspace: Workspace) -> list[Result]:
    """The methods' figures; none without labels."""
    folders = [evaluate.folder(workspace, unit) for unit in evaluate.scored(workspace)]
    return [Result(f, dict(read_json(f / "metrics.json")), unit_key(f)) for f in folders]


def unit_key(folder: Path) -> str:
    """The key in a unit's manifest."""
    return str(read_json(folder / MANIFEST)["key"])


def unit_keys(workspace: Workspace) -> dict[str, str]:
    """Folder to key of every unit whose output a run holds."""
    folders = [
        unit.folder
        for step in all_units.STEPS
        if step != "report"
        for unit in all_units.units_of(workspace, step)
    ]
    return {f.relative_to(workspace.root).as_posix(): unit_key(f) for f in folders}


def fingerprint(workspace: Workspace) -> str:
    """Digest of the training images' names and contents; 16 hexadecimal digits."""
    return sha_of(workspace.listing().images)[:16]


def flat_params(workspace: Workspace) -> dict[str, str]:
    """Dotted key to value, fit to be shown."""
    return {key: shown(value, 6000) for key, value in flatten(workspace.params.public()).items()}


def tags(workspace: Workspace, keys: dict[str, str]) -> dict[str, str]:
    """What the run was made from; hashes stand behind the prefix `key.`, after all others.

    The many shards of stage 1 count as one in `key.units`; units.json has all.
    """
    shards = {name: key for name, key in keys.items() if name.startswith("data/pseudo_masks/")}
    units = {name: key[:12] for name, key in keys.items() if name not in shards}
    units["data/pseudo_masks"] = sha_of(shards)[:12]
    lock = workspace.root / "dvc.lock"
    commit = _git("rev-parse", "HEAD") or "none"
    edited = len(_git("status", "--porcelain", "-uno").splitlines())
    beside = read_json(workspace.download / "listing.json")
    return {
        "code": f"{commit[:7]}{f' and {edited} changed files' if edited else ''}",
        "packages": ", ".join(f"{name} {found}" for name, found in package_versions().items()),
        "images": str(len(workspace.listing().images)),
        "mlflow.source.git.commit": commit,
        "key.git_commit": commit,
        "key.dvc_lock": file_sha(lock) if lock.is_file() else "none",
        "key.images": fingerprint(workspace),
        **{f"key.{name}": beside[name] for name in ("classes", "labels") if beside.get(name)},
        UNITS: json.dumps(units),
    }


def log_facts(
    client: PatientClient, run: str, tags: dict[str, str], params: dict[str, str]
) -> None:
    """Tags, and the params that the run does not have yet (a logged one cannot change)."""
    known = client.get_run(run).data.params
    new = [Param(key, value) for key, value in params.items() if key not in known]
    marks = [
        RunTag(key, value[:5000] if key == NOTE else shown(value, 5000))
        for key, value in tags.items()
    ]
    for start in range(0, max(len(new), len(marks)), _BATCH):
        part = slice(start, start + _BATCH)
        client.log_batch(run, params=new[part], tags=marks[part])


def log_data_set(client: PatientClient, workspace: Workspace, run: str) -> None:
    """The training images as the run's input."""
    count = len(workspace.listing().images)
    data_set = Dataset(
        name=workspace.name,
        digest=fingerprint(workspace),
        source_type="local",
        source=json.dumps({"uri": redact(str(workspace.images_root()))}),
        profile=json.dumps({"images": count}),
    )
    training = InputTag("mlflow.data.context", "training")
    client.log_inputs(run, datasets=[DatasetInput(data_set, [training])])


def flatten(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Dotted key to value."""
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, dict):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def _git(*arguments: str) -> str:
    try:
        found = subprocess.run(
            ["git", *arguments], cwd=_CHECKOUT, capture_output=True, text=True, check=False
        )
    except OSError:
        return ""
    return found.stdout.strip() if found.returncode == 0 else ""
