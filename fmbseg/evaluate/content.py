"""What the report is made of; no step's file format is known here."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from fmbseg.types import Image


@dataclass(frozen=True)
class RunFacts:
    """What was run.

    Attributes:
        profile: name of the models' profile.
        models: role ("clip", "sam", "vision") to the model's name.
        seed: the run's seed.
        data_set: name of the data set the masks and the module were made from.
        images: how many readable images it has.
        vocabulary_size: number of class names.
        keep_fraction: fraction of stage 1.2's masks that was kept; None when unknown.
        seconds_per_step: wall time of the steps that are known.
        settings: any further settings worth printing, dotted key to value.
    """

    profile: str
    models: Mapping[str, str]
    seed: int
    data_set: str
    images: int
    vocabulary_size: int
    keep_fraction: float | None = None
    seconds_per_step: Mapping[str, float] = field(default_factory=dict)
    settings: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True)
class MethodResult:
    """One metrics.json; figures are fractions of 1, None in `iou` = the class has no pixel."""

    method: str
    data_set: str
    split: str
    protocol: Mapping[str, Any]
    protocol_hash: str
    miou: float
    iou: Mapping[str, float | None]
    pixel_accuracy: float
    images: int
    seconds_per_image: float
    seed: int | None = None


@dataclass(frozen=True)
class HistoryPoint:
    """One entry of the training's history."""

    step: int
    epoch: int
    loss: float
    learning_rate: float


@dataclass(frozen=True)
class MaskCount:
    """Pseudo masks of one class: found by stage 1.1, found by stage 1.2, kept of both."""

    class_name: str
    stage_11: int
    stage_12: int
    kept: int


@dataclass(frozen=True)
class Quarantined:
    """An image that could not be used, and why."""

    image: str
    reason: str


@dataclass(frozen=True)
class PresenceScore:
    """CLIP's image-level presence against the labels, 0 to 1."""

    precision: float
    recall: float
    f1: float
    min_present_fraction: float | None = None


@dataclass(frozen=True)
class SamScore:
    """IoU of SAM's mask from one random point with the labelled region around it, 0 to 1."""

    top_scored_iou: float | None
    best_of_3_iou: float | None
    points: int


@dataclass(frozen=True, eq=False)
class GalleryRow:
    """The pictures of one image; None where a step has none."""

    name: str
    image: Image
    stage_11: Image | None = None
    stage_12: Image | None = None
    kept: Image | None = None
    prediction: Image | None = None
    truth: Image | None = None


@dataclass(frozen=True, eq=False)
class ReportContent:
    """Everything the report shows; whatever is empty or None is said to be missing, or left out.

    `notes` stand as a notice at the top. `class_names` gives the colour legend (palette order).
    """

    title: str
    facts: RunFacts
    class_names: tuple[str, ...] = ()
    results: tuple[MethodResult, ...] = ()
    history: tuple[HistoryPoint, ...] = ()
    mask_counts: tuple[MaskCount, ...] = ()
    gallery: tuple[GalleryRow, ...] = ()
    quarantined: tuple[Quarantined, ...] = ()
    notes: tuple[str, ...] = ()
    presence: PresenceScore | None = None
    sam: SamScore | None = None
    extra_figures: Mapping[str, float | int | str | None] = field(default_factory=dict)
