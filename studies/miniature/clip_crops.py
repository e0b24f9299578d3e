"""Captioned crops of the world: what the miniature CLIP learns from."""

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Integer, UInt8

from fmbseg.miniature.things import PALETTE
from fmbseg.miniature.world import CLASS_NAMES, SIZE_PX, STUFF
from studies.miniature.pool import Pool

CROP_PX = 64
_COLOURS = tuple(PALETTE)


def captioned_crops(
    pool: Pool, rng: np.random.Generator, count: int
) -> tuple[UInt8[np.ndarray, "crop 64 64 3"], list[str]]:
    """Draw crops of 36 to 128 px, resized to 64: half about a thing, a fifth of stuff alone.

    The rest lies anywhere. The bare captions of a batch share one template.
    """
    template = str(rng.choice(('a photo of a "{}"', "a photo of a {}", "a {}"), p=(0.5, 0.4, 0.1)))
    boxes, captions, chosen = [], [], np.sort(rng.integers(len(pool.images), size=count))
    for image in chosen:
        kind = rng.choice(("thing", "stuff", "any"), p=(0.5, 0.2, 0.3))
        instances = np.asarray(pool.instances[image])
        for _ in range(8):
            box = thing_box(instances, rng) if kind == "thing" else any_box(rng)
            left, top, side = box
            if kind != "stuff" or not instances[top : top + side, left : left + side].any():
                break
        boxes.append(box)
        captions.append(caption(pool, int(image), box, template, rng))
    pixels = torch.from_numpy(np.asarray(pool.images[chosen])).permute(0, 3, 1, 2).float()
    left, top, side = torch.tensor(boxes, dtype=torch.float32).T
    theta = torch.zeros(count, 2, 3)
    theta[:, 0, 0] = theta[:, 1, 1] = side / SIZE_PX
    theta[:, 0, 2] = (2 * left + side) / SIZE_PX - 1
    theta[:, 1, 2] = (2 * top + side) / SIZE_PX - 1
    grid = F.affine_grid(theta, [count, 3, CROP_PX, CROP_PX], align_corners=False)
    crops = F.grid_sample(pixels, grid, padding_mode="border", align_corners=False)
    return crops.round().byte().permute(0, 2, 3, 1).numpy(), captions


def caption(
    pool: Pool,
    image: int,
    box_xys_px: tuple[int, int, int],
    template: str,
    rng: np.random.Generator,
) -> str:
    """Say what a crop (left, top, side) shows: its leading thing or two, or else its stuff."""
    left, top, side = box_xys_px
    where = np.s_[image, top : top + side, left : left + side]
    labels = np.asarray(pool.labels[where])
    areas = np.bincount(np.asarray(pool.instances[where]).ravel(), minlength=4)[:4]
    whole = np.bincount(np.asarray(pool.instances[image]).ravel(), minlength=4)[:4]
    share, visible = areas / side**2, areas / np.maximum(whole, 1)
    shown = [
        i
        for i in np.argsort(-share)
        if i and ((share[i] > 0.1 and visible[i] > 0.35) or share[i] > 0.3)
    ]
    stuff_areas = np.bincount(labels.ravel(), minlength=len(CLASS_NAMES))[: len(STUFF)]
    stuff = [STUFF[i] for i in np.argsort(-stuff_areas) if stuff_areas[i] > 0.15 * side**2]
    if not shown and not stuff:
        stuff = [STUFF[int(stuff_areas.argmax())]]
    if not shown:
        glimpsed = int(share[1:].argmax()) + 1
        if share[glimpsed] > 0.04:
            name = CLASS_NAMES[pool.thing_classes[image, glimpsed - 1]]
            return f"a photo of {stuff[0]} and a part of a {name}"
        clear = len(stuff) == 1 or rng.random() < 0.5
        return template.format(stuff[0]) if clear else f"a photo of {stuff[0]} and {stuff[1]}"
    names = [CLASS_NAMES[pool.thing_classes[image, i - 1]] for i in shown]
    if len(shown) > 1 and share[shown[1]] > 0.5 * share[shown[0]] and names[0] != names[1]:
        return f"a photo of a {names[0]} and a {names[1]}"
    way = rng.random()
    if way < 0.15:
        colour = _COLOURS[pool.thing_colours[image, shown[0] - 1]]
        return f"a photo of a {colour} {names[0]}"
    if way < 0.3 and stuff:
        return f"a photo of a {names[0]} on {stuff[0]}"
    return template.format(names[0])


def any_box(rng: np.random.Generator) -> tuple[int, int, int]:
    """A square anywhere: left, top, side; small ones as often as large ones."""
    side = int(np.exp(rng.uniform(np.log(36), np.log(SIZE_PX))))
    left, top = rng.integers(SIZE_PX - side + 1, size=2)
    return int(left), int(top), side


def thing_box(
    instances: Integer[np.ndarray, "height width"], rng: np.random.Generator
) -> tuple[int, int, int]:
    """A square about one of the image's things, 0.75 to 1.8 times as long as the thing."""
    present = np.unique(instances)
    present = present[present > 0]
    if not len(present):
        return any_box(rng)
    ys, xs = np.nonzero(instances == rng.choice(present))
    length = max(np.ptp(xs), np.ptp(ys)) + 1
    side = int(np.clip(length * rng.uniform(0.75, 1.8), 36, SIZE_PX))
    shift_x, shift_y = rng.uniform(-0.3, 0.3, 2) * side
    left = int(np.clip((xs.min() + xs.max() - side) / 2 + shift_x, 0, SIZE_PX - side))
    top = int(np.clip((ys.min() + ys.max() - side) / 2 + shift_y, 0, SIZE_PX - side))
    return left, top, side
