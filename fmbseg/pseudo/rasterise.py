"""From SAM's low-resolution logits to masks of the image's size, a bounded number at a time.

Masks are measured first and encoded afterwards, so that run lengths are made only of those that
pass every filter; these are upscaled twice.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from fmbseg.models.protocols import SamEmbedding, SamModel
from fmbseg.store import encode_rles
from fmbseg.types import Rle, SamMask

_PIXELS_AT_ONCE = 2**24
"""Logits upscaled at once (64 MB as float32), though always at least one mask."""
_PIXELS_IN_CACHE = 2**20
"""The same on the CPU, where they are read several times."""

_DIGITS = 8
"""Scores are kept to this many decimals, enough to tell any two float32 of 0.5 to 1 apart."""

PointsXyPx = tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class Measures:
    """What masks are like at the image's size, on the CPU.

    Attributes:
        area_px: pixels of each mask.
        stability: pixels above +offset over pixels above -offset, 0 to 1, as segment-anything
            measures it.
        corners_px: left, top, right, bottom: coordinates of the first and of the last pixel; of
            no meaning where a mask is empty.
    """

    area_px: Int64[Tensor, " mask"]
    stability: Float[Tensor, " mask"]
    corners_px: Int64[Tensor, "mask 4"]

    @classmethod
    def joined(cls, parts: Sequence[Self]) -> Self:
        """The masks of all parts, in order."""
        return cls(
            torch.cat([one.area_px for one in parts]),
            torch.cat([one.stability for one in parts]),
            torch.cat([one.corners_px for one in parts]),
        )

    def of(self, rows: Int64[Tensor, " chosen"]) -> "Measures":
        """Those of some masks."""
        return Measures(self.area_px[rows], self.stability[rows], self.corners_px[rows])


def measure(
    sam: SamModel,
    embedding: SamEmbedding,
    logits: Float[Tensor, "mask low_height low_width"],
    stability_offset: float,
) -> Measures:
    """Upscale masks and measure them; an accelerator is waited for once.

    Args:
        sam: upscales.
        embedding: of the image.
        logits: inside means > 0.
        stability_offset: in logits.
    """
    counts = [torch.zeros(7, 0, dtype=torch.int64, device=logits.device)]
    for upscaled in _upscaled(sam, embedding, logits):
        rows, columns = upscaled.amax(2) > 0, upscaled.amax(1) > 0
        parts = [
            _pixels_above(upscaled, level) for level in (0, stability_offset, -stability_offset)
        ]
        parts += [_first(columns), _first(rows), _last(columns), _last(rows)]
        counts.append(torch.stack([part.to(upscaled.device) for part in parts]))
    area, inner, outer, *corners = torch.cat(counts, dim=1).cpu()
    return Measures(area, inner / outer.clamp(min=1), torch.stack(corners, dim=1))


def encode(
    sam: SamModel,
    embedding: SamEmbedding,
    logits: Float[Tensor, "mask low_height low_width"],
    predicted_iou: Float[Tensor, " mask"],
    points_xy_px: Sequence[PointsXyPx],
    measures: Measures,
) -> list[SamMask]:
    """Upscale masks, threshold them at 0 and encode them.

    Args:
        sam: upscales.
        embedding: of the image.
        logits: inside means > 0.
        predicted_iou: one a mask, on the CPU.
        points_xy_px: the prompts of each mask.
        measures: of these masks, none of them empty.
    """
    rles: list[Rle] = []
    for upscaled in _upscaled(sam, embedding, logits):
        rles += encode_rles((upscaled > 0).cpu().numpy())
    return [
        SamMask(
            rle=rle,
            area_px=area,
            box_xywh_px=(left, top, right - left + 1, bottom - top + 1),
            predicted_iou=round(score, _DIGITS),
            stability=round(stability, _DIGITS),
            points_xy_px=points,
        )
        for rle, area, (left, top, right, bottom), score, stability, points in zip(
            rles, measures.area_px.tolist(), measures.corners_px.double().tolist(),
            predicted_iou.tolist(), measures.stability.tolist(), points_xy_px, strict=True,
        )
    ]  # fmt: skip


def rows_of(
    logits: Float[Tensor, "mask low_height low_width"], rows: Int64[Tensor, " chosen"]
) -> Float[Tensor, "chosen low_height low_width"]:
    """Logits of some masks; the device they lie on is not waited for."""
    return logits[rows.to(logits.device, non_blocking=True)]


def _upscaled(
    sam: SamModel, embedding: SamEmbedding, logits: Float[Tensor, "mask low_height low_width"]
) -> Iterator[Float[Tensor, "some height width"]]:
    height, width = embedding.image_hw
    at_once = _PIXELS_IN_CACHE if logits.device.type == "cpu" else _PIXELS_AT_ONCE
    for some in logits.split(max(1, at_once // (height * width))):
        if len(some):
            yield sam.upscale(embedding, some)


def _pixels_above(
    logits: Float[Tensor, "mask height width"], level: float
) -> Int64[Tensor, " mask"]:
    """Count; on the CPU one by one in numpy, many times faster than torch's sum over two axes."""
    if logits.device.type == "cpu":
        return torch.tensor([np.count_nonzero(mask > level) for mask in logits.numpy()])
    return (logits > level).flatten(1).sum(1)


def _first(true: Bool[Tensor, "mask place"]) -> Int64[Tensor, " mask"]:
    """Where each row is true first."""
    return true.byte().argmax(1)


def _last(true: Bool[Tensor, "mask place"]) -> Int64[Tensor, " mask"]:
    """Where each row is true last."""
    return true.shape[1] - 1 - _first(true.flip(1))
