"""Similarities of patches become labels of pixels: which class wins, by how much, or none."""

from collections.abc import Iterator, Sequence

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from fmbseg.image_size import LARGE_PIXELS
from fmbseg.methods.upsampling import Grid, SimilarityMap, Upsampled
from fmbseg.progress import progress
from fmbseg.types import IGNORE, LabelMap

MAX_ELEMENTS = 2**22
"""Names x pixels that are interpolated at once on the CPU: 16 MB, which its caches hold."""
MAX_ELEMENTS_DEVICE = 2**26
"""The same on an accelerator: 256 MB."""
_GROUP = 16
_MANY = 48
"""Of more names than this the best one's group is looked for first."""


def label_pixels(
    grid: Float[Tensor, "category rows cols"] | SimilarityMap,
    image_hw: tuple[int, int],
    class_names: Sequence[str],
    *,
    similarities: bool = False,
) -> LabelMap:
    """Interpolate similarities to the image's size and take the best class per pixel.

    This goes some rows of pixels at a time, so that memory is bounded however many classes and
    pixels there are; the answer is the same. Ties go to the lower index.

    Args:
        grid: cosine per class and patch.
        image_hw: wanted size, px.
        class_names: one per class.
        similarities: keep the interpolated ones in the answer.

    Paper: section 3.3, bilinear interpolation of the similarities, then argmax.
    """
    return label_or_none(grid, image_hw, class_names, similarities=similarities, scores=False)


@torch.inference_mode()
def label_or_none(
    grid: Float[Tensor, "name rows cols"] | SimilarityMap,
    image_hw: tuple[int, int],
    class_names: Sequence[str],
    *,
    min_similarity: float | None = None,
    temperature: float | None = None,
    similarities: bool = False,
    scores: bool = True,
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
        scores: answer `best_similarity`.

    Returns:
        Labels as int32, as uint8 where there are more pixels than `LARGE_PIXELS`.

    Raises:
        ValueError: more classes than leave IGNORE free for none.
    """
    source = Grid(grid) if isinstance(grid, Tensor) else grid
    classes = len(class_names)
    may_be_none = source.names > classes or min_similarity is not None
    if may_be_none and classes > IGNORE:
        raise ValueError(
            f"found {classes} classes; wanted at most {IGNORE} where a pixel can be none of them"
        )
    narrow = classes <= IGNORE and image_hw[0] * image_hw[1] > LARGE_PIXELS
    kind = torch.uint8 if narrow else torch.int32
    labels = torch.empty(image_hw, dtype=kind, device=source.device)
    best, confidence, kept = (
        torch.empty((*leading, *image_hw), device=source.device) if wanted else None
        for wanted, *leading in ((scores,), (temperature is not None,), (similarities, classes))
    )
    for place, cosines in row_similarities(source, image_hw):
        asked, rivals = cosines[:classes], cosines[classes:]
        value, index = best_name(asked)
        top = torch.maximum(value, rivals.amax(0)) if len(rivals) else value
        nothing = top > value
        if min_similarity is not None:
            nothing |= value < min_similarity
        labels[place] = torch.where(nothing, IGNORE, index)
        if best is not None:
            best[place] = value
        if confidence is not None:
            assert temperature is not None
            total = torch.exp((asked - value) / temperature).sum(0)
            total *= torch.exp((value - top) / temperature)
            if len(rivals):
                total += torch.exp((rivals - top) / temperature).sum(0)
            confidence[place] = 1 / total
        if kept is not None:
            kept[:, place] = asked
    numbers = [None if one is None else one.cpu().numpy() for one in (kept, best, confidence)]
    return LabelMap(labels.cpu().numpy(), tuple(class_names), *numbers)


def best_name(
    cosines: Float[Tensor, "name rows width"],
) -> tuple[Float[Tensor, "rows width"], Int64[Tensor, "rows width"]]:
    """The highest cosine of every pixel and whose it is; a tie goes to the lower index.

    On the CPU torch finds a maximum 20 times as fast as its place, so the place is looked for
    where the maximum is known: of many names in the group that has it.
    """
    if cosines.device.type != "cpu":
        best, index = cosines.max(0)
        return best, index
    if len(cosines) <= _MANY:
        best = cosines.amax(0)
        return best, _first(cosines == best)
    highest = torch.stack([part.amax(0) for part in cosines.split(_GROUP)])
    best = highest.amax(0)
    start = _first(highest == best) * _GROUP
    places = (torch.arange(_GROUP)[:, None, None] + start).clamp_(max=len(cosines) - 1)
    return best, start + _first(cosines.gather(0, places) == best)


def _first(true: Bool[Tensor, "name rows width"]) -> Int64[Tensor, "rows width"]:
    """The lowest name that is true of a pixel."""
    found = torch.zeros(true.shape[1:], dtype=torch.int64)
    for index in reversed(range(1, len(true))):
        found.masked_fill_(true[index], index)
    return found.masked_fill_(true[0], 0)


@torch.inference_mode()
def row_similarities(
    grid: SimilarityMap, image_hw: tuple[int, int]
) -> Iterator[tuple[slice, Float[Tensor, "name rows width"]]]:
    """Interpolate to a size in pixels: all rows from the top, as many at once as memory is for.

    Args:
        grid: cosine per name and patch.
        image_hw: wanted size, px.

    Yields:
        Which rows, and their cosines.
    """
    whole, (height, width) = Upsampled(grid, image_hw), image_hw
    most = MAX_ELEMENTS if whole.device.type == "cpu" else MAX_ELEMENTS_DEVICE
    step = max(1, most // (whole.names * width))
    with progress("pixels", total=height, unit="row", shown=height * width > LARGE_PIXELS) as done:
        for top in range(0, height, step):
            bottom = min(top + step, height)
            yield slice(top, bottom), whole.rows(top, bottom)
            done.update(bottom - top)
