"""What an MLflow run holds of a pipeline run: curves, figures, tables, pictures, nested runs."""

import json
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from mlflow.entities import Metric

from fmbseg.evaluate.counts import MaskCount
from fmbseg.evaluate.metrics import METRICS
from fmbseg.steps import figures as found_figures
from fmbseg.steps import pseudo_masks
from fmbseg.steps.workspace import Workspace
from fmbseg.store import read_json
from tasks.tracking.facts import Result, flatten, log_facts, results
from tasks.tracking.mlflow_client.store import PatientClient
from tasks.tracking.text import metric_names

VALIDATION = "validation_miou"
"""mIoU of the head on some labelled images while it is trained."""
_BATCH = 1000
"""MLflow takes no more metrics at once."""
_BATCH_POINTS = _BATCH // 3


def last_step(client: PatientClient, run: str) -> int:
    """Step of the last loss that the run has; 0 when it has none."""
    return max((int(m.step) for m in client.get_metric_history(run, "loss")), default=0)


def log_points(
    client: PatientClient, run: str, points: Sequence[dict[str, float]], after: int
) -> int:
    """Log the history's points with a step beyond `after`; the last step that is logged then."""
    new = [point for point in points if point["step"] > after]
    for start in range(0, len(new), _BATCH_POINTS):
        part = new[start : start + _BATCH_POINTS]
        now = _now()
        client.log_batch(
            run,
            metrics=[
                Metric(name, float(point[name]), now, int(point["step"]))
                for point in part
                for name in ("loss", "learning_rate", "epoch")
            ],
        )
        after = int(part[-1]["step"])
    return after


def log_validation(client: PatientClient, run: str, points: Sequence[dict[str, float]]) -> None:
    """Log the points of the validation curve, {step, epoch, miou, images}, that the run lacks."""
    if not points:
        return
    known = {int(metric.step) for metric in client.get_metric_history(run, VALIDATION)}
    now = _now()
    new = [
        Metric(VALIDATION, float(point["miou"]), now, int(point["step"]))
        for point in points
        if point["step"] not in known
    ]
    if new:
        client.log_batch(run, metrics=new)


def log_figures(
    client: PatientClient, workspace: Workspace, run: str, model_ids: dict[str, str]
) -> None:
    """Every single figure as a metric, those that the run has already left out.

    Args:
        client: of the store.
        workspace: whose figures.
        run: the parent run.
        model_ids: method to the logged model that its figures belong to, where there is one.
    """
    figures: dict[str, float] = {}
    figures |= _prefixed("train", read_json(workspace.train / "timing.json"))
    counts = read_json(workspace.subsample / "counts.json")
    figures["pseudo_masks.fraction"] = float(counts["fraction"])
    masks = found_figures.mask_counts(workspace)
    ends = metric_names(one.class_name for one in masks)
    total = found_figures.mask_figures(found_figures.mask_total(masks))
    figures |= {f"pseudo_masks.{name}": float(number) for name, number in total.items()}
    for one in masks:  # stage by stage in pseudo_mask_counts.json
        figures[f"pseudo_masks.found.{ends[one.class_name]}"] = float(one.found)
        figures[f"pseudo_masks.kept.{ends[one.class_name]}"] = float(one.kept)
    figures["classes_never_found"] = float(sum(one.found == 0 for one in masks))
    figures["quarantined_images"] = float(len(pseudo_masks.quarantined(workspace)))
    scores = found_figures.foundation(workspace)
    if scores is not None:
        figures |= _prefixed("", {k: v for k, v in scores.items() if isinstance(v, dict)})
    owner: dict[str, str] = {}
    for result in results(workspace):
        for metric in METRICS:
            name = f"{metric.name}.{result.name}"
            figures[name] = result.figures[metric.name]
            owner[name] = model_ids.get(result.figures["method"], "")
    known = client.get_run(run).data.metrics
    _log_metrics(client, run, {k: v for k, v in figures.items() if k not in known}, owner)


def mask_table(counts: Sequence[MaskCount]) -> list[dict[str, Any]]:
    """Pseudo masks found and kept, per class and stage, the last row over all classes."""
    return [
        {
            "class": one.class_name,
            "stage 1.1 found": one.found_11, "stage 1.1 kept": one.kept_11,
            "stage 1.2 found": one.found_12, "stage 1.2 kept": one.kept_12, "kept": one.kept,
        }
        for one in (*counts, found_figures.mask_total(counts))
    ]  # fmt: skip


def log_files(
    client: PatientClient,
    workspace: Workspace,
    run: str,
    keys: dict[str, str],
    dead: found_figures.NeverFound,
) -> None:
    """The run's tables, lists and the report."""
    tables = {"pseudo_mask_counts.json": mask_table(found_figures.mask_counts(workspace))}
    if dead.classes:
        rows = [{"class": name, "images": dead.images} for name in dead.classes]
        tables["classes_never_found.json"] = rows
    found = results(workspace)
    if found:
        tables["iou_per_class.json"] = [
            {"class": name, **{r.name: r.figures["iou"].get(name) for r in found}}
            for name in found[0].figures["iou"]
        ]
    _log_tables(client, run, tables)
    client.log_dict(run, {"quarantined": pseudo_masks.quarantined(workspace)}, "quarantine.json")
    client.log_dict(run, keys, "units.json")
    client.log_artifact(run, str(workspace.report / "index.html"), "report")


def log_method(client: PatientClient, experiment: str, parent: str, result: Result) -> None:
    """A nested run for one method on one data set, unless the parent has it already."""
    mine = f"tags.mlflow.parentRunId = '{parent}' and tags.method = '{result.name}'"
    for old in client.search_runs([experiment], mine):
        if old.data.tags.get("key.unit") == result.key and old.info.status == "FINISHED":
            return
        client.delete_run(old.info.run_id)
    figures = result.figures
    marks = {
        "mlflow.parentRunId": parent,
        "mlflow.runName": f"{figures['method']} on {figures['data_set']}",
        "method": result.name,
        "key.unit": result.key,
    }
    run = client.create_run(experiment, tags=marks).info.run_id
    named = ("method", "data_set", "split", "protocol_hash", "seed")
    log_facts(client, run, {}, {name: str(figures[name]) for name in named})
    values = (*(metric.name for metric in METRICS), "seconds_per_image", "images")
    ends = metric_names(figures["iou"])
    ious = {f"iou.{ends[n]}": v for n, v in figures["iou"].items() if v is not None}
    _log_metrics(client, run, {**{name: figures[name] for name in values}, **ious})
    client.log_dict(run, figures["protocol"], "protocol.json")
    rows = [{"class": name, "iou": value} for name, value in figures["iou"].items()]
    _log_tables(client, run, {"iou_per_class.json": rows})
    _log_confusion(client, run, result)
    for name in ("quarantine.json", "examples"):
        if (result.folder / name).exists():
            client.log_artifact(run, str(result.folder / name))
    client.set_terminated(run)


def _log_confusion(client: PatientClient, run: str, result: Result) -> None:
    from tasks.tracking.pictures import draw_confusion  # brings matplotlib

    names = list(result.figures["iou"])
    matrix = np.asarray(read_json(result.folder / "confusion.json"))
    rows_are = {"rows": "true class", "columns": "predicted class, the last one: no answer"}
    client.log_dict(
        run, {"classes": names, **rows_are, "pixels": matrix.tolist()}, "confusion.json"
    )
    with tempfile.TemporaryDirectory() as folder:
        picture = Path(folder) / "confusion.png"
        figures = result.figures
        title = f"{figures['method']} on {figures['data_set']} {figures['split']}"
        draw_confusion(matrix, names, f"{title}, mIoU {figures['miou']:.3f}", picture)
        client.log_artifact(run, str(picture))


def _log_metrics(
    client: PatientClient, run: str, figures: dict[str, float], owner: dict[str, str] | None = None
) -> None:
    now, owner = _now(), owner or {}
    metrics = [
        Metric(name, float(value), now, 0, model_id=owner.get(name) or None)
        for name, value in figures.items()
    ]
    for start in range(0, len(metrics), _BATCH):
        client.log_batch(run, metrics=metrics[start : start + _BATCH])


def _log_tables(client: PatientClient, run: str, tables: dict[str, list[dict[str, Any]]]) -> None:
    """Tables that MLflow shows as such; unlike its own `log_table` this never appends."""
    for name, rows in tables.items():
        columns = list(rows[0])
        data = [[row[column] for column in columns] for row in rows]
        client.log_dict(run, {"columns": columns, "data": data}, name)
    shown = [{"path": name, "type": "table"} for name in tables]
    client.set_tag(run, "mlflow.loggedArtifacts", json.dumps(shown))


def _prefixed(prefix: str, tree: dict[str, Any]) -> dict[str, float]:
    """The numbers of a tree under dotted names."""
    flat = flatten(tree, f"{prefix}." if prefix else "")
    return {k: float(v) for k, v in flat.items() if isinstance(v, int | float)}


def _now() -> int:
    return int(time.time() * 1000)
