"""Small models that truly compute: colours are CLIP's and the encoder's features."""

import re
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from fmbseg.align.head import AlignmentHead
from fmbseg.models.clip_branches import nearest
from fmbseg.models.protocols import (
    ClipBranches,
    DenseClip,
    SamAttention,
    SamEmbedding,
    SamPrediction,
    Wanted,
)
from fmbseg.models.sam_decoder import all_wanted
from fmbseg.pseudo.settings import PseudoMasksParams
from fmbseg.types import Image
from tests.support.whole_sam import Masks, WholeSam

COLOURS = {"red": (255, 0, 0), "green": (0, 255, 0), "blue": (0, 0, 255)}
NAMES = list(COLOURS)
WORDS = {**COLOURS, "crimson": (255, 0, 90), "lime": (160, 255, 0), "white": (255, 255, 255)}
PATCH_PX = 4


def image() -> Image:
    """24 x 16 px: red above, green below left, blue below right."""
    pixels = np.zeros((24, 16, 3), np.uint8)
    pixels[:12], pixels[12:, :8], pixels[12:, 8:] = COLOURS.values()
    return pixels


def truth() -> np.ndarray:
    labels = np.zeros((24, 16), int)
    labels[12:, :8], labels[12:, 8:] = 1, 2
    return labels


def patch_colours(pixels: Image) -> Tensor:
    channels = torch.from_numpy(pixels.copy()).permute(2, 0, 1).float() / 255
    return functional.avg_pool2d(channels[None], PATCH_PX)[0].permute(1, 2, 0)


class ColourClip:
    """Joint space = RGB. Every patch is a crop of its own."""

    dim = 3

    def __init__(self) -> None:
        self.text_calls = self.image_calls = 0

    def encode_dense(self, image: Image) -> DenseClip:
        self.image_calls += 1
        patches = functional.normalize(patch_colours(image), dim=-1)
        return DenseClip(patches, patches.flatten(0, 1))

    def encode_values(self, image: Image) -> Tensor:
        return patch_colours(image)

    def project_values(self, values: Tensor) -> Tensor:
        return functional.normalize(values, dim=-1)

    def encode_branches(self, image: Image, regions: Tensor) -> ClipBranches:
        """The middle blocks see what the last one sees; a region's token is its mean colour."""
        values = patch_colours(image)
        placed = nearest(regions, (values.shape[0], values.shape[1]))
        tokens = torch.zeros_like(values)
        for number in placed.unique():
            tokens[placed == number] = values[placed == number].mean(0)
        return ClipBranches(values, tokens, values)

    def project_branches(
        self, branches: ClipBranches, region_weight: float, middle_weight: float
    ) -> Tensor:
        assert branches.middle is not None
        joined = branches.values + middle_weight * branches.middle
        return functional.normalize(joined + region_weight * branches.regions, dim=-1)

    def encode_text(self, names: Sequence[str], templates: Sequence[str] | None = None) -> Tensor:
        """The sum of the colours that a text speaks of, other words are silent."""
        self.text_calls += 1
        through = [
            torch.stack([self._read(template.format(name)) for name in names])
            for template in templates or ["{}"]
        ]
        return functional.normalize(torch.stack(through).mean(dim=0), dim=1)

    def _read(self, text: str) -> Tensor:
        words = re.findall("[a-z]+", text)
        known = [torch.tensor(WORDS[word]).float() for word in words if word in WORDS]
        return functional.normalize(torch.stack(known).sum(dim=0), dim=0)


class SeveralClip(ColourClip):
    """Takes several images, as on an accelerator."""

    images_at_once = 4

    def __init__(self) -> None:
        super().__init__()
        self.together: list[int] = []

    def prepare(self, image: Image) -> Image:
        return image.copy()

    def encode_prepared(self, prepared: Sequence[Image]) -> list[DenseClip]:
        self.together.append(len(prepared))
        return [self.encode_dense(image) for image in prepared]


class ColourVision:
    dim = 3

    def encode(self, image: Image) -> Tensor:
        return patch_colours(image)

    def grid_hw(self, image_hw: tuple[int, int]) -> tuple[int, int]:
        return image_hw[0] // PATCH_PX, image_hw[1] // PATCH_PX


class ColourSam(WholeSam):
    """The mask of a point: the pixels of its colour; blue has no mask that is any good."""

    grid_side = 8

    def embed(self, image: Image) -> SamEmbedding:
        features = torch.from_numpy(image.copy()).permute(2, 0, 1)[None].float()
        return SamEmbedding(image.shape[:2], features)

    def all_masks(self, embedding: SamEmbedding, points_xy_px: np.ndarray) -> Masks:
        logits, quality = [], []
        for points in points_xy_px:
            x, y = points[0].astype(int)
            colour = embedding.encoded[0, :, y, x]
            same = (embedding.encoded[0] == colour[:, None, None]).all(0)
            logits.append((same.float() * 20 - 10).expand(3, -1, -1))
            quality.append([0.9, 0.8, 0.1])
        return torch.stack(logits), torch.tensor(quality)

    def embed_attending(self, image: Image) -> tuple[SamEmbedding, SamAttention]:
        """Its encoder attends to everything alike; its values are the colours."""
        colours = patch_colours(image)
        values = colours.flatten(0, 1)

        def weights(some: slice) -> Tensor:
            return torch.full((len(values[some]), len(values)), 1 / len(values))

        return self.embed(image), SamAttention((len(colours), len(colours[0])), values, weights)

    def predict_regions(
        self,
        embedding: SamEmbedding,
        points_xy_px: np.ndarray,
        corners_px: np.ndarray,
        masks: Tensor,
        wanted: Wanted | None = None,
    ) -> SamPrediction:
        prediction = self.predict_points(embedding, points_xy_px[:, None])
        quality = prediction.predicted_iou[:, :1]
        kept = (wanted or all_wanted)(quality)
        return SamPrediction(prediction.logits[::3][kept[:, 0]], quality, kept)

    def downscale(self, embedding: SamEmbedding, maps: Tensor) -> Tensor:
        return functional.adaptive_avg_pool2d(maps, 4)

    def upscale(self, embedding: SamEmbedding, logits: Tensor) -> Tensor:
        return logits


class BlindSam(ColourSam):
    """Every mask is empty, so nothing is covered."""

    def all_masks(self, embedding: SamEmbedding, points_xy_px: np.ndarray) -> Masks:
        logits, quality = super().all_masks(embedding, points_xy_px)
        return torch.full_like(logits, -10), torch.zeros_like(quality)


OPTIONS = PseudoMasksParams(
    clip_short_side_px="auto", clip_stride_fraction=0.5, clip_batch_crops=32, points_together=True,
    presence_votes=1,
    prompt_points=2,
    points_per_side=6, min_predicted_iou=0.5, min_stability=0.5, stability_offset=1.0,
    nms_iou=0.7, min_area_fraction=0.01, max_area_fraction=0.95,
)  # fmt: skip


def identity_head() -> AlignmentHead:
    """No attention, no MLP, a norm, and the identity: colours less their mean."""
    head = AlignmentHead(3, 3, 1, 1.0)
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.zero_()
        head.to_text.weight.copy_(torch.eye(3))
    return head
