"""Draw the README's first picture: photograph | pseudo masks | what the trained model answers.

`python -m scripts.make_picture [WORKSPACE] [--images 4]` reads a finished run and writes
docs/picture.png: training images of the run with most classes among their kept masks. Nothing in
it was labelled by anyone.
"""

import argparse
from pathlib import Path

import numpy as np
from PIL import Image as PilImage

from fmbseg.pictures.colours import palette
from fmbseg.pictures.drawing import colourise, legend, save_png
from fmbseg.pictures.layers import compose, masks_layer
from fmbseg.segmenter import Segmenter
from fmbseg.steps.kept_masks import kept_masks
from fmbseg.steps.shards import shards
from fmbseg.steps.workspace import Workspace
from fmbseg.types import Image, PseudoMask
from fmbseg.vocabulary import read_classes

OUT = Path(__file__).parents[1] / "docs" / "picture.png"
GAP_PX = 6


def main() -> int:
    """Read the arguments, draw the picture."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("workspace", nargs="?", type=Path, default=Path())
    parser.add_argument("--images", type=int, default=4, help="rows of the picture, two a line")
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--height", type=int, default=200, help="px of one image")
    arguments = parser.parse_args()
    workspace = Workspace.open(arguments.workspace)
    save_png(arguments.out, draw(workspace, arguments.images, arguments.height))
    print(f"wrote {arguments.out}")
    return 0


def draw(workspace: Workspace, count: int, height_px: int) -> Image:
    """Image, kept pseudo masks and prediction of the images with most classes, and the legend."""
    vocabulary = read_classes(workspace.classes_path())
    colours = palette(len(vocabulary))
    parts = [kept_masks(workspace, shard).by_image() for shard in shards(workspace)]
    masks = {name: found for part in parts for name, found in part.items()}
    segmenter = Segmenter.load(workspace.train, workspace.params.device)
    rows, present = [], set[int]()
    for name in _chosen(masks, count):
        image = workspace.read_image(name)
        labels = segmenter.predict(image, vocabulary).labels
        present |= set(np.unique(labels).tolist())
        layer = masks_layer(masks[name], image.shape[:2], colours, points=False)
        shown = [image, compose(image, layer)]
        rows.append(
            _beside(
                [_scaled(one, height_px) for one in shown]
                + [_scaled(colourise(labels, colours), height_px, PilImage.Resampling.NEAREST)]
            )
        )
    pairs = [_beside(rows[i : i + 2], 3 * GAP_PX) for i in range(0, len(rows) - 1, 2)]
    sheet = _above(pairs)
    below = legend(vocabulary.names, colours, sorted(present), sheet.shape[1])
    return np.concatenate([sheet, below])


def _chosen(masks: dict[str, list[PseudoMask]], count: int) -> list[str]:
    """The images with most classes; of equally many the first by name; no class set twice."""
    found: list[str] = []
    seen: list[set[int]] = []
    for name in sorted(masks, key=lambda one: (-len({m.class_index for m in masks[one]}), one)):
        classes = {mask.class_index for mask in masks[name]}
        if classes not in seen:
            found.append(name)
            seen.append(classes)
    return found[:count]


def _scaled(image: Image, height_px: int, how: int = PilImage.Resampling.BICUBIC) -> Image:
    width = round(image.shape[1] * height_px / image.shape[0])
    return np.asarray(PilImage.fromarray(image).resize((width, height_px), how))


def _beside(images: list[Image], gap_px: int = GAP_PX) -> Image:
    gap = np.full((images[0].shape[0], gap_px, 3), 255, np.uint8)
    parts = [images[0]]
    for image in images[1:]:
        parts += [gap, image]
    return np.concatenate(parts, axis=1)


def _above(images: list[Image]) -> Image:
    width = max(image.shape[1] for image in images)
    parts = []
    for image in images:
        padded = np.full((image.shape[0] + GAP_PX, width, 3), 255, np.uint8)
        padded[: image.shape[0], : image.shape[1]] = image
        parts.append(padded)
    return np.concatenate(parts)


if __name__ == "__main__":
    raise SystemExit(main())
