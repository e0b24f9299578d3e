"""Step `evaluate`: one method on one data set, every figure with its protocol."""

import hashlib
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from fmbseg.datasets import Dataset, DatasetError, load
from fmbseg.evaluate.colours import palette
from fmbseg.evaluate.metrics import ConfusionMatrix
from fmbseg.evaluate.pictures import overlay, save_png
from fmbseg.models.images import size_problem
from fmbseg.segmenter import Segmenter
from fmbseg.segmenters.base import Segmentation
from fmbseg.segmenters.maskclip import DenseClipSegmentation
from fmbseg.segmenters.stage1 import Stage1Segmentation
from fmbseg.steps import foundation, pseudo_masks
from fmbseg.steps.download import scan
from fmbseg.steps.workspace import Listing, Workspace
from fmbseg.store import UnitKey, UnreadableImageError, file_sha, write_json
from fmbseg.types import Stage
from fmbseg.vocabulary import read_classes

FOUNDATION = "foundation"


def units(workspace: Workspace) -> list[str]:
    """What to score: `foundation` (CLIP's presence, SAM's masks), methods; none without labels."""
    if workspace.data_set == "folder" and workspace.params.data.labels is None:
        return []
    return [FOUNDATION, *workspace.params.evaluate.methods]


def data_set(workspace: Workspace) -> tuple[str, str, Dataset]:
    """Name, split and samples of what is scored: a split of the miniature, or the folder."""
    class_names = read_classes(workspace.classes_path()).names
    if workspace.data_set == "miniature":
        split = workspace.params.evaluate.split
        root = workspace.download / split
        return "miniature", split, load("folder", root, split, class_names=class_names)
    data = workspace.params.data
    samples = load(
        "folder", data.images, "", class_names=class_names, labels=data.labels,
        ignore_label=data.ignore_label,
    )  # fmt: skip
    return "folder", "all", samples


def protocol(workspace: Workspace) -> tuple[dict[str, Any], str]:
    """The protocol's facts and their short hash; printed with every figure."""
    evaluate, models = workspace.params.evaluate, workspace.params.models
    facts = {
        "name": evaluate.protocol,
        "resize": "none: one pass over the whole image, logits at the label map's size",
        "background": evaluate.background,
        "template": models.template,
        "mean": "over classes with a non-empty union; ignored pixels left out",
    }
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:10]
    return facts, digest


def folder(workspace: Workspace, method: str) -> Path:
    """Output folder of one method on the workspace's data set."""
    return workspace.evaluate / f"{method}-{workspace.data_set}"


def key(workspace: Workspace, method: str) -> UnitKey:
    """Content key of one method on the workspace's data set."""
    _, split, _ = data_set(workspace)
    inputs = {"classes": file_sha(workspace.classes_path())}
    if workspace.data_set == "miniature":
        inputs["download"] = file_sha(workspace.download / "manifest.json")
    else:
        labels = Path(str(workspace.params.data.labels))
        inputs |= Listing.read(workspace.download).images
        inputs |= {f"labels/{name}": sha for name, sha in scan(labels).images.items()}
    params = {
        "method": method, "split": split, "seed": workspace.params.seed,
        **workspace.params.evaluate.model_dump(exclude={"methods"}),
        **workspace.params.pseudo_masks.model_dump(),
        **workspace.models_params("clip", "vision" if method == "fmbseg" else "sam"),
        "ignore_label": workspace.params.data.ignore_label,
    }  # fmt: skip
    if method == "fmbseg":
        inputs["train"] = file_sha(workspace.train / "alignment.safetensors")
        params["input_short_side_px"] = workspace.params.train.input_short_side_px
    return workspace.key("evaluate", inputs, params)


def run(workspace: Workspace, method: str) -> bool:
    """Make `reports/evaluate/<method>-<data set>/`; True when there was something to do."""

    def compute(out: Path) -> None:
        if method == FOUNDATION:
            foundation.score(
                data_set(workspace)[2], workspace.models(), pseudo_masks.options(workspace),
                workspace.params.seed, out / "metrics.json",
            )  # fmt: skip
        else:
            _score(workspace, method, build(workspace, method), out)

    return workspace.run_unit(
        "evaluate", folder(workspace, method), key(workspace, method), compute
    )


def build(workspace: Workspace, method: str) -> Segmentation:
    """The method as a segmenter."""
    if method in ("maskclip", "sclip", "naclip"):
        return DenseClipSegmentation(workspace.clip(method), name=method)
    models = workspace.models()
    if method == "fmbseg":
        return Segmenter.load(workspace.train, workspace.params.device, models=models).segmentation
    chosen: dict[str, tuple[Stage, ...]] = {
        "stage11": ("1.1",), "stage12": ("1.2",), "stage1": ("1.1", "1.2")
    }  # fmt: skip
    return Stage1Segmentation(
        models.clip, models.sam, pseudo_masks.options(workspace), stages=chosen[method], name=method
    )


def _score(workspace: Workspace, method: str, segmentation: Segmentation, out: Path) -> None:
    name, split, samples = data_set(workspace)
    class_names = read_classes(workspace.classes_path()).names
    confusion, seconds = ConfusionMatrix(len(class_names)), 0.0
    colours, shown = palette(len(class_names)), workspace.params.evaluate.examples
    bad: list[dict[str, str]] = []
    scored = 0
    for index in tqdm(range(len(samples)), desc=f"evaluate: {method} on {name} {split}"):
        try:
            sample = samples[index]
        except (UnreadableImageError, DatasetError) as error:
            bad.append({"image": samples.names[index], "reason": str(error)})
            continue
        if sample.target is None:
            continue
        if problem := size_problem(sample.image.shape[:2]):
            bad.append({"image": sample.name, "reason": problem})
            continue
        began = time.perf_counter()
        found = segmentation.segment(sample.image, class_names)
        seconds += time.perf_counter() - began
        confusion.update(found.labels, sample.target)
        if scored < shown:
            pair = [
                overlay(sample.image, labels, colours) for labels in (found.labels, sample.target)
            ]
            stem = f"{index:04d}"
            save_png(out / "examples" / f"{stem}.png", np.hstack([sample.image, *pair]))
        scored += 1
    facts, digest = protocol(workspace)
    values = confusion.iou()
    metrics = {
        "method": method, "data_set": name, "split": split, "protocol": facts,
        "protocol_hash": digest, "seed": workspace.params.seed, "miou": float(confusion.miou()),
        "iou": {
            class_name: None if np.isnan(value) else float(value)
            for class_name, value in zip(class_names, values, strict=True)
        },
        "pixel_accuracy": float(confusion.pixel_accuracy()), "images": scored,
        "seconds_per_image": seconds / max(scored, 1),
    }  # fmt: skip
    write_json(out / "metrics.json", metrics)
    write_json(out / "confusion.json", np.asarray(confusion.matrix).tolist())
    write_json(out / "quarantine.json", bad)
