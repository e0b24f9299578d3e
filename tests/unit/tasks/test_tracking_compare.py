"""What MLflow needs to set two runs side by side: flat params, metrics of one name, data sets."""

import json
from pathlib import Path
from typing import Any

import mlflow.data
import pytest
from mlflow.utils.validation import _validate_metric_name

from fmbseg.params_yaml import flatten
from fmbseg.steps.scoring import IMAGE_SCORES
from fmbseg.steps.workspace import Workspace
from fmbseg.store import read_json, write_json
from tasks.tracking import facts, run_figures, track
from tests.support.tracked_workspaces import (
    Copy,
    another_result,
    client_of,
    parents,
    read_artifact,
    set_params,
)

pytestmark = [pytest.mark.weights, pytest.mark.slow]


def test_two_runs_have_the_same_params_and_metrics_and_differ_in_what_was_changed(copy: Copy):
    first, second = copy("a"), copy("b")
    set_params(second, train={"epochs": 3})
    another_result(second, 0.5)
    client = client_of(first)
    one, other = (client.get_run(track.fn(str(root))).data for root in (first, second))
    assert one.params.keys() == other.params.keys()
    assert one.params.keys() == flatten(Workspace.open(first).params.public()).keys()
    differ = {name for name in one.params if one.params[name] != other.params[name]}
    assert differ == {"train.epochs"}
    assert one.metrics.keys() == other.metrics.keys()
    changed = {name for name in one.metrics if one.metrics[name] != other.metrics[name]}
    assert changed == {"miou.fmbseg.miniature"}


def test_the_iou_of_each_class_is_a_metric_of_the_run_in_a_section_of_its_own(copy: Copy):
    root = copy("a")
    client, scores = client_of(root), Workspace.open(root).evaluate / "fmbseg-miniature"
    metrics = client.get_run(track.fn(str(root))).data.metrics
    ious = {name: value for name, value in read_json(scores / "metrics.json")["iou"].items()
            if value is not None}  # fmt: skip
    section = "iou.fmbseg.miniature/"
    found = {name.removeprefix(section): value for name, value in metrics.items()
             if name.startswith(section)}  # fmt: skip
    assert found == ious
    assert not [name for name in metrics if name.startswith("iou.stage1")], "of one method alone"


def test_a_class_of_dots_is_no_path(copy: Copy):
    root = copy("a")
    folder = Workspace.open(root).evaluate / "fmbseg-miniature"
    metrics = read_json(folder / "metrics.json")
    write_json(folder / "metrics.json", metrics | {"iou": {"..": 0.1, ".": 0.2, "a/../b": 0.3}})
    (result,) = (r for r in facts.results(Workspace.open(root)) if r.name == "fmbseg.miniature")
    names = run_figures.of_result_in_run(result, classes=True)
    for name in names:
        _validate_metric_name(name)
    assert {name for name in names if "/" in name} == {
        "iou.fmbseg.miniature/__", "iou.fmbseg.miniature/_", "iou.fmbseg.miniature/a_.._b",
    }  # fmt: skip


def test_what_was_trained_and_scored_on_are_data_sets_with_digests(copy: Copy):
    root = copy("a")
    run_id = track.fn(str(root))
    client, workspace = client_of(root), Workspace.open(root)
    run = client.get_run(run_id)
    inputs = {one.tags[0].value: one for one in run.inputs.dataset_inputs}
    assert inputs.keys() == {"training", "eval"}
    assert inputs["training"].dataset.digest == run.data.tags["key.images"]
    scored = inputs["eval"].dataset
    assert scored.name == "miniature test"
    assert json.loads(scored.profile) == {"images": 6, "classes": 14, "split": "test"}
    for one in inputs.values():
        place = mlflow.data.get_source(one)
        assert Path(place.uri) == workspace.images_root().resolve()
    nested = client.search_runs(
        [run.info.experiment_id], f"tags.mlflow.parentRunId = '{run_id}'"
    )  # fmt: skip
    for child in nested:
        (given,) = child.inputs.dataset_inputs
        assert given.dataset.digest == scored.digest, "all methods were scored on the same"
    (version,) = client.search_model_versions("name = 'fmbseg-miniature'")
    of_model = client.get_logged_model(version.tags["model_id"]).metrics
    (miou,) = (metric for metric in of_model if metric.key == "miou.fmbseg.miniature")
    assert (miou.dataset_name, miou.dataset_digest) == (scored.name, scored.digest)
    manifest = workspace.evaluate / "fmbseg-miniature" / "manifest.json"
    found = read_json(manifest)
    found["parts"]["inputs"]["classes"] = "0" * 64
    write_json(manifest, found)
    another_result(root, 0.5)
    again = client.get_run(track.fn(str(root))).inputs.dataset_inputs
    digests = {one.dataset.digest for one in again if one.tags[0].value == "eval"}
    assert len(digests) == 2, "other classes are other data"


def test_the_worst_image_stands_first_and_images_without_a_picture_are_left_out():
    def scored(image: str, example: tuple[str, int] | None) -> dict[str, Any]:
        shown = example and {"side": example[0], "rank": example[1], "file": f"{image}.png"}
        return {"image": image, "miou": 0.5, "pixel_accuracy": None, "example": shown}

    scores = [scored("a", ("best", 2)), scored("b", None), scored("c", ("worst", 2)),
              scored("d", ("best", 1)), scored("e", ("worst", 1))]  # fmt: skip
    rows = run_figures.worst_and_best(scores, lambda file: f"<{file}>")
    assert [row["which"] for row in rows] == ["worst 1", "worst 2", "best 1", "best 2"]
    assert rows[0] == {
        "which": "worst 1", "image": "e", "miou": 0.5, "pixel_accuracy": None,
        "image | prediction | labels": "<e.png>",
    }  # fmt: skip


def test_the_worst_and_the_best_images_are_a_table_with_pictures(copy: Copy, tmp_path: Path):
    root = copy("a")
    run_id = track.fn(str(root))
    client = client_of(root)
    (parent,) = parents(client)
    child = next(
        run for run in client.search_runs([parent.info.experiment_id])
        if run.data.tags.get("method") == "fmbseg.miniature"
    )  # fmt: skip
    assert child.data.tags["mlflow.parentRunId"] == run_id
    name = "worst_and_best_images.json"
    table = read_json(read_artifact(client, child.info.run_id, name, tmp_path / "1"))
    rows = [dict(zip(table["columns"], row, strict=True)) for row in table["data"]]
    scores = read_json(Workspace.open(root).evaluate / "fmbseg-miniature" / IMAGE_SCORES)
    by_name = {one["image"]: one for one in scores if one["example"]}
    assert len(rows) == len(by_name) > 0
    assert [row["miou"] for row in rows] == [by_name[row["image"]]["miou"] for row in rows]
    for row in rows:
        cell = row["image | prediction | labels"]
        assert cell["type"] == "image"
        picture = read_artifact(client, child.info.run_id, cell["filepath"], tmp_path / "2")
        assert picture.stat().st_size > 1000
    listed = json.loads(child.data.tags["mlflow.loggedArtifacts"])
    assert {"path": name, "type": "table"} in listed
