"""SAM's automatic masks: ours against segment-anything's own generator, on one image.

Measured is what follows the image encoder: prompts through the decoder, filters, masks at the
image's size as run lengths, duplicates dropped, in processor seconds of one thread. The masks must
be equal. `vit_b` has random weights, whose predicted IoU says nothing, so it is shifted until a
given share of the prompts passes the threshold.
"""

import argparse
import sys
from dataclasses import dataclass
from typing import Any

import numpy as np
import pycocotools.mask
import torch
from segment_anything import SamAutomaticMaskGenerator
from torch import Tensor, nn

from benchmarks.common import ROUNDS, Table, in_turn, pin_threads
from fmbseg.miniature import world
from fmbseg.models.build import build_sam
from fmbseg.models.sam import SegmentAnything
from fmbseg.pseudo.automatic import automatic_masks, point_grid
from fmbseg.pseudo.settings import AutomaticOptions
from fmbseg.types import Image

STABILITY_OFFSET = 1.0
MIN_IOU = 0.7


@dataclass(frozen=True)
class Case:
    """One measurement.

    Attributes:
        sam: name of the model.
        size_hw: of the image, px.
        per_side: points along a side of the grid.
        surviving: share of prompts of which a mask passes the threshold.
        wanted: ours must be at least so many times as fast.
        nms_iou: boxes that overlap by more are duplicates; at 1 every mask is compared, since
            random weights give boxes as large as the image.
    """

    sam: str
    size_hw: tuple[int, int]
    per_side: int
    surviving: float
    wanted: float
    nms_iou: float


CASES = {
    "vit_b": Case("vit_b", (480, 640), 16, 0.15, 2.2, 1.0),
    "miniature": Case("miniature", (128, 128), 8, 1.0, 3.0, 0.7),
}


class Encoded(nn.Module):
    """An image encoder that answers with what it answered first."""

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder, self.img_size = encoder, encoder.img_size
        self.features: Tensor | None = None

    def forward(self, pixels: Tensor) -> Tensor:
        """Features of the first image."""
        if self.features is None:
            self.features = self.encoder(pixels)
        return self.features


def main() -> int:
    """Print a table; the exit code tells where a ratio is not reached or a mask differs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=ROUNDS)
    parser.add_argument("--case", choices=list(CASES), action="append")
    arguments = parser.parse_args()
    pin_threads()
    table = Table()
    for name in arguments.case or CASES:
        _measure(CASES[name], arguments.pairs, table)
    return table.exit_code


@torch.inference_mode()
def _measure(case: Case, pairs: int, table: Table) -> None:
    torch.manual_seed(0)
    sam, image = build_sam(case.sam), _image(case.size_hw)
    sam.model.image_encoder = Encoded(sam.model.image_encoder)
    if case.sam != "miniature":
        _shift(sam, image, case)
    options = AutomaticOptions(
        points_per_side=case.per_side, min_predicted_iou=MIN_IOU, min_stability=0.0,
        stability_offset=STABILITY_OFFSET, nms_iou=case.nms_iou, min_area_fraction=0.0,
        max_area_fraction=1.0,
    )  # fmt: skip
    stock = SamAutomaticMaskGenerator(
        sam.model, points_per_side=case.per_side, points_per_batch=64, pred_iou_thresh=MIN_IOU,
        stability_score_thresh=0.0, stability_score_offset=STABILITY_OFFSET,
        box_nms_thresh=case.nms_iou, output_mode="coco_rle",
    )  # fmt: skip
    timed = in_turn({
        "ours": lambda: automatic_masks(sam, image, options),
        "stock": lambda: stock.generate(image),
    }, pairs)  # fmt: skip
    ours, theirs = timed["ours"], timed["stock"]
    table.row(
        f"{case.sam}, {image.shape[1]} x {image.shape[0]} px, {case.per_side**2} prompts, "
        f"{case.surviving:.0%} surviving, {len(ours.answer)} masks",
        ours, theirs, times_stock=case.wanted, equal=_same(ours.answer, theirs.answer),
    )  # fmt: skip


def _image(size_hw: tuple[int, int]) -> Image:
    if size_hw == (128, 128):
        return next(iter(world.generate(0, 1, "train"))).image
    coarse = np.random.default_rng(0).integers(0, 256, (size_hw[0] // 8, size_hw[1] // 8, 3))
    return np.repeat(np.repeat(coarse, 8, 0), 8, 1).astype(np.uint8)


def _shift(sam: SegmentAnything, image: Image, case: Case) -> None:
    """Add to every predicted IoU what makes the best mask of that share of prompts pass."""
    grid, embedding = point_grid(case.per_side, image.shape[:2]), sam.embed(image)
    found = sam.predict_points(embedding, grid[:, None], lambda iou: iou > float("inf"))
    best = found.predicted_iou.max(dim=1).values
    head = sam.model.mask_decoder.iou_prediction_head
    head.layers[-1].bias += MIN_IOU - best.quantile(1 - case.surviving)


def _same(ours: list[Any], stock: list[dict[str, Any]]) -> bool:
    """Whether both found the same masks; stock leaves out those that touch the image's edge."""
    kept = {bytes(_counts(one["segmentation"])) for one in stock}
    return kept == {bytes(one.rle["counts"].encode()) for one in ours}


def _counts(rle: dict[str, Any]) -> bytes:
    decoded = np.asfortranarray(pycocotools.mask.decode(rle))
    return bytes(pycocotools.mask.encode(decoded)["counts"])


if __name__ == "__main__":
    sys.exit(main())
