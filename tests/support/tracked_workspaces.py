"""Workspaces whose runs go to an MLflow database, and what stands there."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml
from mlflow import MlflowClient

from fmbseg.steps.workspace import Workspace
from fmbseg.store import read_json, sha_of, write_json

Copy = Callable[[str], Path]
"""Makes another copy of a finished workspace under a name; all share one database."""


def set_params(root: Path, **sections: dict[str, Any]) -> Workspace:
    params = yaml.safe_load((root / "params.yaml").read_text())
    for section, values in sections.items():
        params[section] |= values
    (root / "params.yaml").write_text(yaml.safe_dump(params))
    return Workspace.open(root)


def new_database(folder: Path) -> None:
    """An empty database, which takes seconds."""
    MlflowClient(tracking_uri=f"sqlite:///{folder}/mlflow.db")


def copies(small_run: Path, database: Path, folder: Path) -> Copy:
    """Copies of a run in a folder, and of a database for them."""
    shutil.copyfile(database / "mlflow.db", folder / "mlflow.db")

    def make(name: str) -> Path:
        root = folder / name
        shutil.copytree(small_run, root, ignore=shutil.ignore_patterns(".scratch"))
        set_params(root, tracking={"uri": f"sqlite:///{folder}/mlflow.db"})
        return root

    return make


def client_of(root: Path) -> MlflowClient:
    return MlflowClient(tracking_uri=Workspace.open(root).params.tracking.uri)


def parents(client: MlflowClient) -> list[Any]:
    experiment = client.get_experiment_by_name("fmbseg")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id])
    return [run for run in runs if "mlflow.parentRunId" not in run.data.tags]


def read_artifact(client: MlflowClient, run: str, path: str, folder: Path) -> Path:
    folder.mkdir(exist_ok=True)
    return Path(client.download_artifacts(run, path, str(folder)))


def steps_of(client: MlflowClient, run: str) -> list[int]:
    return [metric.step for metric in client.get_metric_history(run, "loss")]


def another_result(root: Path, miou: float, *, retrained: bool = True, **figures: str) -> None:
    """As if another training had been scored: other figures, other keys of the two units."""
    folder = Workspace.open(root).evaluate / "fmbseg-miniature"
    metrics = read_json(folder / "metrics.json") | {"miou": miou} | figures
    write_json(folder / "metrics.json", metrics)
    for unit in [folder, *([root / "models" / "train"] if retrained else [])]:
        manifest = read_json(unit / "manifest.json")
        write_json(
            unit / "manifest.json",
            manifest | {"key": sha_of([manifest["key"], root.name, metrics])},
        )
