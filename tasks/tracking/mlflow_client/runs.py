"""Runs of MLflow: how one is found or made, and how what a pipeline run holds is logged to it."""

import json
import os
import time
from collections.abc import Mapping, Sequence
from typing import Any

from mlflow.entities import Metric, Param, RunTag

from fmbseg.steps.shards import quarantined
from fmbseg.steps.workspace import Workspace
from tasks.tracking import run_figures
from tasks.tracking.facts import Result, flat_params, one_line, results
from tasks.tracking.mlflow_client.data_sets import of_evaluation
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


def last_step(client: RetryingClient, run: str) -> int:
    """Step of the last loss that the run has; 0 when it has none."""
    return max((int(m.step) for m in client.get_metric_history(run, "loss")), default=0)


def log_points(
    client: RetryingClient, run: str, points: Sequence[dict[str, float]], after: int
) -> int:
    """Log the history's points with a step beyond `after`; the last step that is logged then."""
    new = [point for point in points if point["step"] > after]
    now, names = now_ms(), ("loss", "learning_rate", "epoch")
    log_metrics(
        client, run, [Metric(n, float(p[n]), now, int(p["step"])) for p in new for n in names]
    )
    return int(new[-1]["step"]) if new else after


def log_validation(client: RetryingClient, run: str, points: Sequence[dict[str, float]]) -> None:
    """Log the points of the validation curve, {step, epoch, miou, images}, that the run lacks."""
    if not points:
        return
    known, now = {int(m.step) for m in client.get_metric_history(run, VALIDATION)}, now_ms()
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
    known, now = client.get_run(run).data.metrics, now_ms()
    figures = run_figures.of_run(workspace).items()
    metrics = [Metric(name, value, now, 0) for name, value in figures]
    primary = workspace.params.tracking.primary_method
    for result in results(workspace):
        method = result.figures["method"]
        metrics += scored(
            workspace, result, run_figures.of_result_in_run(result, classes=method == primary),
            model_ids.get(method),
        )  # fmt: skip
    log_metrics(client, run, [metric for metric in metrics if metric.key not in known])


def scored(
    workspace: Workspace, result: Result, figures: Mapping[str, float], model_id: str | None = None
) -> list[Metric]:
    """Figures as metrics that name the data set they are of, and the logged model, if any."""
    name, digest = of_evaluation(workspace, result)
    return [
        Metric(
            figure, value, now_ms(), 0,
            model_id=model_id, dataset_name=name, dataset_digest=digest,
        )
        for figure, value in figures.items()
    ]  # fmt: skip


def log_files(client: RetryingClient, workspace: Workspace, run: str, keys: dict[str, str]) -> None:
    """Log the run's tables, lists and the report."""
    log_tables(client, run, run_figures.tables_of_run(workspace))
    client.log_dict(run, {"quarantined": quarantined(workspace)}, "quarantine.json")
    client.log_dict(run, keys, "units.json")
    client.log_artifact(run, str(workspace.report / "index.html"), "report")


def log_tables(client: RetryingClient, run: str, tables: dict[str, run_figures.Table]) -> None:
    """Log tables that MLflow shows as such; unlike its own `log_table` this never appends."""
    for name, rows in tables.items():
        columns = list(rows[0])
        data = [[row[column] for column in columns] for row in rows]
        client.log_dict(run, {"columns": columns, "data": data}, name)
    listed = [{"path": name, "type": "table"} for name in tables]
    client.set_tag(run, "mlflow.loggedArtifacts", json.dumps(listed))


def _location(workspace: Workspace) -> str:
    return one_line(workspace.root.resolve().as_posix(), 5000)


def now_ms() -> int:
    """The time of a metric."""
    return int(time.time() * 1000)
