"""Similarities of patches become labels of pixels: which class wins, by how much, or none."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from fmbseg.types import IGNORE, LabelMap

MAX_ELEMENTS = 2**25
"""Names x pixels that are interpolated at once: 128 MB."""


def resize_similarities(
    similarities: Float[Tensor, "category rows cols"], size_hw: tuple[int, int]
) -> Float[Tensor, "category height width"]:
    """Bilinear interpolation to a size in pixels, pixel centres aligned (no corner alignment)."""
    return functional.interpolate(
        similarities[None], size=size_hw, mode="bilinear", align_corners=False
    )[0]


def label_pixels(
    grid: Float[Tensor, "category rows cols"],
    image_hw: tuple[int, int],
    class_names: Sequence[str],
    *,
    similarities: bool = False,
) -> LabelMap:
    """Interpolate similarities to the image's size and take the best class per pixel.

    Without `similarities` this goes class group by class group, so that memory is bounded however
    many classes and pixels there are; the answer is the same. Ties go to the lower index.

    Args:
        grid: cosine per class and patch.
        image_hw: wanted size, px.
        class_names: one per class.
        similarities: keep the interpolated ones in the answer.

    Paper: section 3.3, bilinear interpolation of the similarities, then argmax.
    """
    if similarities:
        full = resize_similarities(grid.float(), image_hw)
        return LabelMap(full.argmax(0).int().numpy(), tuple(class_names), full.numpy())
    return replace(label_or_none(grid, image_hw, class_names), best_similarity=None)


@torch.inference_mode()
def label_or_none(
    grid: Float[Tensor, "name rows cols"],
    image_hw: tuple[int, int],
    class_names: Sequence[str],
    *,
    min_similarity: float | None = None,
    temperature: float | None = None,
    similarities: bool = False,
) -> LabelMap:
    """Interpolate similarities to the image's size; a pixel's class is the best name, or none.

    A pixel is none (IGNORE) when a background name beats every class, or when the best class
    stays below `min_similarity`. Without either it is what `label_pixels` answers.

    Args:
        grid: cosine per name and patch: the classes first, then any background names.
        image_hw: wanted size, px.
        class_names: of the classes.
        min_similarity: a cosine, -1 to 1.
        temperature: of the softmax over all names, for `confidence`; None leaves that out.
        similarities: keep the classes' interpolated cosines in the answer.

    Raises:
        ValueError: more classes than leave IGNORE free for none.
    """
    classes = len(class_names)
    may_be_none = len(grid) > classes or min_similarity is not None
    if may_be_none and classes > IGNORE:
        raise ValueError(
            f"found {classes} classes; wanted at most {IGNORE} where a pixel can be none of them"
        )
    best, labels = torch.full(image_hw, -torch.inf), torch.zeros(image_hw, dtype=torch.int64)
    rival, total = best.clone(), torch.zeros(image_hw)  # the best name of all; softmax's divisor
    for start, cosines in _parts(grid, image_hw, classes):
        value, index = cosines.max(0)
        if start < classes:
            better = value > best
            best, labels = (
                torch.where(better, value, best),
                torch.where(better, index + start, labels),
            )
        if temperature is not None:
            top = torch.maximum(rival, value)
            total = total * torch.exp((rival - top) / temperature)
            total += torch.exp((cosines - top) / temperature).sum(0)
        rival = torch.maximum(rival, value)
    nothing = rival > best
    if min_similarity is not None:
        nothing |= best < min_similarity
    answer = LabelMap(
        torch.where(nothing, IGNORE, labels).int().numpy(),
        tuple(class_names),
        best_similarity=best.numpy(),
        confidence=None if temperature is None else (1 / total).numpy(),
    )
    if not similarities:
        return answer
    full = resize_similarities(grid[:classes].float(), image_hw)
    return replace(answer, similarities=full.numpy())


def _parts(
    grid: Float[Tensor, "name rows cols"], image_hw: tuple[int, int], classes: int
) -> Iterator[tuple[int, Float[Tensor, "name height width"]]]:
    """Interpolated groups of names, each of classes alone or of background names alone."""
    group = max(1, MAX_ELEMENTS // (image_hw[0] * image_hw[1]))
    for first, last in ((0, classes), (classes, len(grid))):
        for start in range(first, last, group):
            part = grid[start : min(start + group, last)]
            yield start, resize_similarities(part.float(), image_hw)
