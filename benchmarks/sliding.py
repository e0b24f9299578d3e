"""Evaluation in sliding windows: ours against a loop over windows, and the encoder alone.

An image of 2,048 x 1,024 px under the protocol `tcl` (short side 448, windows of 448 px every 224),
171 classes, a vision encoder of ViT-B's shape and an alignment head, both with random weights. The
stock way is the plain loop: encode a window, compare its patches with the names, interpolate to the
window's pixels, add to a canvas of all classes, divide by the number of windows, interpolate to the
image, take the best. The floor is encoder and head alone on the same windows.
"""

import sys
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate, normalize

from benchmarks.common import Table, in_turn, pin_threads
from fmbseg.align.head import AlignmentHead
from fmbseg.evaluate.sliding import SlidingSegmentation, resize_short_side, window_corners
from fmbseg.methods.aligned import AlignedSegmentation
from fmbseg.models.vision import build_vision
from fmbseg.types import Image

CLASSES, SIZE_HW, TEXT_DIM, ROUNDS = 171, (1024, 2048), 512, 5
SHORT_SIDE_PX, WINDOW_PX, STRIDE_PX = 448, 448, 224
ENCODERS = {
    "ViT-B/16 at its own 224 px": ("vit_base_patch16_224", 1.5),
    "ViT-B/14 (DINOv2) at its own 518 px": ("vit_base_patch14_dinov2", None),
}
"""Title to timm's name, and how many times the stock way's speed is promised: the longer the
encoder takes, the less there is to win."""


class RandomTexts:
    """Stands in for CLIP, whose texts are encoded once and cost nothing an image."""

    dim = TEXT_DIM

    def encode_text(self, names: Sequence[str], templates: Sequence[str] | None = None) -> Tensor:
        """Unit-length features, the same each time."""
        drawn = torch.randn(len(names), TEXT_DIM, generator=torch.Generator().manual_seed(0))
        return normalize(drawn, dim=1)

    def encode_dense(self, image: Image) -> Any:
        """Is never asked for."""
        raise NotImplementedError


def main() -> int:
    """Print a row an encoder."""
    pin_threads()
    table = Table()
    for title, (name, promise) in ENCODERS.items():
        torch.manual_seed(0)
        vision = build_vision(name, False, short_side_px="auto")
        method = AlignedSegmentation(
            vision, AlignmentHead(vision.dim, TEXT_DIM, 4, 4.0), RandomTexts()
        )
        ways, similarities = _ways(method)
        found = in_turn(ways, ROUNDS)
        equal = _as_good(found["ours"].answer, similarities())
        table.row(
            f"{title}, {CLASSES} classes, {SIZE_HW[1]} x {SIZE_HW[0]} px", found["ours"],
            found["stock"], found["floor"], times_stock=promise, equal=equal,
        )  # fmt: skip
    return table.exit_code


def _ways(
    method: AlignedSegmentation,
) -> tuple[dict[str, Callable[[], Any]], Callable[[], Tensor]]:
    """Ours, the stock way and the floor, on one image; and all similarities in the stock way."""
    names = [f"class {k}" for k in range(CLASSES)]
    coarse = np.random.default_rng(0).integers(0, 256, (SIZE_HW[0] // 64, SIZE_HW[1] // 64, 3))
    image = np.repeat(np.repeat(coarse, 64, 0), 64, 1).astype(np.uint8)
    sliding = SlidingSegmentation(method, SHORT_SIDE_PX, WINDOW_PX, STRIDE_PX)

    def windows() -> tuple[list[tuple[int, int]], Image]:
        resized = resize_short_side(image, SHORT_SIDE_PX)
        return window_corners(resized.shape[:2], WINDOW_PX, STRIDE_PX), resized

    def grid(resized: Image, top: int, left: int) -> Tensor:
        window = resized[top : top + WINDOW_PX, left : left + WINDOW_PX]
        return method.similarity_grids([np.ascontiguousarray(window)], names)[0]

    @torch.inference_mode()
    def similarities() -> Tensor:
        corners, resized = windows()
        height, width = resized.shape[:2]
        canvas, counts = torch.zeros(CLASSES, height, width), torch.zeros(height, width)
        for top, left in corners:
            rows, cols = slice(top, top + WINDOW_PX), slice(left, left + WINDOW_PX)
            canvas[:, rows, cols] += _at_size(grid(resized, top, left), (WINDOW_PX, WINDOW_PX))
            counts[rows, cols] += 1
        return _at_size(canvas / counts, SIZE_HW)

    def floor() -> None:
        corners, resized = windows()
        for top, left in corners:
            grid(resized, top, left)

    def ours() -> Any:
        return sliding.segment(image, names).labels

    def stock() -> Tensor:
        return similarities().argmax(0)

    return {"ours": ours, "stock": stock, "floor": floor}, similarities


def _at_size(similarities: Tensor, size_hw: tuple[int, int]) -> Tensor:
    return interpolate(similarities[None], size=size_hw, mode="bilinear", align_corners=False)[0]


def _as_good(labels: np.ndarray, similarities: Tensor) -> bool:
    """Whether no pixel's class is more than 1e-4 worse than the best of the stock way."""
    chosen = similarities.gather(0, torch.from_numpy(labels.astype(np.int64))[None])[0]
    return bool((chosen >= similarities.amax(0) - 1e-4).all())


if __name__ == "__main__":
    sys.exit(main())
