"""The paper's figures 2, 3 and 4 on the miniature."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from jaxtyping import Float
from matplotlib.figure import Figure
from torch import Tensor
from torch.nn.functional import interpolate

from fmbseg.datasets import Sample
from fmbseg.evaluate.prepared import PreparedMethod
from fmbseg.pictures.colours import palette
from fmbseg.pictures.drawing import legend, overlay
from fmbseg.pictures.layers import compose, masks_layer
from fmbseg.segmenter import Segmenter
from fmbseg.steps import evaluate, evaluation_sets
from fmbseg.steps.foundation_models import clip_of, models_of
from fmbseg.steps.kept_masks import masks_file
from fmbseg.steps.shards import shards
from fmbseg.steps.workspace import Workspace
from fmbseg.store import read_coco
from fmbseg.types import Image
from fmbseg.vocabulary import Vocabulary, read_classes
from studies.cells import Cell

SHOWN = ("maskclip", "naclip", "stage1", "fmbseg")
MASKED_IMAGES = 4


def draw(cell: Cell, folder: Path, view: str) -> dict[str, Path]:
    """Draw the three figures of one workspace.

    Args:
        cell: finished.
        folder: receives similarities.png, masks.png and predictions.png.
        view: whose test images are shown.

    Returns:
        Name of the figure to its file.
    """
    mpl.use("agg")
    folder.mkdir(parents=True, exist_ok=True)
    workspace = cell.workspace
    column = evaluation_sets.open_evaluation_set(workspace, view)
    stuff = len(column.classes) - 8
    chosen = _with_things(column.samples, stuff, 4)
    drawn = {
        "similarities": (_similarities(workspace, chosen, column.classes, stuff)),
        "masks": _masks(workspace),
        "predictions": _predictions(workspace, column, chosen),
    }
    paths = {}
    for name, figure in drawn.items():
        paths[name] = folder / f"{name}.png"
        figure.savefig(paths[name], dpi=80, metadata={"Software": None})
    return paths


def _with_things(samples: Any, first_thing: int, count: int) -> list[Sample]:
    """The first samples whose largest things are all different, so that much is seen."""
    found: dict[int, Sample] = {}
    for index in range(len(samples)):
        sample = samples[index]
        thing = _largest_thing(sample, first_thing)
        if thing is not None:
            found.setdefault(thing, sample)
        if len(found) == count:
            break
    return list(found.values())


def _largest_thing(sample: Sample, first_thing: int) -> int | None:
    labels = np.asarray(sample.target)
    counts = np.bincount(labels[(labels >= first_thing) & (labels < 255)], minlength=first_thing)
    return int(counts.argmax()) if counts.sum() > 0.02 * labels.size else None


def _similarities(
    workspace: Workspace, samples: Sequence[Sample], classes: Vocabulary, first_thing: int
) -> Figure:
    """The paper's figure 2: where CLIP's patches, and the aligned ones, see a class name."""
    models = models_of(workspace)
    ours = Segmenter.load(workspace.train, workspace.params.device, models=models).segmentation
    plain = clip_of(workspace, "maskclip")
    rows = []
    for sample in samples:
        thing = _largest_thing(sample, first_thing)
        assert thing is not None
        name = classes.names[thing]
        text = plain.encode_text([name])[0].float()
        size = sample.image.shape[:2]
        dense = _heat(plain.encode_dense(sample.image).patches.float() @ text, size)
        aligned = _heat(ours.align(models.vision.encode(sample.image)).cpu() @ text, size)
        rows.append(([sample.image, dense, aligned], f'"{name}"'))
    return _grid(rows, ("image", "CLIP's patches", "aligned patches"))


def _heat(cosines: Float[Tensor, "rows cols"], image_hw: tuple[int, ...]) -> Image:
    """Cosines as colours, from the map's lowest to its highest."""
    fine = interpolate(cosines[None, None], size=image_hw, mode="bilinear", align_corners=False)
    fine = fine[0, 0]
    scaled = (fine - fine.min()) / (fine.max() - fine.min()).clamp(min=1e-6)
    colours = mpl.colormaps["magma"](scaled.numpy())[..., :3]
    return np.asarray(colours * 255, np.uint8)


def _masks(workspace: Workspace) -> Figure:
    """The paper's figure 3: masks of stages 1.1 and 1.2, and what is kept."""
    names = read_classes(workspace.classes_path()).names
    colours, shard = palette(len(names)), next(iter(shards(workspace)))
    folder = workspace.pseudo_masks / shard
    files = folder / "stage11.json", folder / "stage12.json", masks_file(workspace, shard)
    first, second, kept = (read_coco(file).by_image() for file in files)
    richest = sorted(first, key=lambda image: (-len(first[image]), image))[:MASKED_IMAGES]
    rows = []
    for name in richest:
        image = workspace.read_image(name)
        pictures = [
            compose(
                image, masks_layer(masks.get(name, []), image.shape[:2], colours, points=points)
            )
            for masks, points in ((first, True), (second, False), (kept, False))
        ]
        rows.append(([image, *pictures], ""))
    return _grid(
        rows,
        ("image", "stage 1.1", "stage 1.2", "kept"),
        legend(names, colours, range(len(names)), 640),
    )


def _predictions(workspace: Workspace, column: Any, samples: Sequence[Sample]) -> Figure:
    """The paper's figure 4: what the methods answer."""
    colours = palette(len(column.classes))
    protocol = evaluate.protocol(workspace, column)
    methods = [
        PreparedMethod(protocol, evaluate.build(workspace, name), column.classes) for name in SHOWN
    ]
    rows = []
    for sample in samples:
        assert sample.target is not None
        answers = [overlay(sample.image, one.predict(sample.image), colours) for one in methods]
        truth = overlay(sample.image, sample.target, colours)
        rows.append(([sample.image, truth, *answers], ""))
    names = ("image", "truth", *SHOWN)
    return _grid(
        rows, names, legend(column.classes.names, colours, range(len(column.classes)), 900)
    )


def _grid(
    rows: Sequence[tuple[Sequence[Image], str]], titles: Sequence[str], below: Image | None = None
) -> Figure:
    """Rows of pictures, each with a label; a legend below if there is one."""
    height = 2 * len(rows) + (0.9 if below is not None else 0.2)
    figure = Figure(figsize=(2 * len(titles) + 0.3, height + 0.2), layout="constrained")
    ratios = [2.0] * len(rows) + ([0.8] if below is not None else [])
    grid = figure.add_gridspec(len(ratios), len(titles), height_ratios=ratios)
    for down, (images, label) in enumerate(rows):
        for across, title in enumerate(titles):
            axes = figure.add_subplot(grid[down, across])
            axes.imshow(images[across])
            axes.set_xticks([])
            axes.set_yticks([])
            if down == 0:
                axes.set_title(title, fontsize=11)
            if across == 0:
                axes.set_ylabel(label, fontsize=11)
    if below is not None:
        axes = figure.add_subplot(grid[-1, :])
        axes.imshow(below)
        axes.axis("off")
    return figure
