"""How good the head is on labelled images while it is trained; where there are none, nothing.

The curve is for people. Labels take no part in training or in the choice of weights: the trained
bytes are the same with and without them, and so the labels are no part of the step's key.
"""

import logging
from collections.abc import Iterator, Sequence
from itertools import islice

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from fmbseg.align.checkpoint import Validate
from fmbseg.align.head import AlignmentHead
from fmbseg.datasets.base import Dataset, DatasetError
from fmbseg.evaluate.metrics import ConfusionMatrix
from fmbseg.methods.pixels import label_pixels
from fmbseg.models.protocols import VisionModel
from fmbseg.steps.truth import labelled, usable
from fmbseg.steps.workspace import Workspace
from fmbseg.types import IGNORE

_log = logging.getLogger(__name__)
_LOOKED_AT = 5
"""At most so many times the wanted number of images are looked at for labels."""
Encoded = tuple[Float[Tensor, "_rows _cols vision_dim"], UInt8[np.ndarray, "_height _width"]]


def validation_of(
    workspace: Workspace, texts: Float[Tensor, "category dim"], vision: VisionModel
) -> Validate | None:
    """What scores the head on `train.validation_images` labelled images; None without any.

    The miniature has a validation split; of a folder with labels, the same few images are drawn
    each time.

    Args:
        workspace: whose images.
        texts: the classes' text features, as in training.
        vision: the workspace's encoder.
    """
    most = workspace.params.train.validation_images
    try:
        samples = labelled(workspace, "val") if most else None
    except (DatasetError, OSError) as error:
        _log.warning("train: goes on without a validation curve: %s", error)
        return None
    if samples is None:
        return None
    images = list(islice(_encoded(samples, most, vision), most))
    if not images:
        _log.warning("train: goes on without a validation curve: found no labelled image")
        return None
    return scorer(images, texts)


def scorer(images: Sequence[Encoded], texts: Float[Tensor, "category dim"]) -> Validate:
    """What scores a head on images whose features are ready."""
    texts, names = texts.detach().float(), [str(k) for k in range(len(texts))]

    @torch.inference_mode()
    def validate(head: AlignmentHead) -> dict[str, float]:
        device, counted = next(head.parameters()).device, ConfusionMatrix(len(names))
        asked = texts.to(device, non_blocking=True)
        for features, target in images:
            aligned = head(features.flatten(0, 1)[None].to(device, non_blocking=True))[0]
            grid = (asked @ aligned.T).unflatten(1, features.shape[:2])
            shape = (target.shape[0], target.shape[1])
            counted.update(label_pixels(grid, shape, names).labels, target)
        return {"miou": round(float(counted.miou()), 6), "images": len(images)}

    return validate


def _encoded(samples: Dataset, most: int, vision: VisionModel) -> Iterator[Encoded]:
    """Features and labels, of `_LOOKED_AT` times as many images where none can be used."""
    order = np.random.default_rng(0).permutation(len(samples))
    for index in map(int, order[: most * _LOOKED_AT]):
        sample = usable(samples, index, [])
        if sample is None or sample.target is None or (sample.target == IGNORE).all():
            continue
        yield vision.encode(sample.image), sample.target
