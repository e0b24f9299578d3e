"""One method on one data set as a nested run: figures, tables and pictures."""

import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from fmbseg.steps.scoring import IMAGE_SCORES
from fmbseg.steps.workspace import Workspace
from fmbseg.store import read_json
from tasks.tracking import run_figures
from tasks.tracking.facts import Result
from tasks.tracking.mlflow_client import data_sets, runs
from tasks.tracking.mlflow_client.store import RetryingClient


def log_method(
    client: RetryingClient, workspace: Workspace, experiment: str, parent: str, result: Result
) -> None:
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
    runs.log_facts(client, run, {}, {name: str(found[name]) for name in named})
    data_sets.log_evaluation_sets(client, workspace, run, [result])
    figures = run_figures.of_result(result)
    runs.log_metrics(client, run, runs.scored(workspace, result, figures))
    client.log_dict(run, found["protocol"], "protocol.json")
    for name in ("quarantine.json", "examples"):
        if (result.folder / name).exists():
            client.log_artifact(run, str(result.folder / name))
    rows = [{"class": name, "iou": value} for name, value in found["iou"].items()]
    tables = {"iou_per_class.json": rows}
    if pictured := run_figures.worst_and_best(read_json(result.folder / IMAGE_SCORES), _picture):
        tables["worst_and_best_images.json"] = pictured
    runs.log_tables(client, run, tables)
    _log_confusion(client, run, result)
    client.set_terminated(run)


def _picture(file: str) -> dict[str, Any]:
    """The cell of a table in which MLflow shows a picture among the run's files."""
    return {"type": "image", "filepath": file, "compressed_filepath": file}


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
