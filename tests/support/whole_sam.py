"""A stand-in for SAM that makes all masks and then leaves out what nobody wants."""

import numpy as np
from torch import Tensor

from fmbseg.models.protocols import SamEmbedding, SamPrediction, Wanted
from fmbseg.models.sam_decoder import all_wanted

Masks = tuple[Tensor, Tensor]
"""Logits, [prompt mask low_height low_width], and predicted IoU, [prompt mask]."""


class WholeSam:
    """Sub-classes give `all_masks`."""

    def all_masks(self, embedding: SamEmbedding, points_xy_px: np.ndarray) -> Masks:
        raise NotImplementedError

    def predict_points(
        self, embedding: SamEmbedding, points_xy_px: np.ndarray, wanted: Wanted | None = None
    ) -> SamPrediction:
        logits, quality = self.all_masks(embedding, points_xy_px)
        kept = (wanted or all_wanted)(quality)
        return SamPrediction(logits[kept], quality, kept)
