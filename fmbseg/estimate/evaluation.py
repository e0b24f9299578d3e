"""The methods of the step `evaluate` over the sample."""

import numpy as np
import torch

from fmbseg.align.head import AlignmentHead
from fmbseg.estimate.meter import Rate
from fmbseg.estimate.runs import Runs
from fmbseg.estimate.sample import Sample
from fmbseg.evaluate.metrics import ConfusionMatrix
from fmbseg.evaluate.prepared import PreparedMethod
from fmbseg.evaluate.protocol import PROTOCOLS
from fmbseg.models.build import FoundationModels
from fmbseg.params import Params
from fmbseg.pseudo.stage1 import Stage1Options
from fmbseg.segmenters.aligned import AlignedSegmentation
from fmbseg.segmenters.base import Segmentation
from fmbseg.segmenters.maskclip import DenseClipSegmentation
from fmbseg.segmenters.stage1 import Stage1Segmentation
from fmbseg.types import Stage

FOUNDATION = "foundation"
_STAGES: dict[str, tuple[Stage, ...]] = {
    "stage11": ("1.1",), "stage12": ("1.2",), "stage1": ("1.1", "1.2")
}  # fmt: skip


def methods(
    params: Params, sample: Sample, models: FoundationModels, options: Stage1Options, runs: Runs,
    device: torch.device, stage1: Rate,
) -> tuple[dict[str, Rate], tuple[str, ...]]:  # fmt: skip
    """Seconds an image of every method in params.yaml, under its protocol.

    Once the budget is spent, methods that are stage 1 and little else take its rate.

    Returns:
        Rates by method, and the methods that are not measured here.
    """
    if sample.scored_images == 0:
        return {}, ()
    found = {FOUNDATION: _foundation(sample, models, runs)}
    protocol, unknown = PROTOCOLS[params.evaluate.protocol], []
    for method in params.evaluate.methods:
        segmentation = _segmentation(method, params, models, options, device)
        if segmentation is None:
            unknown.append(method)
            continue
        if method in _STAGES and protocol.window_px is None and runs.is_over:
            found[method] = stage1
            continue
        prepared = PreparedMethod(protocol, segmentation, sample.vocabulary)
        found[method] = _score(prepared, sample, runs, f"method {method}")
    return found, tuple(unknown)


def _score(prepared: PreparedMethod, sample: Sample, runs: Runs, label: str) -> Rate:
    confusion = ConfusionMatrix(len(sample.vocabulary))

    def score(name: str) -> None:
        labels = prepared.predict(sample.read(name))
        confusion.update(labels, np.zeros(labels.shape, np.uint8))

    return runs.each(label, score)


def _foundation(sample: Sample, models: FoundationModels, runs: Runs) -> Rate:
    """What the unit `foundation` asks the models for: CLIP, SAM's encoder, one prompt."""

    def ask(name: str) -> None:
        image, sam = sample.read(name), models.sam
        models.clip.encode_dense(image)
        embedding = sam.embed(image)
        middle = np.array([[[image.shape[1] / 2, image.shape[0] / 2]]], np.float32)
        sam.upscale(embedding, sam.predict_points(embedding, middle).logits[0])

    return runs.each(FOUNDATION, ask)


def _segmentation(
    method: str, params: Params, models: FoundationModels, options: Stage1Options,
    device: torch.device,
) -> Segmentation | None:  # fmt: skip
    """A method as the step `evaluate` composes it; None for one that is not known here."""
    if method in ("maskclip", "sclip", "naclip"):
        return DenseClipSegmentation(models.clip, name=method)
    if method in _STAGES:
        return Stage1Segmentation(models.clip, models.sam, options, _STAGES[method], method)
    if method == "fmbseg":
        train, vision, clip = params.train, models.vision, models.clip
        head = AlignmentHead(vision.dim, clip.dim, train.heads, train.mlp_ratio)
        return AlignedSegmentation(vision, head.to(device), clip)
    return None
