"""SAM draws the regions of a coarse label map anew: each region becomes a prompt."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64, Integer
from scipy import ndimage
from torch import Tensor

from fmbseg.image_size import row_bands
from fmbseg.methods.pixels import row_similarities
from fmbseg.methods.upsampling import Grid, SimilarityMap, resize_similarities
from fmbseg.models.protocols import SamEmbedding, TakesRegions


@dataclass(frozen=True)
class Refinement:
    """Which regions are drawn anew, and which answers are taken; the defaults are the original's.

    Attributes:
        temperature: of the softmax that makes probabilities of cosines.
        min_probability: a pixel below it belongs to no region, and to no mask given to SAM.
        min_area_px: a smaller region stays as it is; counted at half the image's size.
        mask_scale: probabilities are multiplied by it to become the logits of a mask prompt.
        min_predicted_iou: an answer whose quality SAM itself estimates no higher is not taken.
    """

    temperature: float = 1 / 40
    min_probability: float = 0.2
    min_area_px: int = 225
    mask_scale: float = 0.005
    min_predicted_iou: float = 0.8


PUBLISHED = Refinement()


@torch.inference_mode()
def refined(
    sam: TakesRegions,
    embedding: SamEmbedding,
    cosines: SimilarityMap,
    coarse: Integer[np.ndarray, "height width"],
    options: Refinement = PUBLISHED,
) -> Integer[np.ndarray, "height width"]:
    """Labels along SAM's edges where SAM is sure, the coarse ones elsewhere.

    At half the image's size every connected region of a class (diagonals connect) that is large
    and probable enough becomes a prompt: its most probable pixel, its box, and the class's
    probability as a mask. Of an answer that is taken each pixel inside scores sigmoid(logit) times
    the class's probability there; the best score decides. Pixels without a score, and regions
    whose answer is not taken, keep their labels.

    One class is worked on at a time: beside the prompts of its regions a handful of maps of the
    image's size are held, however many classes and regions there are.

    Args:
        sam: that made the embedding.
        embedding: of the image.
        cosines: per name, on any grid over the image; the classes first, then any others.
        coarse: index of a name per pixel; any other number is no class and makes no region.
        options: thresholds.

    Returns:
        As `coarse`, which is left unchanged.

    Source: Shi et al., Trident, arXiv 2411.09219 (SAM refinement). Our implementation.
    """
    image_hw = embedding.image_hw
    total = _log_total(cosines, image_hw, options.temperature)
    best = torch.zeros(image_hw, device=total.device)
    winner = torch.from_numpy(coarse.astype(np.int32)).to(total.device, non_blocking=True)
    failed = np.zeros(image_hw, bool)
    for name in _present(coarse, cosines.names):
        own = _whole(_of_name(cosines, name), image_hw)
        probability = torch.exp(own / options.temperature - total)
        regions = _regions(coarse == name, probability, options)
        if len(regions.points_xy_px) == 0:
            continue
        low = sam.downscale(embedding, probability[None])
        masks = torch.where(low > options.min_probability, options.mask_scale * low, 0)
        answer = sam.predict_regions(
            embedding, regions.points_xy_px, regions.corners_px,
            masks.expand(len(regions.points_xy_px), -1, -1),
            lambda iou: iou > options.min_predicted_iou,
        )  # fmt: skip
        failed |= regions.of(~answer.wanted[:, 0].numpy(), image_hw)
        for logits in answer.logits:
            drawn = sam.upscale(embedding, logits[None])[0].to(total.device, non_blocking=True)
            score = torch.sigmoid(drawn).mul_(probability).masked_fill_(drawn <= 0, 0)
            winner.masked_fill_(score > best, name)
            best = torch.maximum(best, score)
    labels = winner.cpu().numpy().astype(coarse.dtype)
    return np.where(failed, coarse, labels)


def _present(coarse: Integer[np.ndarray, "height width"], names: int) -> list[int]:
    """The names that a label map shows, ascending."""
    found = set[int]()
    for rows in row_bands(coarse.shape):
        found.update(np.unique(coarse[rows]).tolist())
    return sorted(one for one in found if one < names)


@dataclass(frozen=True)
class _Regions:
    """Regions of one class at half the image's size.

    Attributes:
        numbers: which of all connected parts is at a pixel, from 1.
        kept: numbers of the parts that are regions.
        points_xy_px: each one's most probable pixel, in px of the image.
        corners_px: left, top, right, bottom: first and last pixel, in px of the image.
    """

    numbers: Integer[np.ndarray, "rows cols"]
    kept: Int64[np.ndarray, " region"]
    points_xy_px: Float[np.ndarray, "region 2"]
    corners_px: Float[np.ndarray, "region 4"]

    def of(
        self, some: Bool[np.ndarray, " region"], image_hw: tuple[int, int]
    ) -> Bool[np.ndarray, "height width"]:
        """Pixels of some regions at the image's size."""
        chosen = np.zeros(int(self.numbers.max()) + 1, bool)
        chosen[self.kept[some]] = True
        return _nearest(chosen[self.numbers], image_hw)


def _regions(
    own: Bool[np.ndarray, "height width"],
    probability: Float[Tensor, "height width"],
    options: Refinement,
) -> _Regions:
    """Connected parts of a class's pixels, those that are large enough."""
    (height, width), half = own.shape, (max(own.shape[0] // 2, 1), max(own.shape[1] // 2, 1))
    probable = resize_similarities(probability[None], half)[0].cpu().numpy()
    inside = _nearest(own, half) & (probable >= options.min_probability)
    numbers, count = ndimage.label(inside, structure=np.ones((3, 3)))
    areas = np.bincount(numbers.ravel(), minlength=count + 1)[1:]
    kept = 1 + np.flatnonzero(areas >= options.min_area_px)
    scale_xy = np.array([width / half[1], height / half[0]])
    points, corners = np.empty((len(kept), 2)), np.empty((len(kept), 4))
    boxes = ndimage.find_objects(numbers)
    for index, number in enumerate(kept.tolist()):
        rows, cols = boxes[number - 1]
        part = np.where(numbers[rows, cols] == number, probable[rows, cols], -1)
        peak = np.unravel_index(part.argmax(), part.shape)
        points[index] = scale_xy * (cols.start + peak[1], rows.start + peak[0])
        ends = (cols.start, rows.start, cols.stop - 1, rows.stop - 1)
        corners[index] = np.tile(scale_xy, 2) * ends
    return _Regions(numbers, kept, points, corners)


def _nearest(
    given: Bool[np.ndarray, "height width"], size_hw: tuple[int, int]
) -> Bool[np.ndarray, "new_height new_width"]:
    down, across = (
        np.arange(new) * old // new for new, old in zip(size_hw, given.shape, strict=True)
    )
    return np.ascontiguousarray(given[down][:, across])


@dataclass(frozen=True)
class _OneName:
    """One name of a map that has several."""

    source: SimilarityMap
    index: int
    names: int = 1

    @property
    def size_hw(self) -> tuple[int, int]:
        return self.source.size_hw

    @property
    def device(self) -> torch.device:
        return self.source.device

    def rows(self, top: int, bottom: int) -> Float[Tensor, "name rows width"]:
        return self.source.rows(top, bottom)[self.index : self.index + 1]


def _of_name(cosines: SimilarityMap, index: int) -> SimilarityMap:
    if isinstance(cosines, Grid):
        return Grid(cosines.values[index : index + 1])
    return _OneName(cosines, index)


def _whole(one: SimilarityMap, image_hw: tuple[int, int]) -> Float[Tensor, "height width"]:
    return torch.cat([rows[0] for _, rows in row_similarities(one, image_hw)])


def _log_total(
    cosines: SimilarityMap, image_hw: tuple[int, int], temperature: float
) -> Float[Tensor, "height width"]:
    """Logarithm of the softmax's denominator at every pixel."""

    def parts() -> Iterator[Tensor]:
        for _, rows in row_similarities(cosines, image_hw):
            yield torch.logsumexp(rows / temperature, dim=0)

    return torch.cat(list(parts()))
