"""The map of labels of every training image: a correction, kept pseudo masks, or ground truth."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import UInt8

from fmbseg.pseudo.patch_labels import label_map_of
from fmbseg.steps.corrections import Corrections
from fmbseg.steps.kept_masks import KeptMasks
from fmbseg.steps.shards import quarantined
from fmbseg.steps.truth import labelled
from fmbseg.steps.workspace import Workspace

MapOf = Callable[[str], UInt8[np.ndarray, "height width"]]


class NothingToTrainOnError(ValueError):
    """No image has a kept pseudo mask, or none has labels where those are asked for."""


@dataclass(frozen=True)
class LabelMaps:
    """The images to train on, and the map of labels of each, made when it is asked for.

    Attributes:
        names: of the images.
        map_of: index to class index per pixel, or IGNORE.
        weights: of the images in the loss; None where they are all the same.
    """

    names: list[str]
    map_of: Callable[[int], UInt8[np.ndarray, "height width"]]
    weights: list[float] | None = None


def label_maps(workspace: Workspace, student: MapOf | None = None) -> LabelMaps:
    """What people left standing, else the kept pseudo masks; see `train.labels` for `truth`.

    Corrected images that are held out are not among them.

    Args:
        workspace: whose images.
        student: a trained model's labels by name of the image, in place of the kept masks.

    Raises:
        NothingToTrainOnError: no mask was kept, or no training image has labels.
    """
    corrections, p = Corrections.of(workspace), workspace.params.train
    bad = {entry["image"] for entry in quarantined(workspace)} | set(corrections.held_out)
    if p.labels == "truth":
        return _truth(workspace, bad)
    names, kept = sorted(set(workspace.listing().images) - bad), KeptMasks(workspace)
    if not any(name in corrections.trained or kept.of(name).masks for name in names):
        raise NothingToTrainOnError(
            "no pseudo mask was kept; look at data/pseudo_masks/*/presence.json and lower "
            "pseudo_masks.presence_votes or pseudo_masks.min_predicted_iou"
        )

    def painted(index: int) -> UInt8[np.ndarray, "height width"]:
        if names[index] in corrections.trained:
            return corrections.label_map(names[index])
        if student is not None:
            return student(names[index])
        found = kept.of(names[index])
        return label_map_of(found.masks, found.size_hw)

    heavy = not corrections.trained.keys().isdisjoint(names) and p.corrections_weight != 1.0
    weights = [p.corrections_weight if name in corrections.trained else 1.0 for name in names]
    return LabelMaps(names, painted, weights if heavy else None)


def _truth(workspace: Workspace, bad: set[str]) -> LabelMaps:
    """Label maps from ground truth, for the ceiling that the method is compared with."""
    truth = labelled(workspace)
    at = {} if truth is None else {name: index for index, name in enumerate(truth.names)}
    names = sorted(set(workspace.listing().images) & set(at) - bad)
    if truth is None or not names:
        raise NothingToTrainOnError(
            "train.labels is truth, but no training image has labels; name them in data.labels, "
            "or set train.labels to pseudo"
        )

    def target(index: int) -> UInt8[np.ndarray, "height width"]:
        found = truth[at[names[index]]].target
        return np.zeros((0, 0), np.uint8) if found is None else found

    return LabelMaps(names, target)
