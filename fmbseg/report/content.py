"""What the report is made of; no step's file format is known here."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Integer

from fmbseg.evaluate.confusions import Confusion
from fmbseg.evaluate.counts import MaskCount, NeverFound
from fmbseg.evaluate.examples import Side
from fmbseg.paper import Departure
from fmbseg.report.corrected import CorrectionFacts
from fmbseg.store import Refused
from fmbseg.types import Image, PseudoMask


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
        settings: any further settings worth printing, dotted key to value.
    """

    profile: str
    models: Mapping[str, str]
    seed: int
    data_set: str
    images: int
    vocabulary_size: int
    keep_fraction: float | None = None
    settings: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True)
class Example:
    """One of the images that a method answered best or worst.

    Attributes:
        side: which of them.
        rank: 1 is the worst, or the best.
        image: its name.
        figures: name of every metric to its value, over the classes of its labels and of its
            prediction, 0 to 1.
        picture: file with the image, the prediction and the truth side by side.
        classes: those of the prediction and of the truth.
    """

    side: Side
    rank: int
    image: str
    figures: Mapping[str, float]
    picture: Path
    classes: tuple[str, ...] = ()


@dataclass(frozen=True)
class MethodResult:
    """One method on one data set.

    Attributes:
        method: its name.
        data_set: its name.
        split: of the data set.
        protocol: facts of the protocol.
        protocol_hash: of the protocol; figures of unlike hashes do not compare.
        figures: name of every metric to its value, 0 to 1.
        iou: class to IoU, 0 to 1; None where neither labels nor predictions hold the class.
        images: how many were scored.
        seconds_per_image: mean time of an answer.
        seed: of the run.
        paper_column: column of the paper's table that the data set is; None where it has none.
        confusions: most confused pairs of classes.
        examples: the worst images, then the best.
    """

    method: str
    data_set: str
    split: str
    protocol: Mapping[str, Any]
    protocol_hash: str
    figures: Mapping[str, float]
    iou: Mapping[str, float | None]
    images: int
    seconds_per_image: float
    seed: int | None = None
    paper_column: str | None = None
    confusions: tuple[Confusion, ...] = ()
    examples: tuple[Example, ...] = ()

    @property
    def miou(self) -> float:
        """Mean IoU over the classes, by which methods are ranked."""
        return self.figures["miou"]


@dataclass(frozen=True)
class HistoryPoint:
    """One entry of the training's history."""

    step: int
    epoch: int
    loss: float
    learning_rate: float


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


@dataclass(frozen=True)
class FileLink:
    """A file or folder beside the report.

    Attributes:
        what: it holds.
        path: relative to the report's folder, with forward slashes.
        form: its format.
    """

    what: str
    path: str
    form: str


@dataclass(frozen=True)
class TrackingHint:
    """Where MLflow holds the run.

    Attributes:
        address: of the server that `make mlflow` starts.
        experiment: its name.
        search: what to type into the search field of the experiment's runs.
    """

    address: str
    experiment: str
    search: str


@dataclass(frozen=True)
class ValidationPoint:
    """mIoU of the validation images during training, 0 to 1."""

    step: int
    epoch: int
    miou: float
    images: int


@dataclass(frozen=True, eq=False)
class GalleryRow:
    """What was found in one image; None where a step has nothing.

    Attributes:
        name: of the image.
        image: RGB.
        stage_11: masks of stage 1.1; `stage_12` and `kept` likewise.
        prediction: class index per pixel, the trained segmenter's answer; `truth` likewise.
        files: where its masks lie.
        remark: why it is shown.
    """

    name: str
    image: Image
    stage_11: tuple[PseudoMask, ...] | None = None
    stage_12: tuple[PseudoMask, ...] | None = None
    kept: tuple[PseudoMask, ...] | None = None
    prediction: Integer[np.ndarray, "height width"] | None = None
    truth: Integer[np.ndarray, "height width"] | None = None
    files: tuple[FileLink, ...] = ()
    remark: str = ""


@dataclass(frozen=True, eq=False)
class ReportContent:
    """Everything the report shows; whatever is empty or None is said to be missing, or left out.

    `notes` stand as a notice at the top; `doubtful` are the images to look at first, with what is
    doubtful in each as remark, `gallery` are others. `class_names` gives the colour legend of the
    gallery (palette order).
    """

    title: str
    facts: RunFacts
    class_names: tuple[str, ...] = ()
    results: tuple[MethodResult, ...] = ()
    history: tuple[HistoryPoint, ...] = ()
    validation: tuple[ValidationPoint, ...] = ()
    mask_counts: tuple[MaskCount, ...] = ()
    never_found: NeverFound | None = None
    gallery: tuple[GalleryRow, ...] = ()
    doubtful: tuple[GalleryRow, ...] = ()
    quarantined: tuple[Refused, ...] = ()
    notes: tuple[str, ...] = ()
    departures: tuple[Departure, ...] = ()
    files: tuple[FileLink, ...] = ()
    tracking: TrackingHint | None = None
    presence: PresenceScore | None = None
    sam: SamScore | None = None
    corrections: CorrectionFacts | None = None
