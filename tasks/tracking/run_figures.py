"""The figures, tables and words of a run, from the files of the steps."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from fmbseg.evaluate.counts import MaskCount
from fmbseg.evaluate.metrics import METRICS
from fmbseg.params_yaml import flatten
from fmbseg.steps import figures as found
from fmbseg.steps.shards import quarantined
from fmbseg.steps.workspace import Workspace
from fmbseg.store import read_json
from tasks.tracking.facts import Result, metric_names, results

Table = list[dict[str, Any]]
"""Rows, each with the same columns."""


def of_run(workspace: Workspace) -> dict[str, float]:
    """Name to value of every single figure that belongs to no method."""
    counts = read_json(workspace.subsample / "counts.json")
    masks = found.mask_counts(workspace)
    ends = metric_names(one.class_name for one in masks)
    total = found.mask_figures(found.mask_total(masks))
    frozen = found.foundation(workspace) or {}
    figures = read_json(workspace.report / found.DETAILS)
    return {
        **_numbers({"train": read_json(workspace.train / "timing.json")}),
        "pseudo_masks.fraction": float(counts["fraction"]),
        **{f"pseudo_masks.{name}": float(number) for name, number in total.items()},
        # stage by stage in pseudo_mask_counts.json
        **{f"pseudo_masks.found.{ends[one.class_name]}": float(one.found) for one in masks},
        **{f"pseudo_masks.kept.{ends[one.class_name]}": float(one.kept) for one in masks},
        "classes_never_found": float(sum(one.found == 0 for one in masks)),
        "quarantined_images": float(len(quarantined(workspace))),
        **_numbers({"corrections": figures.get("corrections", {})}),
        **_numbers({name: tree for name, tree in frozen.items() if isinstance(tree, dict)}),
    }


def of_result_in_run(result: Result, *, classes: bool) -> dict[str, float]:
    """One method's figures on one data set under the names that a whole run has them.

    They are the same in every run, so that runs can be compared: `<metric>.<method>.<data set>`,
    and with `classes` also `iou.<method>.<data set>/<class>`, a section of its own in charts.
    """
    found = {f"{one.name}.{result.name}": float(result.figures[one.name]) for one in METRICS}
    if classes:
        found |= {f"iou.{result.name}/{name}": value for name, value in _ious(result).items()}
    return found


def of_result(result: Result) -> dict[str, float]:
    """Name to value of one method's figures on one data set, class by class too."""
    names = (*(metric.name for metric in METRICS), "seconds_per_image", "images")
    ious = {f"iou.{name}": value for name, value in _ious(result).items()}
    return {name: float(result.figures[name]) for name in names} | ious


def worst_and_best(
    image_scores: Sequence[Mapping[str, Any]], picture: Callable[[str], Any]
) -> Table:
    """The images that were pictured, the worst first: image beside prediction and labels.

    Args:
        image_scores: of an evaluation, see `IMAGE_SCORES`.
        picture: makes a cell of the table of a picture's file below the evaluation's folder.
    """
    shown = [one for one in image_scores if one["example"]]
    shown.sort(key=lambda one: (one["example"]["side"] == "best", one["example"]["rank"]))
    return [
        {
            "which": f"{one['example']['side']} {one['example']['rank']}",
            "image | prediction | labels": picture(one["example"]["file"]),
            **{metric.name: one[metric.name] for metric in METRICS},
            "image": one["image"],
        }
        for one in shown
    ]


def tables_of_run(workspace: Workspace) -> dict[str, Table]:
    """Name of a file to its rows."""
    never = found.never_found(workspace)
    tables = {"pseudo_mask_counts.json": mask_table(found.mask_counts(workspace))}
    if never.classes:
        rows = [{"class": name, "images": never.images} for name in never.classes]
        tables["classes_never_found.json"] = rows
    if scored := results(workspace):
        tables["iou_per_class.json"] = [
            {"class": name, **{one.name: one.figures["iou"].get(name) for one in scored}}
            for name in scored[0].figures["iou"]
        ]
    return tables


def mask_table(counts: Sequence[MaskCount]) -> Table:
    """Pseudo masks found and kept, per class and stage, the last row over all classes."""
    return [
        {
            "class": one.class_name,
            "stage 1.1 found": one.found_11, "stage 1.1 kept": one.kept_11,
            "stage 1.2 found": one.found_12, "stage 1.2 kept": one.kept_12, "kept": one.kept,
        }
        for one in (*counts, found.mask_total(counts))
    ]  # fmt: skip


def _ious(result: Result) -> dict[str, float]:
    """IoU of the classes that occur, under names that metrics may have."""
    ends, ious = metric_names(result.figures["iou"]), result.figures["iou"]
    return {ends[name]: float(value) for name, value in ious.items() if value is not None}


def _numbers(tree: Mapping[str, Any]) -> dict[str, float]:
    """The numbers of a tree under dotted names."""
    return {k: float(v) for k, v in flatten(dict(tree)).items() if isinstance(v, int | float)}
