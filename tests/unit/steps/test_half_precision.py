"""A workspace whose encoders compute in bfloat16: what comes of it, and that it is told."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from fmbseg.miniature.world import generate
from fmbseg.pseudo.patch_labels import label_map_of
from fmbseg.segmenter import Segmenter
from fmbseg.steps import evaluate, pseudo_masks, report, subsample, train
from fmbseg.steps.departures import departures
from fmbseg.steps.foundation_models import models_of, precision_of
from fmbseg.steps.shards import shards
from fmbseg.steps.workspace import Workspace
from fmbseg.store import read_coco

pytestmark = pytest.mark.weights


def in_precision(root: Path, precision: str) -> Workspace:
    """The workspace with another `runtime.precision`."""
    params = yaml.safe_load((root / "params.yaml").read_text())
    params["runtime"]["precision"] = precision
    (root / "params.yaml").write_text(yaml.safe_dump(params))
    return Workspace.open(root)


@pytest.fixture
def copy(small_run: Path, tmp_path: Path) -> Path:
    """A finished run of float32, to be changed."""
    shutil.copytree(small_run, tmp_path / "copy")
    return tmp_path / "copy"


def maps_of(workspace: Workspace, shard: str) -> dict[str, np.ndarray]:
    """Label maps of the masks of both stages."""
    first, second = (read_coco(workspace.pseudo_masks / shard / f"stage{n}.json") for n in (11, 12))
    found, others = first.by_image(), second.by_image()
    sizes = first.image_sizes_hw
    return {
        name: label_map_of([*found.get(name, []), *others.get(name, [])], sizes[name])
        for name in sizes
    }


def test_stage_1_features_and_predictions_in_bfloat16_are_close_to_those_in_float32(copy: Path):
    exact = Workspace.open(copy)
    shard = next(iter(shards(exact)))
    before, image = maps_of(exact, shard), next(iter(generate(3, 1, "test"))).image
    features = models_of(exact).vision.encode(image)
    half = in_precision(copy, "bfloat16")
    assert pseudo_masks.run(half, shard), "the masks of float32 are outdated"
    after = maps_of(half, shard)
    same = np.concatenate([(before[name] == after[name]).ravel() for name in before])
    assert 0.98 < same.mean() < 1, "label maps of stage 1"
    close = models_of(half).vision.encode(image)
    assert close.dtype == torch.float32
    assert torch.nn.functional.cosine_similarity(features, close, dim=-1).min() > 0.99
    labels = [
        Segmenter.load(half.train, "cpu", precision=one).predict(image, ["sky", "grass", "cat"])
        for one in ("float32", "bfloat16")
    ]
    assert np.mean(labels[0].labels == labels[1].labels) > 0.95


def test_a_precision_is_part_of_the_keys_of_what_the_encoders_made_and_named_in_the_report(
    copy: Path,
):
    found = []
    for precision in ("float32", "bfloat16", "auto"):
        workspace = in_precision(copy, precision)
        shard = next(iter(shards(workspace)))
        keys = [
            pseudo_masks.key(workspace, shard), train.key(workspace),
            evaluate.key(workspace, "stage1-miniature"), report.key(workspace),
        ]  # fmt: skip
        found.append([key.digest for key in keys])
        assert subsample.key(workspace).params == subsample.key(Workspace.open(copy)).params
    assert all(a != b for a, b in zip(found[0], found[1], strict=True))
    workspace = in_precision(copy, "bfloat16")
    (named,) = [one for one in departures(workspace.params) if one.key == "runtime.precision"]
    assert named.words() == "runtime.precision bfloat16"
    assert report._settings(report._shown(workspace))["runtime.precision"] == "bfloat16"
    exact = in_precision(copy, "float32")
    assert not [one for one in departures(exact.params) if one.key == "runtime.precision"]


def test_a_workspace_that_was_made_on_an_accelerator_stays_up_to_date_without_one(copy: Path):
    workspace = Workspace.open(copy)
    shard = next(iter(shards(workspace)))
    assert pseudo_masks.key(workspace, shard).params["precision"] == "auto: float32"
    manifest = workspace.pseudo_masks / shard / "manifest.json"
    content = json.loads(manifest.read_text())
    for other in shards(workspace):
        content["parts"]["params"]["precision"] = "auto: bfloat16"
        (workspace.pseudo_masks / other / "manifest.json").write_text(json.dumps(content))
    assert pseudo_masks.key(workspace, shard).params["precision"] == "auto: bfloat16"
    assert precision_of(workspace) == "bfloat16"
    assert precision_of(in_precision(copy, "float32")) == "float32"
