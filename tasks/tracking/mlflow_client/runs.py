"""Runs of MLflow: how one is found or made, and how what a pipeline run holds is logged to it."""

import json
import os
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, RunTag

from fmbseg.params import redact
from fmbseg.steps.shards import quarantined
from fmbseg.steps.workspace import Workspace
from fmbseg.store import read_json
from tasks.tracking import run_figures
from tasks.tracking.facts import Result, fingerprint, flat_params, one_line
from tasks.tracking.mlflow_client.store import RetryingClient

NOTE = "mlflow.note.content"
"""The run's description, which MLflow reads as Markdown."""
TRAIN_KEY = "key.train"
"""Tag of a run: key of the training's unit."""
VALIDATION = "validation_miou"
"""mIoU of the head on some labelled images while it is trained."""
_SOURCE = {"mlflow.source.name": "flows/pipeline.py", "mlflow.source.type": "PROJECT"}
_METRICS_AT_ONCE = 999
"""MLflow takes 1000; the three of a training's point stay together."""
_FACTS_AT_ONCE = 100
"""MLflow takes no more params or tags."""


def unfinished_runs(
    client: RetryingClient, experiment: str, workspace: Workspace, train_key: str
) -> list[Any]:
    """Unfinished runs of this training here, newest first, whose params are still true."""
    wanted = f"tags.`{TRAIN_KEY}` = '{train_key}' and attributes.status != 'FINISHED'"
    params = flat_params(workspace)
    return [
        run
        for run in client.search_runs([experiment], wanted)
        if is_of(run, workspace)
        and all(params.get(name) == value for name, value in run.data.params.items())
    ]


def create_run(
    client: RetryingClient, experiment: str, workspace: Workspace, train_key: str
) -> str:
    """A new parent run; its id."""
    tags = {**_SOURCE, TRAIN_KEY: train_key, "workspace": _location(workspace), **experiment_tags()}
    name = tags.get("dvc.experiment", f"{workspace.name}-{train_key[:6]}")
    return str(client.create_run(experiment, run_name=name, tags=tags).info.run_id)


def experiment_tags() -> dict[str, str]:
    """Name and baseline of the `dvc exp run` that this process belongs to; empty outside one."""
    names = {"dvc.experiment": "DVC_EXP_NAME", "dvc.baseline": "DVC_EXP_BASELINE_REV"}
    return {tag: os.environ[name] for tag, name in names.items() if os.environ.get(name)}


def is_of(run: Any, workspace: Workspace) -> bool:
    """Whether a run was made in this workspace."""
    return bool(run.data.tags.get("workspace") == _location(workspace))


def log_facts(
    client: RetryingClient, run: str, tags: dict[str, str], params: dict[str, str]
) -> None:
    """Log tags, and the params that the run does not have yet (a logged one cannot change)."""
    known = client.get_run(run).data.params
    new = [Param(key, value) for key, value in params.items() if key not in known]
    marks = [
        RunTag(key, value[:5000] if key == NOTE else one_line(value, 5000))
        for key, value in tags.items()
    ]
    for start in range(0, max(len(new), len(marks)), _FACTS_AT_ONCE):
        part = slice(start, start + _FACTS_AT_ONCE)
        client.log_batch(run, params=new[part], tags=marks[part])


def log_data_set(client: RetryingClient, workspace: Workspace, run: str) -> None:
    """Log the training images as the run's input."""
    data_set = Dataset(
        name=workspace.name,
        digest=fingerprint(workspace),
        source_type="local",
        source=json.dumps({"uri": redact(str(workspace.images_root()))}),
        profile=json.dumps({"images": len(workspace.listing().images)}),
    )
    training = InputTag("mlflow.data.context", "training")
    client.log_inputs(run, datasets=[DatasetInput(data_set, [training])])


def last_step(client: RetryingClient, run: str) -> int:
    """Step of the last loss that the run has; 0 when it has none."""
    return max((int(m.step) for m in client.get_metric_history(run, "loss")), default=0)


def log_points(
    client: RetryingClient, run: str, points: Sequence[dict[str, float]], after: int
) -> int:
    """Log the history's points with a step beyond `after`; the last step that is logged then."""
    new = [point for point in points if point["step"] > after]
    now, names = _now(), ("loss", "learning_rate", "epoch")
    log_metrics(
        client, run, [Metric(n, float(p[n]), now, int(p["step"])) for p in new for n in names]
    )
    return int(new[-1]["step"]) if new else after


def log_validation(client: RetryingClient, run: str, points: Sequence[dict[str, float]]) -> None:
    """Log the points of the validation curve, {step, epoch, miou, images}, that the run lacks."""
    if not points:
        return
    known, now = {int(m.step) for m in client.get_metric_history(run, VALIDATION)}, _now()
    new = [point for point in points if point["step"] not in known]
    log_metrics(
        client, run, [Metric(VALIDATION, float(p["miou"]), now, int(p["step"])) for p in new]
    )


def log_metrics(client: RetryingClient, run: str, metrics: Sequence[Metric]) -> None:
    """Log metrics, as many at once as MLflow takes."""
    for start in range(0, len(metrics), _METRICS_AT_ONCE):
        client.log_batch(run, metrics=metrics[start : start + _METRICS_AT_ONCE])


def log_figures(
    client: RetryingClient, workspace: Workspace, run: str, model_ids: dict[str, str]
) -> None:
    """Log every single figure that the run does not have yet.

    Args:
        client: of the store.
        workspace: whose figures.
        run: the parent run.
        model_ids: method to the logged model that its figures belong to, where there is one.
    """
    known, now = client.get_run(run).data.metrics, _now()
    groups = {"": run_figures.of_run(workspace), **run_figures.of_results(workspace)}
    metrics = [
        Metric(name, value, now, 0, model_id=model_ids.get(method))
        for method, group in groups.items()
        for name, value in group.items()
        if name not in known
    ]
    log_metrics(client, run, metrics)


def log_files(client: RetryingClient, workspace: Workspace, run: str, keys: dict[str, str]) -> None:
    """Log the run's tables, lists and the report."""
    _log_tables(client, run, run_figures.tables_of_run(workspace))
    client.log_dict(run, {"quarantined": quarantined(workspace)}, "quarantine.json")
    client.log_dict(run, keys, "units.json")
    client.log_artifact(run, str(workspace.report / "index.html"), "report")


def log_method(client: RetryingClient, experiment: str, parent: str, result: Result) -> None:
    """Log one method on one data set as a nested run, unless the parent has it already."""
    mine = f"tags.mlflow.parentRunId = '{parent}' and tags.method = '{result.name}'"
    for old in client.search_runs([experiment], mine):
        if old.data.tags.get("key.unit") == result.key and old.info.status == "FINISHED":
            return
        client.delete_run(old.info.run_id)
    found = result.figures
    tags = {
        "mlflow.parentRunId": parent,
        "mlflow.runName": f"{found['method']} on {found['data_set']}",
        "method": result.name,
        "key.unit": result.key,
    }
    run = client.create_run(experiment, tags=tags).info.run_id
    named = ("method", "data_set", "split", "protocol_hash", "seed")
    log_facts(client, run, {}, {name: str(found[name]) for name in named})
    values, now = run_figures.of_result(result).items(), _now()
    log_metrics(client, run, [Metric(name, value, now, 0) for name, value in values])
    client.log_dict(run, found["protocol"], "protocol.json")
    rows = [{"class": name, "iou": value} for name, value in found["iou"].items()]
    _log_tables(client, run, {"iou_per_class.json": rows})
    _log_confusion(client, run, result)
    for name in ("quarantine.json", "examples"):
        if (result.folder / name).exists():
            client.log_artifact(run, str(result.folder / name))
    client.set_terminated(run)


def _log_confusion(client: RetryingClient, run: str, result: Result) -> None:
    from tasks.tracking.confusion_picture import draw_confusion  # brings matplotlib

    found, names = result.figures, list(result.figures["iou"])
    matrix = np.asarray(read_json(result.folder / "confusion.json"))
    rows_are = {"rows": "true class", "columns": "predicted class, the last one: no answer"}
    client.log_dict(
        run, {"classes": names, **rows_are, "pixels": matrix.tolist()}, "confusion.json"
    )
    with tempfile.TemporaryDirectory() as folder:
        picture = Path(folder) / "confusion.png"
        title = f"{found['method']} on {found['data_set']} {found['split']}"
        draw_confusion(matrix, names, f"{title}, mIoU {found['miou']:.3f}", picture)
        client.log_artifact(run, str(picture))


def _log_tables(client: RetryingClient, run: str, tables: dict[str, run_figures.Table]) -> None:
    """Log tables that MLflow shows as such; unlike its own `log_table` this never appends."""
    for name, rows in tables.items():
        columns = list(rows[0])
        data = [[row[column] for column in columns] for row in rows]
        client.log_dict(run, {"columns": columns, "data": data}, name)
    listed = [{"path": name, "type": "table"} for name in tables]
    client.set_tag(run, "mlflow.loggedArtifacts", json.dumps(listed))


def _location(workspace: Workspace) -> str:
    return one_line(workspace.root.resolve().as_posix(), 5000)


def _now() -> int:
    return int(time.time() * 1000)
