"""What a run was trained and scored on, as MLflow's data sets."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mlflow.entities import Dataset, DatasetInput, InputTag

from fmbseg.params import redact
from fmbseg.steps import evaluation_sets
from fmbseg.steps.corrections import CORRECTIONS
from fmbseg.steps.workspace import Workspace
from fmbseg.store import MANIFEST, read_json, sha_of
from tasks.tracking.facts import Result, fingerprint, outside_experiment
from tasks.tracking.mlflow_client.store import RetryingClient

TRAINING, EVALUATION = "training", "eval"
"""What a data set was used for: the tag `mlflow.data.context` of a run's input."""
_NOT_DATA = ("train",)
"""Inputs of an evaluation that are no data: the trained head."""


def log_training_set(client: RetryingClient, workspace: Workspace, run: str) -> None:
    """Log the images that stage 1 and the training saw as the run's input."""
    profile = {"images": len(workspace.listing().images)}
    _log(client, run, TRAINING, [
        _data_set(workspace.name, fingerprint(workspace), workspace.images_root(), profile)
    ])  # fmt: skip


def log_evaluation_sets(
    client: RetryingClient, workspace: Workspace, run: str, results: Sequence[Result]
) -> None:
    """Log what some results were scored on as inputs of a run, each once."""
    found = {}
    for result in results:
        name, digest = of_evaluation(workspace, result)
        profile = {
            "images": result.figures["images"], "classes": len(result.figures["iou"]),
            "split": result.figures["split"],
        }  # fmt: skip
        place = _place(workspace, result.figures["data_set"])
        found[name, digest] = _data_set(name, digest, place, profile)
    _log(client, run, EVALUATION, list(found.values()))


def of_evaluation(workspace: Workspace, result: Result) -> tuple[str, str]:
    """Name and digest of what a result was scored on.

    The digest, 16 hexadecimal digits, is that of all images, labels and class names that the
    evaluation's manifest lists; methods on the same data share it.
    """
    data_set, split = result.figures["data_set"], result.figures["split"]
    listed = dict(read_json(result.folder / MANIFEST)["parts"]["inputs"])
    contents = {name: sha for name, sha in listed.items() if name not in _NOT_DATA}
    drawn = [workspace.params.seed, result.figures["images"]] if not contents else []
    name = f"{workspace.name if data_set == workspace.data_set else data_set} {split}"
    return name, sha_of([data_set, split, contents, drawn])[:16]


def _place(workspace: Workspace, data_set: str) -> Path:
    """Where the images of a data set lie; of a view, which is drawn anew each time, the outputs."""
    if data_set == CORRECTIONS:
        return workspace.corrections
    if data_set == workspace.data_set:
        return workspace.images_root()
    public = evaluation_sets.benchmark_root(workspace) / data_set
    return public if public.exists() else workspace.evaluate


def _data_set(name: str, digest: str, place: Path, profile: dict[str, Any]) -> Dataset:
    """A data set that `mlflow.data.get_source` finds again, on this machine."""
    return Dataset(
        name=name,
        digest=digest,
        source_type="local",
        source=json.dumps({"uri": redact(str(outside_experiment(place)))}),
        profile=json.dumps(profile),
    )


def _log(client: RetryingClient, run: str, context: str, data_sets: Sequence[Dataset]) -> None:
    used = [InputTag("mlflow.data.context", context)]
    if data_sets:
        client.log_inputs(run, datasets=[DatasetInput(one, used) for one in data_sets])
