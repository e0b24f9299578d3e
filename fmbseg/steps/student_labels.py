"""`train.labels: student`: what a trained model makes of SAM's masks, to train it on further."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import UInt8

from fmbseg.methods.aligned import AlignedSegmentation
from fmbseg.models.device import resolve_device
from fmbseg.pseudo.patch_labels import label_map_of
from fmbseg.pseudo.votes import voted_masks
from fmbseg.steps.foundation_models import models_of
from fmbseg.steps.kept_masks import KeptMasks, automatic_file
from fmbseg.steps.workspace import Workspace
from fmbseg.trained_files import read_trained
from fmbseg.vocabulary import read_classes

if TYPE_CHECKING:
    from fmbseg.models.protocols import VisionModel

CLIP_SHARE = 0.5
"""Of the votes, where the model has not been trained with all of the names."""


def student_map(
    workspace: Workspace, folder: Path, vision: "VisionModel | None" = None
) -> Callable[[str], UInt8[np.ndarray, "height width"]]:
    """Name of an image to its map of labels: SAM's masks of stage 1.2, named by a trained model.

    A mask counts where at least `train.min_agreement` of its area agrees on a class. Names that
    the model was not trained with are CLIP's to know: where there are any, CLIP's own label of a
    mask has half of the votes.

    Args:
        workspace: whose images, masks and class names.
        folder: the trained model.
        vision: the workspace's own vision encoder, where the caller has it already.

    Raises:
        FileNotFoundError: the folder holds no trained model.
        StoreError: its files are damaged.
        ValueError: the model was trained for other CLIPs or encoders.
    """
    models, vocabulary = models_of(workspace), read_classes(workspace.classes_path())
    device = str(resolve_device(workspace.params.device))
    head, described = read_trained(folder, device, whole=False)
    method = AlignedSegmentation(vision or models.vision, head, models.clip)
    texts = method.encode_names(vocabulary)
    known = set(described.get("trained_classes", ()))
    clip_share = 0.0 if known.issuperset(vocabulary.names) else CLIP_SHARE
    least, masks = workspace.params.train.min_agreement, KeptMasks(workspace, automatic_file)

    def map_of(name: str) -> UInt8[np.ndarray, "height width"]:
        found = masks.of(name)
        cosines = method.similarity_grid(workspace.read_image(name), texts)
        voted = voted_masks(found.masks, cosines, vocabulary.names, least, clip_share)
        return label_map_of(voted, found.size_hw)

    return map_of
