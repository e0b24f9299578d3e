"""The three models as the measuring needs them: real where their weights are, metered always."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from fmbseg.estimate.meter import Meter
from fmbseg.models.build import (
    FoundationModels,
    build_clip,
    build_sam,
    build_vision,
    resolve_profile,
    weights_status,
)
from fmbseg.models.protocols import ClipModel, SamEmbedding, SamModel, SamPrediction
from fmbseg.params import Params
from fmbseg.steps.workspace import Workspace
from fmbseg.types import Image

DECODER = "SAM decoder prompts"
TEXT = "CLIP text blocks"
"""A run reads its class names once, so this is no part of what an image takes."""
PASSING = 0.5
"""Share of a random SAM's masks that are given a predicted IoU above the threshold."""
OBJECTS = ((8, 0.03), (5, 0.08), (3, 0.2))
"""The discs that stand for a random SAM's masks: so many along either side, and their radius as a
fraction of the image's long side; one size for each of SAM's three masks."""
_STEEPNESS = 1000.0


class MeteredModels:
    """Builds a workspace's models, metered; nothing is fetched.

    Attributes:
        random: roles of the models whose weights are not here: same architecture, random weights.
    """

    def __init__(self, params: Params, device: torch.device, meter: Meter) -> None:
        """Look up which weights are here.

        Raises:
            ValueError: see `resolve_profile`.
        """
        section = params.models
        overrides = section.model_dump(include={"clip", "sam", "vision"}, exclude_none=True)
        self._profile = resolve_profile(section.profile, overrides)
        self._params, self._device, self._meter = params, device, meter
        status = weights_status(section.profile, overrides)
        self.random = tuple(one.model for one in status if not one.present)
        self._clips: dict[tuple[str, bool], ClipModel] = {}
        self._three: FoundationModels | None = None

    def three(self) -> FoundationModels:
        """The models of the run, built once.

        Raises:
            MissingWeightsError: a model is a folder or a hub's repository, whose architecture is
                not known without its files.
        """
        if self._three is None:
            spec, vision_spec = self._profile.sam, self._profile.vision
            checkpoint = None if "sam" in self.random else spec.checkpoint
            sam = build_sam(spec.name, checkpoint, self._device)
            vision = build_vision(
                vision_spec.name, False if "vision" in self.random else vision_spec.pretrained,
                self._device, short_side_px=self._params.train.input_short_side_px,
            )  # fmt: skip
            meter_blocks(sam.model.image_encoder, "SAM encoder blocks", self._meter)
            meter_blocks(vision.model, "vision blocks", self._meter)
            metered = MeteredSam(sam, self._meter, plausible="sam" in self.random)
            clip = self.clip(self._params.models.projection)
            self._three = FoundationModels(clip, metered, vision)
        return self._three

    def clip(self, projection: str, *, whole_crops: bool = False) -> ClipModel:
        """CLIP with a projection, built once; see `Workspace.clip`."""
        wanted = projection, whole_crops
        if wanted not in self._clips:
            spec, p = self._profile.clip, self._params
            clip = build_clip(
                spec.name, None if "clip" in self.random else spec.pretrained, projection,
                self._device, quick_gelu=spec.quick_gelu, template=p.models.template,
                short_side_px=None if whole_crops else p.pseudo_masks.clip_short_side_px,
                stride_fraction=p.pseudo_masks.clip_stride_fraction,
                batch_crops=p.pseudo_masks.clip_batch_crops,
            )  # fmt: skip
            meter_blocks(clip.model.visual, "CLIP blocks", self._meter)
            if isinstance(getattr(clip.model, "transformer", None), nn.Module):
                meter_blocks(clip.model.transformer, TEXT, self._meter)
            self._clips[wanted] = clip
        return self._clips[wanted]


@dataclass(frozen=True)
class MeteredWorkspace(Workspace):
    """A workspace whose steps meet metered models, which need not have their weights.

    Attributes:
        metered: builds them.
    """

    metered: MeteredModels

    def models(self) -> FoundationModels:
        """The three foundation models."""
        return self.metered.three()

    def clip(self, projection: str, *, whole_crops: bool = False) -> ClipModel:
        """CLIP with another projection than `models.projection`."""
        return self.metered.clip(projection, whole_crops=whole_crops)


def meter_blocks(encoder: nn.Module, kind: str, meter: Meter) -> None:
    """Let a transformer's blocks hand their input on once their kind has had its share.

    Blocks with another window are another kind. A unit is one block for one image or crop.
    """
    lists = [
        one
        for one in encoder.modules()
        if isinstance(one, nn.ModuleList | nn.Sequential) and len({type(part) for part in one}) == 1
    ]
    for block in max(lists, key=len, default=nn.ModuleList()):
        window = getattr(block, "window_size", None)
        own = kind if window is None else f"{kind} ({f'window {window}' if window else 'global'})"
        vars(block)["forward"] = _metered(block.forward, own, meter)


def _metered(forward: Callable[..., Any], kind: str, meter: Meter) -> Callable[..., Any]:
    def run(tokens: Tensor, *rest: Any, **options: Any) -> Any:
        if meter.wants(kind):
            return meter.compute(kind, len(tokens), lambda: forward(tokens, *rest, **options))
        meter.count(kind, len(tokens))
        return tokens

    return run


class MeteredSam:
    """A SAM whose decoder is metered; left-out prompts get the last answers again.

    A random SAM's masks are noise that no filter and no run length was made for. So its decoder
    is run for its time, and its answer replaced by the discs nearest to the prompt (`OBJECTS`),
    of which a fixed share passes the filter.
    """

    def __init__(self, sam: SamModel, meter: Meter, *, plausible: bool) -> None:
        """Wrap a SAM; `plausible` replaces its answers."""
        self.grid_side = sam.grid_side
        self._sam, self._meter, self._plausible = sam, meter, plausible
        self._last: SamPrediction | None = None

    def embed(self, image: Image) -> SamEmbedding:
        """As the SAM itself."""
        return self._sam.embed(image)

    def predict_points(
        self, embedding: SamEmbedding, points_xy_px: Float[np.ndarray, "prompt point 2"]
    ) -> SamPrediction:
        """As the SAM itself, or as it answered last."""
        count = len(points_xy_px)
        if self._last is None or self._meter.wants(DECODER):
            self._last = self._meter.compute(
                DECODER, count, lambda: self._sam.predict_points(embedding, points_xy_px)
            )
            prediction = self._last
        else:
            self._meter.count(DECODER, count)
            again = torch.arange(count) % len(self._last.logits)
            with self._meter.unpaid():
                prediction = SamPrediction(
                    self._last.logits[again], self._last.predicted_iou[again]
                )
        if not self._plausible:
            return prediction
        with self._meter.unpaid():
            return _discs(prediction, embedding, points_xy_px)

    def upscale(
        self, embedding: SamEmbedding, logits: Float[Tensor, "mask low_height low_width"]
    ) -> Float[Tensor, "mask height width"]:
        """As the SAM itself."""
        return self._sam.upscale(embedding, logits)


def _discs(
    like: SamPrediction, embedding: SamEmbedding, points_xy_px: Float[np.ndarray, "prompt point 2"]
) -> SamPrediction:
    prompts, masks, rows, cols = like.logits.shape
    height, width = embedding.image_hw
    inside_h, inside_w = (side / max(embedding.input_hw) for side in embedding.input_hw)
    middles = torch.as_tensor(points_xy_px, dtype=torch.float32).mean(dim=1)
    logits = torch.empty(prompts, masks, rows, cols)
    for mask in range(masks):
        side, radius = OBJECTS[mask % len(OBJECTS)]
        x, y = (
            ((middles[:, axis] / length * side).floor() + 0.5) / side * inside * cells
            for axis, length, inside, cells in (
                (0, width, inside_w, cols),
                (1, height, inside_h, rows),
            )
        )
        down = torch.arange(rows)[None, :, None] + 0.5 - y[:, None, None]
        across = torch.arange(cols)[None, None, :] + 0.5 - x[:, None, None]
        logits[:, mask] = _STEEPNESS * (radius - (down**2 + across**2).sqrt() / cols)
    order = torch.arange(prompts * masks).view(prompts, masks)
    good = (order * PASSING).floor() != ((order + 1) * PASSING).floor()
    quality = torch.where(good, 1.0 - 1e-4 * (order % 997), torch.zeros(()))
    device = like.logits.device
    return SamPrediction(logits.to(device), quality.to(device))
