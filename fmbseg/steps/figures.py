"""What the steps found, as tables: for the terminal, the report, Prefect, MLflow and DVC."""

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from fmbseg.datasets.catalogue import CATALOGUE
from fmbseg.evaluate.confusions import most_confused
from fmbseg.evaluate.content import Example, MethodResult
from fmbseg.steps import evaluate, pseudo_masks
from fmbseg.steps.workspace import Workspace
from fmbseg.store import read_coco, read_json

CONFUSIONS = 10
"""Pairs of classes that the report shows of a method on a data set."""


def of_methods(workspace: Workspace) -> dict[str, dict[str, Any]]:
    """Unit of the evaluate step to its metrics file, methods alone."""
    return {
        unit: dict(read_json(evaluate.folder(workspace, unit) / "metrics.json"))
        for unit in evaluate.scored(workspace)
    }


def result(workspace: Workspace, unit: str) -> MethodResult:
    """All that a unit of the evaluate step holds, for the report."""
    folder = evaluate.folder(workspace, unit)
    metrics = dict(read_json(folder / "metrics.json"))
    known = {k: v for k, v in metrics.items() if k in MethodResult.__dataclass_fields__}
    entry = CATALOGUE.get(metrics["data_set"])
    matrix = np.array(read_json(folder / "confusion.json"), np.int64)
    examples = tuple(
        Example(
            side=one["example"]["side"], rank=one["example"]["rank"], image=one["image"],
            miou=one["miou"], pixel_accuracy=one["pixel_accuracy"],
            picture=folder / one["example"]["file"],
        )
        for one in read_json(folder / evaluate.IMAGE_SCORES)
        if one["example"]
    )  # fmt: skip
    return MethodResult(
        **known,
        paper_column=None if entry is None else entry.column,
        confusions=most_confused(matrix, list(metrics["iou"]), CONFUSIONS),
        examples=examples,
    )


def pictured_files(workspace: Workspace, unit: str) -> list[Path]:
    """What `result` reads beside metrics.json; no measured time is in them."""
    folder = evaluate.folder(workspace, unit)
    examples = sorted((folder / "examples").glob("*.png"))
    return [folder / "confusion.json", folder / evaluate.IMAGE_SCORES, *examples]


def foundation(workspace: Workspace) -> dict[str, Any] | None:
    """Figures of the frozen models themselves; None without labels."""
    unit = evaluate.foundation_of(workspace)
    if unit is None:
        return None
    return dict(read_json(evaluate.folder(workspace, unit) / "metrics.json"))


def flat(
    methods: dict[str, dict[str, Any]], frozen: dict[str, Any] | None
) -> dict[str, dict[str, float]]:
    """Figure, then unit, for `dvc metrics`; without times, which never repeat."""
    if frozen is None:
        return {}
    presence, point = frozen["presence"], frozen["sam_random_point"]
    return {
        "miou": {name: one["miou"] for name, one in methods.items()},
        "pixel_accuracy": {name: one["pixel_accuracy"] for name, one in methods.items()},
        "presence": {name: presence[name] for name in ("precision", "recall", "f1")},
        "sam_point_iou": {"top_scored": point["top_scored_iou"], "best": point["best_of_3_iou"]},
    }


def markdown_table(workspace: Workspace) -> str:
    """The mIoU table and the foundation models' figures, with the protocol they belong to."""
    found, frozen = of_methods(workspace), foundation(workspace)
    if frozen is None:
        return "No labels were given, so there is nothing to score."
    lines = ["| method | data set | mIoU | lowest class | pixel accuracy | seconds an image |",
             "|---|---|---|---|---|---|"]  # fmt: skip
    for m in found.values():
        low = min(((v, name) for name, v in m["iou"].items() if v is not None), default=(0.0, "-"))
        lines.append(
            f"| `{m['method']}` | {m['data_set']} | {m['miou']:.3f} | {low[0]:.3f} ({low[1]}) | "
            f"{m['pixel_accuracy']:.3f} | {m['seconds_per_image']:.3f} |"
        )
    first = next(iter(found.values()))
    presence, sam = frozen["presence"], frozen["sam_random_point"]
    lines += [
        "",
        f"Presence (CLIP): precision {presence['precision']:.3f}, recall {presence['recall']:.3f}, "
        f"F1 {presence['f1']:.3f}. SAM's top-scored mask from one random point: mean IoU "
        f"{sam['top_scored_iou']:.3f} (best of three {sam['best_of_3_iou']:.3f}).",
        f"Data set {first['data_set']}, split {first['split']}, {first['images']} images, protocol "
        f"`{first['protocol']['name']}` {first['protocol_hash']}, seed {first['seed']}.",
    ]
    return "\n".join(lines)


def summary(workspace: Workspace) -> str:
    """What `make run` prints at its end."""
    offered = mask_counts(workspace)
    total = {stage: sum(offered[stage].values()) for stage in ("1.1", "1.2", "kept")}
    bad = pseudo_masks.quarantined(workspace)
    lines = ["", markdown_table(workspace), ""]
    lines.append(
        f"pseudo masks: {total['1.1']} of stage 1.1, {total['1.2']} of 1.2, {total['kept']} kept; "
        f"{len(bad)} images quarantined"
    )
    lines += [f"  quarantined {entry['image']}: {entry['reason']}" for entry in bad]
    return "\n".join(lines)


def mask_counts(workspace: Workspace) -> dict[str, Counter[str]]:
    """Stage (1.1, 1.2, kept) to class to number of masks."""
    counted: dict[str, Counter[str]] = {"1.1": Counter(), "1.2": Counter(), "kept": Counter()}
    for shard in pseudo_masks.shards(workspace):
        for stage, name in (("1.1", "stage11.json"), ("1.2", "stage12.json")):
            masks = read_coco(workspace.pseudo_masks / shard / name).masks
            counted[stage].update(mask.class_name for mask in masks)
    kept = read_coco(workspace.subsample / "kept.json").masks
    counted["kept"].update(mask.class_name for mask in kept)
    return counted
