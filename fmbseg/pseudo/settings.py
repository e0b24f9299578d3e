"""How pseudo masks are made and chosen: the sections `pseudo_masks` and `subsample`."""

from typing import Annotated, Any, Literal

from pydantic import Field

from fmbseg.section import Fraction, Positive, Section


class AutomaticOptions(Section):
    """How SAM proposes masks of everything in an image, and which it keeps."""

    points_per_side: Literal["auto"] | Annotated[int, Field(ge=1, le=128)]
    """automatic masks: side of the grid of single-point prompts; auto: half of SAM's patch grid (32
    for vit_h)"""
    min_predicted_iou: Fraction
    """SAM's own estimate; automatic masks that are not above it go"""
    min_stability: Fraction
    """IoU of a mask at two thresholds; automatic masks below it go"""
    stability_offset: Annotated[float, Field(gt=0.0)]
    """how far the two thresholds lie from SAM's own, in logits"""
    nms_iou: Fraction
    """of two automatic masks whose boxes overlap by more, the one of lower predicted IoU goes"""
    min_area_fraction: Fraction
    """of the image; a smaller automatic mask goes"""
    max_area_fraction: Fraction
    """of the image; a larger automatic mask goes"""

    def __init__(self, *values: Any, batch_points: int = 64, **named: Any) -> None:
        """Values by name, or by place in the order above.

        Args:
            values: of the fields, in order.
            batch_points: of no effect; accepted for one more version.
            named: values by field.
        """
        super().__init__(**dict(zip(AutomaticOptions.model_fields, values, strict=False)), **named)


class PseudoMasksParams(AutomaticOptions):
    """Stage 1. Paper: section 3.1."""

    clip_short_side_px: Literal["auto"] | Annotated[int, Field(ge=16)]
    """the image is resized to this before it is cut into crops; auto: 3 crops"""
    clip_stride_fraction: Annotated[float, Field(gt=0.0, le=1.0)]
    """stride of the crops as a fraction of the crop size"""
    clip_batch_crops: Positive
    """crops that CLIP encodes at once on a processor; on CUDA runtime.batch_memory_gb decides"""
    presence_votes: Annotated[int, Field(ge=0)]
    """a class is present when more crops than this vote for it"""
    prompt_points: Positive
    """points of a class that prompt SAM, the patches most similar to its name"""
    points_together: bool
    """a class's points are one prompt; false: a prompt each, the best mask kept"""


class SubsampleParams(Section):
    """How much of stage 1.2 is kept."""

    keep_fraction: Literal["balance"] | Fraction
    """of stage 1.2's masks: balance (as many as stage 1.1 has), or a share from 0 to 1"""
