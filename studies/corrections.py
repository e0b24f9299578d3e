"""What corrections are worth on the miniature: `python -m studies.corrections`.

A reviewer who is simulated looks at some images and puts their pseudo masks right by class alone:
each mask, of both stages, gets the class that most of its pixels truly have, or is deleted where
no class has half of them. No outline is drawn. The segmenter is trained anew with these images
and scored on the test split; which images a person should look at first, those of the step
`review` or any, is what the curve compares. The weight of corrections is chosen on the validation
split. A killed study goes on at the cell that it was at.
"""

import statistics
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from fmbseg.corrections.store import (
    Change,
    CorrectedRegion,
    Correction,
    now,
    read_correction,
    save_correction,
)
from fmbseg.export.regions import regions_of_masks
from fmbseg.methods.table import OURS
from fmbseg.params import load_params
from fmbseg.progress import lines_to_stderr, tracked
from fmbseg.steps import evaluate
from fmbseg.steps.plan import run_step
from fmbseg.steps.review import queue_of
from fmbseg.steps.shards import shards
from fmbseg.steps.truth import labelled
from fmbseg.steps.workspace import Workspace
from fmbseg.store import MANIFEST, StoreError, decode_rle, read_coco, read_json, write_json
from fmbseg.types import IGNORE, PseudoMask
from studies.cells import PARAMS, Cell, CellError, run_all
from studies.page import put_block, spread

ROOT, DOCS = Path("runs/corrections"), Path("docs/corrections.md")
CURVE = Path("docs/figures/corrections.png")
SEEDS, COUNTS, WEIGHTS = (0, 1, 2), (5, 10, 20, 50), (1.0, 3.0, 10.0)
WAYS = {"queue": "first of the queue", "random": "random"}
MOST = max(COUNTS)
"""The weight is chosen with so many corrected images."""
_STATE = ".scratch/study.json"


def base(root: Path) -> Cell:
    """Images and pseudo masks, which all cells share."""
    return Cell(root / "images", {"runner.workers": 1}, until="subsample")


def cell(root: Path, way: str, count: int, weight: float, seed: int) -> Cell:
    """A training with so many corrected images, all of which are trained on."""
    name = f"{way}-{count}-weight-{weight:g}" if count else "none"
    place = root / name / f"seed-{seed}"
    overrides = {
        "train.seed": seed, "runner.workers": 1, "train.corrections_weight": weight,
        "data.corrections_held_out_fraction": 0.0, "evaluate.methods": [OURS],
        "train.validation_images": 0,
    }  # fmt: skip
    images = base(root)
    prepare = partial(review, images.root, place / "data" / "corrections", way, count, seed)
    return Cell(place, overrides, images, prepare, until="train")


def review(source: Path, folder: Path, way: str, count: int, seed: int) -> None:
    """Put some images of a workspace right, as somebody would who knows the truth."""
    workspace = Workspace.open(source)
    for name in chosen(workspace, way, seed)[:count]:
        if read_correction(folder, name) is None:
            save_correction(folder, put_right(workspace, name))


def chosen(workspace: Workspace, way: str, seed: int) -> list[str]:
    """Every image in the order in which it would be looked at."""
    if way == "random":
        names = sorted(workspace.listing().images)
        return [names[k] for k in np.random.default_rng([seed, 1]).permutation(len(names))]
    return [entry.image for entry in queue_of(workspace)]


def put_right(workspace: Workspace, name: str) -> Correction:
    """An image's pseudo masks under their true classes, the most important first."""
    truth, classes = truth_of(workspace, name)
    masks = pseudo_masks(workspace, name)
    found = []
    for region in regions_of_masks(masks, masks):
        inside = truth[decode_rle(region.rle)]
        votes = np.bincount(inside[inside != IGNORE], minlength=len(classes))
        if 2 * votes.max() < len(inside):
            continue
        best = int(votes.argmax())
        kept = best == region.class_index
        origin, score = (region.origin, region.score) if kept else ("person", None)
        found.append(CorrectedRegion(classes[best], region.rle, origin, score))
    change = Change("the study", now(), "study", "masks under their true classes")
    sha = workspace.listing().images[name]
    size = (truth.shape[0], truth.shape[1])
    return Correction(name, sha, size, classes, tuple(found), accepted=True, history=(change,))


def pseudo_masks(workspace: Workspace, name: str) -> list[PseudoMask]:
    """All of an image, of both stages."""
    (shard,) = (shard for shard, names in shards(workspace).items() if name in names)
    files = (workspace.pseudo_masks / shard / file for file in ("stage11.json", "stage12.json"))
    return [mask for file in files for mask in read_coco(file).by_image().get(name, [])]


def truth_of(workspace: Workspace, name: str) -> tuple[Any, tuple[str, ...]]:
    """The true label map of a training image, and the class names."""
    samples = labelled(workspace)
    assert samples is not None, "the miniature has labels"
    return samples[samples.names.index(name)].target, samples.class_names


def miou(one: Cell, split: str) -> float:
    """The trained segmenter's, on a split; scored once for each training."""
    path, trained = one.root / _STATE, read_json(one.root / "models/train" / MANIFEST)["key"]
    try:
        known = dict(read_json(path))
    except StoreError:
        known = {}
    if known.get("trained") != trained:
        known = {"trained": trained}
    if split not in known:
        workspace = Workspace(one.root, load_params(one.root / PARAMS, {"evaluate.split": split}))
        unit = evaluate.unit_name(OURS, workspace.data_set)
        run_step(workspace, "evaluate", only=unit)
        known[split] = read_json(workspace.evaluate / unit / "metrics.json")["miou"]
        write_json(path, known)
    return float(known[split])


def scored(title: str, found: Sequence[Cell], split: str) -> list[float]:
    """The mIoU of some cells, which are trained first."""
    run_all(found, title)
    return [miou(one, split) for one in tracked(found, f"{title}: {split}", unit="cell")]


def study(root: Path = ROOT) -> dict[str, Any]:
    """All figures; what was computed before is kept.

    Raises:
        CellError: a training failed.
    """
    before = [cell(root, "none", 0, 1.0, seed) for seed in SEEDS]
    none = {split: scored("without corrections", before, split) for split in ("val", "test")}
    weights = {
        weight: scored(f"weight {weight:g}",
                       [cell(root, "queue", MOST, weight, seed) for seed in SEEDS], "val")
        for weight in WEIGHTS
    }  # fmt: skip
    weight = max(WEIGHTS, key=lambda one: statistics.fmean(weights[one]))
    curve: dict[str, dict[int, list[float]]] = {way: {} for way in WAYS}
    for count in sorted(COUNTS, reverse=True):
        for way in WAYS:
            here = [cell(root, way, count, weight, seed) for seed in SEEDS]
            curve[way][count] = scored(f"{count} images, {WAYS[way]}", here, "test")
    return {"none": none, "weights": weights, "weight": weight, "curve": curve}


def tables(found: dict[str, Any]) -> str:
    """The figures as markdown."""
    none, weights = found["none"], found["weights"]
    lines = ["| corrected images | " + " | ".join(WAYS.values()) + " |", "|---" * 3 + "|",
             f"| none | {spread(none['test'])} | {spread(none['test'])} |"]  # fmt: skip
    for count in COUNTS:
        cells = " | ".join(spread(found["curve"][way][count]) for way in WAYS)
        lines.append(f"| {count} | {cells} |")
    tried = ", ".join(f"{spread(values)} at {weight:g}" for weight, values in weights.items())
    lines += [
        "",
        f"Weight, chosen on the validation split with the first {MOST} images of the queue: "
        f"{tried}; {spread(none['val'])} without any. Taken: {found['weight']:g}.",
    ]
    return "\n".join(lines)


def plot(found: dict[str, Any], path: Path) -> None:
    """Draw the curve."""
    mpl.use("agg")
    figure = Figure(figsize=(6, 3.6), layout="constrained")
    axes = figure.subplots()
    for way, words in WAYS.items():
        values = [found["none"]["test"], *(found["curve"][way][count] for count in COUNTS)]
        means = [statistics.fmean(one) for one in values]
        reach = [[m - min(v) for m, v in zip(means, values, strict=True)],
                 [max(v) - m for m, v in zip(means, values, strict=True)]]  # fmt: skip
        axes.errorbar((0, *COUNTS), means, reach, marker="o", capsize=3, label=words)
    axes.set_xlabel("images put right, of 600")
    axes.set_ylabel("mIoU, test split")
    axes.legend()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=80, metadata={"Software": None})


def main() -> int:
    """Run what is missing, draw and write."""
    lines_to_stderr()
    try:
        found = study()
    except CellError as error:
        print(f"corrections: {error}", file=sys.stderr)
        return 1
    write_json(ROOT / "corrections.json", found)
    plot(found, CURVE)
    put_block(DOCS, "study", tables(found))
    print(tables(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
