"""What confidences are worth on the images that have labels, and what they become."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from fmbseg.evaluate.calibration import Counted, Curve, Reliability
from fmbseg.export.labelled import NONE, Region
from fmbseg.export.regions import paint
from fmbseg.steps.truth import labelled, truth_inputs, usable
from fmbseg.steps.workspace import Workspace
from fmbseg.types import IGNORE

IMAGES = 200
"""So many labelled images are looked at, at most."""


@dataclass(frozen=True)
class Calibration:
    """How confidences were made shares of right pixels.

    Attributes:
        curve: from one to the other.
        facts: for export.json: images, expected calibration error before and after, both on
            images that the curve was not made with, and the reliability of these likewise.
    """

    curve: Curve
    facts: Mapping[str, Any]

    def of(self, region: Region) -> Region:
        """The region with the share of its pixels that should be right as its score."""
        if region.score is None:
            return region
        return replace(region, score=float(self.curve.of(np.array([region.score]))[0]))


Regions = Callable[[list[str]], Iterator[tuple[str, tuple[int, int], tuple[Region, ...]]]]
"""From names of images to each one's name, height and width, and regions."""


def calibration_of(workspace: Workspace, names: list[str], regions: Regions) -> Calibration | None:
    """Compare the labels of some images with the truth; None where there is none.

    Every other image makes the curve, the rest says what it is worth.

    Args:
        workspace: whose label files are read.
        names: of the images that are exported.
        regions: finds the regions of images, in the workspace's classes.
    """
    truth = labelled(workspace)
    if truth is None:
        return None
    at = {name: index for index, name in enumerate(truth.names)}
    known = [name for name in names if name in at]
    chosen = known[:: -(-len(known) // IMAGES) or 1][:IMAGES]
    halves: tuple[list[Counted], list[Counted]] = ([], [])
    for place, (name, image_hw, found) in enumerate(regions(chosen)):
        sample = usable(truth, at[name], [])
        if sample is None or sample.target is None or sample.target.shape != image_hw:
            continue
        labels, confidence = paint(found, image_hw)
        counted = (labels != NONE) & (sample.target != IGNORE)
        right = (labels == sample.target)[counted]
        halves[place % 2].append(Counted.of(confidence[counted], right))
    fitted, held = halves
    curve = Reliability.of(fitted).curve()
    if curve is None:
        return None
    before, after = Reliability.of(held), Reliability.of([one.through(curve) for one in held])
    return Calibration(curve, {
        "images_fitted_on": len(fitted), "images_measured_on": len(held),
        "expected_calibration_error_before": round(before.error(), 6),
        "expected_calibration_error": round(after.error(), 6),
        "reliability_before": before.table(),
        "reliability": after.table(),
    })  # fmt: skip


def calibration_inputs(workspace: Workspace) -> dict[str, str]:
    """Name to hash of the label files that a calibration reads; empty where there are none."""
    if workspace.data_set == "folder" and workspace.params.data.labels is None:
        return {}
    return dict(truth_inputs(workspace))
