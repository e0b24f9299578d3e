"""Step `evaluate`: one method on one data set, every figure with its protocol."""

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from fmbseg.datasets import DatasetError
from fmbseg.evaluate.background import Background
from fmbseg.evaluate.colours import Palette, palette
from fmbseg.evaluate.examples import Answered, Extremes
from fmbseg.evaluate.metrics import ConfusionMatrix
from fmbseg.evaluate.pictures import colourise, save_png
from fmbseg.evaluate.prepared import PreparedMethod, classes_in
from fmbseg.evaluate.protocol import PROTOCOLS, EvaluationProtocol
from fmbseg.evaluate.segmentation import Segmentation
from fmbseg.models.images import size_problem
from fmbseg.segmenter import Segmenter
from fmbseg.segmenters.clip_diy import ClipDiyOptions, ClipDiySegmentation
from fmbseg.segmenters.maskclip import DenseClipSegmentation
from fmbseg.segmenters.stage1 import Stage1Segmentation
from fmbseg.steps import columns, foundation, pseudo_masks
from fmbseg.steps.columns import Column
from fmbseg.steps.workspace import Workspace
from fmbseg.store import UnitKey, UnreadableImageError, file_sha, write_json
from fmbseg.types import IGNORE, Stage

FOUNDATION = "foundation"
IMAGE_SCORES = "image_scores.json"
"""Of a unit: `[{"image", "miou", "pixel_accuracy", "example"}]`, an image of the data set each.

An image's mIoU is over the classes of its labels and its prediction. `example` is null, or for
the images with the worst and the best mIoU `{"side", "rank", "file"}`.
"""


def units(workspace: Workspace) -> list[str]:
    """What to score: `<method>-<data set>`, and `foundation-...` first; none without labels."""
    found = columns.names(workspace)
    methods = workspace.params.evaluate.methods
    scored = [unit_name(method, name) for name in found for method in methods]
    return [unit_name(FOUNDATION, found[0]), *scored] if found else []


def unit_name(method: str, data_set: str) -> str:
    """Name of a unit, and of its folder below reports/evaluate/."""
    return f"{method}-{data_set}"


def scored(workspace: Workspace) -> list[str]:
    """The units that hold a method's figures."""
    return [unit for unit in units(workspace) if method_of(unit) != FOUNDATION]


def foundation_of(workspace: Workspace) -> str | None:
    """The unit with the figures of the frozen models; None without labels."""
    return next((unit for unit in units(workspace) if method_of(unit) == FOUNDATION), None)


def method_of(unit: str) -> str:
    """The method in a unit's name."""
    return unit.partition("-")[0]


def protocol(workspace: Workspace, column: Column) -> EvaluationProtocol:
    """The protocol of params.yaml for a data set; printed with every figure."""
    section = workspace.params.evaluate
    found = PROTOCOLS[section.protocol]
    if section.protocol == "whole":
        found = replace(found, templates=(workspace.params.models.template,))
    if section.synonyms != "protocol":
        found = replace(found, synonyms=section.synonyms)
    if column.background_index is None or section.background == "protocol":
        return found
    if section.background == "ignore":
        return replace(found, background=Background("ignore"))
    return replace(found, background=Background("stuff_names", column.background_names))


def folder(workspace: Workspace, unit: str) -> Path:
    """Output folder of a unit."""
    return workspace.evaluate / unit


def key(workspace: Workspace, unit: str) -> UnitKey:
    """Content key of a unit."""
    method, _, name = unit.partition("-")
    inputs = dict(columns.inputs(workspace, name))
    section = workspace.params.evaluate.model_dump(exclude={"methods", "data_sets"})
    params = {
        "unit": unit, "seed": workspace.params.seed, **section,
        **workspace.params.pseudo_masks.model_dump(),
        **workspace.models_params("clip", "vision" if method == "fmbseg" else "sam"),
        "ignore_label": workspace.params.data.ignore_label,
    }  # fmt: skip
    if method == "fmbseg":
        inputs["train"] = file_sha(workspace.train / "alignment.safetensors")
        params["input_short_side_px"] = workspace.params.train.input_short_side_px
    return workspace.key("evaluate", inputs, params)


def run(workspace: Workspace, unit: str) -> bool:
    """Make `reports/evaluate/<method>-<data set>/`; True when there was something to do."""
    method, _, name = unit.partition("-")

    def compute(out: Path) -> None:
        column = columns.open_column(workspace, name)
        if method == FOUNDATION:
            foundation.score(
                column.samples, workspace.models(), pseudo_masks.options(workspace),
                workspace.params.seed, out / "metrics.json",
            )  # fmt: skip
        else:
            _score(workspace, method, column, out)

    return workspace.run_unit("evaluate", folder(workspace, unit), key(workspace, unit), compute)


def build(workspace: Workspace, method: str) -> Segmentation:
    """The method as a segmenter."""
    if method in ("maskclip", "sclip", "naclip"):
        return DenseClipSegmentation(workspace.clip(method), name=method)
    models = workspace.models()
    if method == "fmbseg":
        return Segmenter.load(workspace.train, workspace.params.device, models=models).segmentation
    if method == "clip_diy":
        options = ClipDiyOptions(
            crop_fractions=(1.0, 0.5, 0.25), stride_fraction=0.5, background_names=(),
            least_objectness=0.05, automatic=pseudo_masks.options(workspace).automatic,
        )  # fmt: skip
        return ClipDiySegmentation(
            workspace.clip("maskclip", whole_crops=True), models.sam, options
        )
    stages: dict[str, tuple[Stage, ...]] = {"stage11": ("1.1",), "stage12": ("1.2",)}
    return Stage1Segmentation(
        models.clip, models.sam, pseudo_masks.options(workspace),
        stages=stages.get(method, ("1.1", "1.2")), name=method,
        needs_image_labels=method == "stage1_image_labels",
    )  # fmt: skip


def _score(workspace: Workspace, method: str, column: Column, out: Path) -> None:
    prepared = PreparedMethod(
        protocol(workspace, column), build(workspace, method), column.classes,
        column.background_index,
    )  # fmt: skip
    samples, count = column.samples, len(column.classes)
    confusion, seconds = ConfusionMatrix(count), 0.0
    extremes, scores = Extremes(workspace.params.evaluate.examples), list[dict[str, Any]]()
    bad: list[dict[str, str]] = []
    title = f"evaluate: {method} on {column.name} {column.split}"
    for index in tqdm(range(len(samples)), desc=title):
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
        present = classes_in(sample.target) if prepared.needs_image_labels else None
        began = time.perf_counter()
        labels = prepared.predict(sample.image, present)
        seconds += time.perf_counter() - began
        truth, counted = prepared.truth(sample.target), ConfusionMatrix(count)
        counted.update(labels, truth)
        confusion.matrix += counted.matrix
        scores.append(_image_score(sample.name, counted))
        if scores[-1]["miou"] is not None:
            answered = Answered.reduced(sample.name, sample.image, labels, truth)
            extremes.add(scores[-1]["miou"], index, answered)
    if not confusion.matrix.any():
        raise DatasetError(
            f"{column.name} {column.split}: found no labelled pixel in {len(scores)} scored images "
            f"({len(bad)} could not be used); wanted labels of its {count} classes, see "
            "data.labels and data.ignore_label"
        )
    metrics = prepared.metrics(
        confusion, data_set=column.name, split=column.split, seed=workspace.params.seed,
        images=len(scores), seconds_per_image=seconds / max(len(scores), 1),
    )  # fmt: skip
    write_json(out / "metrics.json", metrics)
    write_json(out / "confusion.json", np.asarray(confusion.matrix).tolist())
    write_json(out / "quarantine.json", bad)
    examples = _save_examples(out, extremes, palette(count))
    scores = [one | {"example": examples.get(one["image"])} for one in scores]
    write_json(out / IMAGE_SCORES, scores, compact=True)


def _image_score(name: str, counted: ConfusionMatrix) -> dict[str, Any]:
    """One image's figures; null where none of its pixels is labelled."""
    figures = {"miou": counted.miou(), "pixel_accuracy": counted.pixel_accuracy()}
    rounded = {key: round(v, 6) if np.isfinite(v) else None for key, v in figures.items()}
    return {"image": name, **rounded}


def _save_examples(out: Path, extremes: Extremes, colours: Palette) -> dict[str, dict[str, Any]]:
    """Write image, prediction and truth side by side, both maps in the palette's own colours.

    Returns:
        Image to side, rank, file below `out`, and the class indices of both maps.
    """
    saved: dict[str, dict[str, Any]] = {}
    for side, rank, answered in extremes.chosen():
        labels = (answered.predicted, answered.truth)
        pair = [colourise(one, colours) for one in labels]
        classes = sorted({int(index) for index in np.unique(labels)} - {IGNORE})
        file = f"examples/{side}-{rank}.png"
        save_png(out / file, np.hstack([answered.image, *pair]))
        saved[answered.name] = {
            "side": side, "rank": rank, "file": file, "classes": classes,
        }  # fmt: skip
    return saved
