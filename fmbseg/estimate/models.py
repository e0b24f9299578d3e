"""The models of a run, measured, with random weights where there are none here."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from functools import cached_property
from typing import Any, TypeVar

import torch

from fmbseg.estimate.meter import ENLARGED, TEXTS, Meter
from fmbseg.models.build import FoundationModels, resolve_profile, weights_status
from fmbseg.models.protocols import ClipModel, SamPrediction
from fmbseg.steps.foundation_models import overrides_of
from fmbseg.steps.workspace import Workspace
from fmbseg.types import Role

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

    @cached_property
    def random(self) -> tuple[str, ...]:
        """Roles of the models whose weights are not here: same architecture, random weights."""
        section = self.params.models
        status = weights_status(section.profile, overrides_of(section))
        return tuple(one.model for one in status if not one.present)

    def models(self) -> FoundationModels:
        """The three foundation models.

        Raises:
            MissingWeightsError: a model is a folder or a hub's repository that is not here, so
                that not even its architecture is known.
        """
        side = self.params.train.input_short_side_px
        return FoundationModels(
            self.clip(self.params.models.projection),
            self._once("sam", lambda: self._build("sam", SAM)),
            self._once("vision", lambda: self._build("vision", VISION, short_side_px=side)),
        )

    def clip(self, projection: str, *, whole_crops: bool = False) -> ClipModel:
        """CLIP with a projection; see `Workspace.clip`."""
        p = self.params.pseudo_masks
        options = {
            "projection": projection, "template": self.params.models.template,
            "short_side_px": None if whole_crops else p.clip_short_side_px,
            "stride_fraction": p.clip_stride_fraction, "batch_crops": p.clip_batch_crops,
        }  # fmt: skip
        wanted = projection, whole_crops
        found: ClipModel = self._once(wanted, lambda: self._build("clip", CLIP, **options))
        return found

    def _build(self, role: Role, kinds: Mapping[str, str], **options: Any) -> Any:
        section = self.params.models
        family, spec = resolve_profile(section.profile, overrides_of(section)).part(role)
        if role in self.random:
            none: dict[str, Any] = {fields(spec)[1].name: False if role == "vision" else None}
            spec = replace(spec, **none)
        model = family.build(**asdict(spec), device=self.device, **options)
        if role == "sam" and role in self.random:
            vars(model)["predict_points"] = _half_pass(model.predict_points)
        self.meter.wrap(model, kinds)
        return model

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
