"""The params and deps of dvc.yaml against what the units' keys are made of."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from fmbseg.params import load_params
from fmbseg.steps.plan import PLAN
from fmbseg.steps.workspace import Workspace
from fmbseg.store import StoreError
from tests.conftest import REPOSITORY
from tests.support.dvc_checkout import Checkout, finished

pytestmark = [pytest.mark.weights, pytest.mark.slow]

OTHERS: dict[str, Any] = {
    "device": "cpu", "data.drops": "data", "models.template": "a {}", "models.projection": "sclip",
    "models.profile": "base", "models.clip": {"name": "ViT-B-16-quickgelu", "pretrained": "openai"},
    "models.sam": {"name": "vit_b"}, "models.vision": {"name": "vit_small_patch14_dinov2.lvd142m"},
    "train.loss": "clip", "train.patches_per_image": None, "evaluate.split": "val",
    "evaluate.protocol": "tcl", "evaluate.background": "ignore",
    "evaluate.data_sets": ["home", "miniature_things"],
    "evaluate.methods": ["maskclip", "stage1", "naclip"], "subsample.keep_fraction": 0.5,
    "train.init_from": "champion", "train.seed": 7, "train.warm_up_fraction": 0.3,
    "train.hold_rate_from": 0.25, "runner.kind": "dask", "runner.dask_address": "tcp://host:1",
    "tracking.primary_method": "stage1", "pseudo_masks.points_together": False,
    "train.labels": "truth", "evaluate.synonyms": "max", "tracking.registered_model": "other",
    "train.feature_cache": "off", "evaluate.templates": "model", "runtime.precision": "bfloat16",
    "export.formats": ["png", "coco"], "export.classes": ["sky"], "export.source": "all",
    "export.images": "leave", "export.calibrate": False, "export.corrections": False,
    "export.model": "models/train/../train", "export.val_list": "val.txt",
}  # fmt: skip
"""Another value of a parameter that is no number, nor any text."""
VIEWS = {"train.flip", "train.crop_min_scale"}
"""They need features that are not kept."""
PLACES = {
    "data.images", "data.classes", "data.labels", "data.benchmarks", "data.corrections",
}  # fmt: skip
"""Where input lies: a key holds what lies there, a stage the place too."""


def leaves(tree: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in tree.items():
        if isinstance(value, dict):
            yield from leaves(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def another(dotted: str, value: Any) -> Any:
    if dotted in OTHERS:
        return OTHERS[dotted]
    if value == "auto":
        return 64
    if isinstance(value, int):
        return value + 1
    if isinstance(value, str):
        return f"{value}-other"
    assert isinstance(value, float), f"{dotted}: say another value in OTHERS"
    return value / 2 or 1.0


def outdated(workspace: Workspace) -> set[str]:
    """Steps with a unit whose key does not fit what lies there."""
    found = set()
    for step in PLAN:
        try:
            if any(unit.problem() for unit in step.units_in(workspace)):
                found.add(step.name)
        except (StoreError, OSError):
            found.add(step.name)
    return found


def stages() -> dict[str, Any]:
    """The stages that make units; `track` makes none, it logs them."""
    found = yaml.safe_load((REPOSITORY / "dvc.yaml").read_text())["stages"]
    assert list(found) == [*(step.name for step in PLAN), "track"]
    return {step.name: found[step.name].get("do", found[step.name]) for step in PLAN}


def named_by(dotted: str) -> set[str]:
    """Stages whose params list names a parameter, or a section it is in."""
    return {
        step
        for step, stage in stages().items()
        if any(dotted == name or dotted.startswith(f"{name}.") for name in stage.get("params", ()))
    }


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """A finished run; not to be changed."""
    return finished(tmp_path_factory)


def test_stages_name_each_parameter_that_their_units_keys_hold_and_no_other(
    done: Checkout, tmp_path: Path
):
    one = done.copy(tmp_path / "code")
    one.change(export={"formats": ["png"]})
    one.run(sys.executable, "-m", "fmbseg.steps", "export")
    path = one.root / "params.yaml"
    assert outdated(Workspace(one.root, load_params(path))) == set()
    wrong = {}
    for dotted, value in leaves(yaml.safe_load(path.read_text())):
        if dotted in PLACES:
            continue
        changed = {dotted: another(dotted, value)}
        if dotted in VIEWS:
            changed["train.feature_cache"] = "off"
        params = load_params(path, changed)
        by_key = outdated(Workspace(one.root, params))
        by_dvc = named_by(dotted)
        if dotted == "data.shard_images":
            by_key -= {
                "review",
                "subsample",
                "train",
            }  # shards are gone; DVC sees their folder change
        if dotted == "data.max_quarantined_fraction":
            by_key |= {"pseudo_masks"}  # no unit holds the limit, but the step ends over it
        if dotted == "data.corrections_held_out_fraction":
            by_key |= {"train", "evaluate"}  # where there are corrections
        if dotted == "export.formats":
            by_dvc = {"export"}  # each of them is a stage of its own
        if by_key != by_dvc:
            wrong[dotted] = {"keys": by_key, "dvc.yaml": by_dvc}
    assert wrong == {}


@pytest.mark.parametrize(
    "dotted",
    ["data.train_images", "models.vision", "pseudo_masks.nms_iou", "subsample.keep_fraction",
     "train.epochs", "evaluate.examples", "report.gallery_images", "runner.workers"],
)  # fmt: skip
def test_dvc_status_calls_the_stages_changed_whose_units_are(
    done: Checkout, tmp_path: Path, dotted: str
):
    one = done.copy(tmp_path / "code")
    tree = yaml.safe_load((one.root / "params.yaml").read_text())
    value = another(dotted, dict(leaves(tree))[dotted])
    section, name = dotted.split(".")
    one.change(**{section: {name: value}})
    assert one.status() == outdated(one.workspace())


def test_every_file_that_a_stage_of_the_miniature_reads_is_among_its_deps():
    reads = {step: set(stage["deps"]) for step, stage in stages().items()}
    assert all("fmbseg" in deps for deps in reads.values()), "with the miniature's weights"
    made = {step: next(iter(stage["outs"][0])) for step, stage in stages().items()}
    assert {made["download"], made["pseudo_masks"], made["subsample"]} <= reads["train"]
    assert {made[step] for step in made if step not in ("report", "export")} <= reads["report"]
    for stage in stages().values():
        assert all(out[next(iter(out))]["persist"] for out in stage["outs"])
