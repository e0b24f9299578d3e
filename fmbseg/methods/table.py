"""Every method by its name: image + class names in, label map out. The one place to add one.

A method is a file of its own beside this one and an entry in `METHODS`. Parameters, evaluation,
studies, the estimate and the report ask this table. It is light to import: what a method needs is
imported when it is built.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from fmbseg.types import Role, Stage

if TYPE_CHECKING:
    from fmbseg.align.head import AlignmentHead
    from fmbseg.methods.segmentation import Segmentation
    from fmbseg.models.protocols import ClipModel, SamModel, VisionModel
    from fmbseg.pseudo.settings import PseudoMasksParams

OURS = "fmbseg"
"""The paper's own method."""
BEST = "fmbseg_best"
"""The same trained head with what goes beyond the paper."""


class Parts(Protocol):
    """What methods are built from; each part is made when a method asks for it."""

    def clip(self, projection: str | None = None, *, whole_crops: bool = False) -> "ClipModel":
        """CLIP.

        Args:
            projection: a name in `fmbseg.models.clip_projection.PROJECTIONS`; None for that of
                params.yaml.
            whole_crops: take every image as one crop, scaled to CLIP's own size.
        """
        ...

    def sam(self) -> "SamModel":
        """SAM."""
        ...

    def vision(self) -> "VisionModel":
        """The self-supervised vision encoder."""
        ...

    def head(self) -> "AlignmentHead":
        """The trained alignment head."""
        ...

    def stage1(self) -> "PseudoMasksParams":
        """The section `pseudo_masks` of params.yaml."""
        ...


@dataclass(frozen=True)
class Method:
    """One method.

    Attributes:
        build: makes it of its parts, to be filed under the name given.
        models: whose weights its answers depend on.
        summary: what it is, in one sentence.
        trained: it needs the trained alignment head; the others can be scored before the training.
        needs_image_labels: it must be told which classes an image holds, so its figures use labels.
    """

    build: Callable[[Parts, str], "Segmentation"]
    models: tuple[Role, ...]
    summary: str
    trained: bool = False
    needs_image_labels: bool = False


def _dense_clip(parts: Parts, name: str) -> "Segmentation":
    from fmbseg.methods.maskclip import DenseClipSegmentation

    return DenseClipSegmentation(parts.clip(name), name)


def _clip_diy(parts: Parts, name: str) -> "Segmentation":
    from fmbseg.methods.clip_diy import ClipDiySegmentation

    clip = parts.clip("maskclip", whole_crops=True)
    return ClipDiySegmentation(clip, parts.sam(), parts.stage1(), name)


def _stage1(parts: Parts, name: str) -> "Segmentation":
    from fmbseg.methods.stage1 import Stage1Segmentation

    stages: dict[str, tuple[Stage, ...]] = {"stage11": ("1.1",), "stage12": ("1.2",)}
    return Stage1Segmentation(
        parts.clip(), parts.sam(), parts.stage1(), stages.get(name, ("1.1", "1.2")), name,
        needs_image_labels=METHODS[name].needs_image_labels,
    )  # fmt: skip


def _proxyclip(parts: Parts, name: str) -> "Segmentation":
    from fmbseg.methods.proxyclip import ProxyClipSegmentation

    return ProxyClipSegmentation(parts.clip("maskclip"), parts.vision(), name)


def _corrclip(parts: Parts, name: str) -> "Segmentation":
    from fmbseg.methods.corrclip import CorrClipSegmentation

    clip = parts.clip("maskclip")
    return CorrClipSegmentation(clip, parts.vision(), parts.sam(), parts.stage1(), name)


def _trident(parts: Parts, name: str) -> "Segmentation":
    from fmbseg.methods.trident import TridentSegmentation

    return TridentSegmentation(parts.clip("maskclip"), parts.vision(), parts.sam(), name)


def _lposs(parts: Parts, name: str) -> "Segmentation":
    from fmbseg.methods.lposs import LpossSegmentation

    return LpossSegmentation(parts.clip("maskclip"), parts.vision(), name)


def _aligned(parts: Parts, name: str) -> "Segmentation":
    from fmbseg.methods.aligned import AlignedSegmentation

    return AlignedSegmentation(parts.vision(), parts.head(), parts.clip(), name)


def _best(parts: Parts, name: str) -> "Segmentation":
    from fmbseg.methods.aligned import AlignedSegmentation
    from fmbseg.methods.refined import RefinedSegmentation

    inner = AlignedSegmentation(parts.vision(), parts.head(), parts.clip())
    return RefinedSegmentation(inner, name)


METHODS: Mapping[str, Method] = {
    "maskclip": Method(
        _dense_clip, ("clip",), "CLIP's own patches: the last block's values, without attention."
    ),
    "sclip": Method(
        _dense_clip, ("clip",), "CLIP's own patches; in the last block each attends to like ones.",
    ),
    "naclip": Method(
        _dense_clip, ("clip",),
        "CLIP's own patches; in the last block each attends to like ones near it.",
    ),
    "clip_diy": Method(
        _clip_diy, ("clip", "sam"),
        "Crops of three sizes classified whole by CLIP, weighed by SAM's objectness.",
    ),
    "proxyclip": Method(
        _proxyclip, ("clip", "vision"),
        "CLIP's values, mixed where the vision encoder's patches are alike (our implementation).",
    ),
    "corrclip": Method(
        _corrclip, ("clip", "sam", "vision"),
        "CLIP's values, mixed within SAM's regions that look alike to the vision encoder; each "
        "mask then takes its pixels' usual class (our implementation).",
    ),
    "trident": Method(
        _trident, ("clip", "sam", "vision"),
        "CLIP's values, mixed by the vision encoder and by SAM's encoder; SAM then draws the "
        "regions anew (our implementation).",
    ),
    "lposs": Method(
        _lposs, ("clip", "vision"),
        "MaskCLIP's similarities, spread to patches that the vision encoder finds alike (our "
        "implementation).",
    ),
    "stage11": Method(
        _stage1, ("clip", "sam"),
        "SAM's masks at CLIP's best points for each class, dense CLIP where there is none.",
    ),
    "stage12": Method(
        _stage1, ("clip", "sam"),
        "SAM's automatic masks labelled by CLIP, dense CLIP where there is none.",
    ),
    "stage1": Method(
        _stage1, ("clip", "sam"), "Both kinds of pseudo masks, dense CLIP where there is none."
    ),
    "stage1_image_labels": Method(
        _stage1, ("clip", "sam"),
        "Both kinds of pseudo masks, of the classes that the image is said to hold.",
        needs_image_labels=True,
    ),
    OURS: Method(
        _aligned, ("clip", "vision"),
        "FMbSeg: the vision encoder's patches, aligned with CLIP's text space by the trained head.",
        trained=True,
    ),
    BEST: Method(
        _best, ("clip", "vision"),
        "FMbSeg, its similarities then moved to the image's edges; beyond the paper.",
        trained=True,
    ),
}  # fmt: skip
"""Name to method, in the order of tables; a name holds letters, digits and `_` alone."""
