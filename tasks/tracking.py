"""Task `track`: one MLflow run per state of the workspace. The only file that imports mlflow.

It reads the steps' files alone, so it logs the same whether steps ran or were cached.
"""

import hashlib
import json
import subprocess
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import Metric, Param, RunTag
from prefect import task
from prefect.cache_policies import NO_CACHE

from fmbseg.steps import evaluate, pseudo_masks
from fmbseg.steps.workspace import Workspace
from fmbseg.store import read_json

_BATCH = 1000


@task(name="track", cache_policy=NO_CACHE)
def track(root: str, dvc_lock: str = "none") -> str:
    """Log params, losses, figures and pictures; returns the MLflow run's id.

    A state that was logged before (same unit keys) is not logged twice.
    """
    workspace = Workspace.open(root)
    tracking = workspace.params.tracking
    client = MlflowClient(tracking_uri=tracking.uri)
    experiment = client.get_experiment_by_name(tracking.experiment)
    experiment_id = (
        experiment.experiment_id
        if experiment
        else client.create_experiment(
            tracking.experiment, artifact_location=Path("mlartifacts").resolve().as_uri()
        )
    )
    keys = _unit_keys(workspace)
    state = hashlib.sha256(json.dumps(keys, sort_keys=True).encode()).hexdigest()[:16]
    logged = client.search_runs(
        [experiment_id], f"tags.state = '{state}' and attributes.status = 'FINISHED'"
    )
    if logged:
        return str(logged[0].info.run_id)
    name = f"{workspace.data_set}-{state[:6]}"
    parent = client.create_run(experiment_id, run_name=name).info.run_id
    try:
        _log_run(client, workspace, parent, keys, state)
        for method in evaluate.units(workspace):
            if method != evaluate.FOUNDATION:
                _log_method(client, workspace, experiment_id, parent, method)
    except BaseException:
        client.set_terminated(parent, "FAILED")
        raise
    client.set_terminated(parent)
    return str(parent)


def _unit_keys(workspace: Workspace) -> dict[str, str]:
    folders = [
        workspace.download,
        *(workspace.pseudo_masks / shard for shard in pseudo_masks.shards(workspace)),
        workspace.subsample,
        workspace.train,
        *(evaluate.folder(workspace, method) for method in evaluate.units(workspace)),
    ]
    return {
        str(folder.relative_to(workspace.root)): str(read_json(folder / "manifest.json")["key"])
        for folder in folders
    }


def _log_run(
    client: MlflowClient, workspace: Workspace, run: str, keys: dict[str, str], state: str
) -> None:
    flat = _flatten(workspace.params.model_dump())
    tags = {
        "state": state,
        "git_commit": _git_commit(),
        **{f"unit.{k}": v for k, v in keys.items()},
    }
    client.log_batch(
        run,
        params=[Param(k, str(v)[:6000]) for k, v in flat.items()],
        tags=[RunTag(k, v) for k, v in tags.items()],
    )
    metrics: list[Metric] = []
    for entry in read_json(workspace.train / "history.json"):
        metrics += [
            Metric(name, float(entry[name]), 0, int(entry["step"]))
            for name in ("loss", "learning_rate", "epoch")
        ]
    counts = read_json(workspace.subsample / "counts.json")
    metrics.append(Metric("subsample.fraction", float(counts["fraction"]), 0, 0))
    bad = pseudo_masks.quarantined(workspace)
    metrics.append(Metric("quarantined_images", float(len(bad)), 0, 0))
    for method in evaluate.units(workspace):
        figures = read_json(evaluate.folder(workspace, method) / "metrics.json")
        if method == evaluate.FOUNDATION:
            metrics += [Metric(k, float(v), 0, 0) for k, v in _flatten(figures).items()
                        if isinstance(v, float)]  # fmt: skip
        else:
            metrics.append(Metric(f"miou.{method}.{figures['data_set']}", figures["miou"], 0, 0))
    for start in range(0, len(metrics), _BATCH):
        client.log_batch(run, metrics=metrics[start : start + _BATCH])
    client.log_dict(run, counts, "pseudo_mask_counts.json")
    client.log_dict(run, {"quarantined": bad}, "quarantine.json")
    client.log_artifact(run, str(workspace.report / "index.html"), "report")


def _log_method(
    client: MlflowClient, workspace: Workspace, experiment_id: str, parent: str, method: str
) -> None:
    folder = evaluate.folder(workspace, method)
    figures = read_json(folder / "metrics.json")
    tags = {"mlflow.parentRunId": parent, "mlflow.runName": f"{method} on {figures['data_set']}"}
    run = client.create_run(experiment_id, tags=tags).info.run_id
    named = ("method", "data_set", "split", "protocol_hash", "seed")
    client.log_batch(
        run,
        metrics=[
            Metric(name, float(figures[name]), 0, 0)
            for name in ("miou", "pixel_accuracy", "seconds_per_image", "images")
        ]
        + [Metric(f"iou.{_safe(name)}", value, 0, 0)
           for name, value in figures["iou"].items() if value is not None],
        params=[Param(name, str(figures[name])) for name in named],
    )  # fmt: skip
    client.log_dict(run, figures["protocol"], "protocol.json")
    table = {"class": list(figures["iou"]), "iou": list(figures["iou"].values())}
    client.log_table(run, table, "iou_per_class.json")
    client.log_artifact(run, str(folder / "confusion.json"))
    if (folder / "examples").is_dir():
        client.log_artifacts(run, str(folder / "examples"), "examples")
    client.set_terminated(run)


def _flatten(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, dict):
            flat |= _flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def _safe(name: str) -> str:
    """A class name in the characters that a metric's name may have."""
    return "".join(c if c.isalnum() or c in "_-. /" else "_" for c in name)


def _git_commit() -> str:
    found = subprocess.run(
        ["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False
    )
    return found.stdout.strip() or "none"
