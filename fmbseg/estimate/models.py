"""The models of a run, measured, with random weights where there are none here."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

import torch

from fmbseg.estimate.meter import ENLARGED, TEXTS, Meter
from fmbseg.models.build import (
    FoundationModels,
    build_clip,
    build_sam,
    build_vision,
    resolve_profile,
    weights_status,
)
from fmbseg.models.protocols import ClipModel, SamPrediction
from fmbseg.steps.foundation_models import overrides_of
from fmbseg.steps.workspace import Workspace

CLIP = {"encode_dense": "images through CLIP", "encode_text": TEXTS}
SAM = {
    "embed": "images through SAM's encoder",
    "predict_points": "prompts through SAM's decoder",
    "upscale": ENLARGED,
}
T = TypeVar("T")
VISION = {"encode": "images through the vision encoder"}


@dataclass(frozen=True)
class MeasuredWorkspace(Workspace):
    """A workspace whose models are measured and need not have their weights; nothing is fetched.

    Attributes:
        device: of the models.
        meter: measures their calls.
    """

    device: torch.device
    meter: Meter
    _built: dict[Any, Any] = field(default_factory=dict)

    @property
    def random(self) -> tuple[str, ...]:
        """Roles of the models whose weights are not here: same architecture, random weights."""
        section = self.params.models

        def missing() -> tuple[str, ...]:
            status = weights_status(section.profile, overrides_of(section))
            return tuple(one.model for one in status if not one.present)

        return self._once("random", missing)

    def models(self) -> FoundationModels:
        """The three foundation models.

        Raises:
            MissingWeightsError: a model is a folder or a hub's repository that is not here, so
                that not even its architecture is known.
        """
        return self._once("models", self._build)

    def _build(self) -> FoundationModels:
        p = self.params
        profile = resolve_profile(p.models.profile, overrides_of(p.models))
        checkpoint = None if "sam" in self.random else profile.sam.checkpoint
        sam = build_sam(profile.sam.name, checkpoint, self.device)
        vision = build_vision(
            profile.vision.name, "vision" not in self.random and profile.vision.pretrained,
            self.device, short_side_px=p.train.input_short_side_px,
        )  # fmt: skip
        if "sam" in self.random:
            vars(sam)["predict_points"] = _half_pass(sam.predict_points)
        self.meter.wrap(sam, SAM)
        self.meter.wrap(vision, VISION)
        return FoundationModels(self.clip(p.models.projection), sam, vision)

    def clip(self, projection: str, *, whole_crops: bool = False) -> ClipModel:
        """CLIP with a projection; see `clip_of`."""
        p = self.params

        def build() -> ClipModel:
            spec = resolve_profile(p.models.profile, overrides_of(p.models)).clip
            clip = build_clip(
                spec.name, None if "clip" in self.random else spec.pretrained, projection,
                self.device, quick_gelu=spec.quick_gelu, template=p.models.template,
                short_side_px=None if whole_crops else p.pseudo_masks.clip_short_side_px,
                stride_fraction=p.pseudo_masks.clip_stride_fraction,
                batch_crops=p.pseudo_masks.clip_batch_crops,
            )  # fmt: skip
            self.meter.wrap(clip, CLIP)
            return clip

        return self._once((projection, whole_crops), build)

    def _once(self, name: Any, build: Callable[[], T]) -> T:
        if name not in self._built:
            self._built[name] = build()
        found: T = self._built[name]
        return found


def _half_pass(predict_points: Callable[..., SamPrediction]) -> Callable[..., SamPrediction]:
    """Random weights rate no mask well; every second one is given a predicted IoU of 1.

    So many are enlarged and filtered then, which takes time in a run with real weights too.
    """

    def answer(*inputs: Any) -> SamPrediction:
        found = predict_points(*inputs)
        quality = torch.zeros_like(found.predicted_iou)
        quality.view(-1)[::2] = 1.0
        return SamPrediction(found.logits, quality)

    return answer
