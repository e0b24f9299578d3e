"""The units of the step `evaluate` over the samples."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from fmbseg.align.head import AlignmentHead
from fmbseg.estimate.meter import Rate
from fmbseg.estimate.models import MeteredWorkspace
from fmbseg.estimate.runs import Runs
from fmbseg.estimate.sample import Sample
from fmbseg.evaluate.metrics import ConfusionMatrix
from fmbseg.evaluate.prepared import PreparedMethod
from fmbseg.methods.table import METHODS
from fmbseg.models.build import FoundationModels
from fmbseg.steps import evaluate

_TOLD = 3
"""Classes that a method is told an image holds, when it has to be told."""


@dataclass(frozen=True)
class Scored:
    """One unit.

    Attributes:
        unit: its name.
        rate: seconds an image.
        images: of the data set.
    """

    unit: str
    rate: Rate
    images: int


def score(
    workspace: MeteredWorkspace, samples: Sequence[Sample], count: int, runs: Runs,
    device: torch.device, stage1: Rate,
) -> list[Scored]:  # fmt: skip
    """Seconds an image of every method on every data set, under the protocol of params.yaml.

    Once the budget is spent, methods that ask SAM take the rate of stage 1, which asks it too.

    Args:
        workspace: whose params.yaml says what is scored.
        samples: one for each data set that is scored.
        count: images to measure of each, at most.
        runs: measures.
        device: where the models are.
        stage1: rate of the step `pseudo_masks`, on images like the first sample's.
    """
    found = []
    for number, sample in enumerate(samples):
        name, names = sample.column.name, sample.measured(count)
        if number == 0:
            rate = _foundation(sample, names, workspace.models(), runs)
            found.append(Scored(evaluate.unit_name(evaluate.FOUNDATION, name), rate, sample.images))
        protocol = evaluate.protocol(workspace, sample.column)
        for method in workspace.params.evaluate.methods:
            unit = evaluate.unit_name(method, name)
            like_stage1 = "sam" in METHODS[method].models and protocol.window_px is None
            if runs.is_over and number == 0 and like_stage1:
                rate = stage1
            else:
                built = METHODS[method].build(_UntrainedParts(workspace, device), method)
                prepared = PreparedMethod(
                    protocol, built, sample.column.classes, sample.column.background_index
                )
                rate = _score(prepared, sample, names, runs, unit)
            found.append(Scored(unit, rate, sample.images))
    return found


@dataclass(frozen=True)
class _UntrainedParts(evaluate.WorkspaceParts):
    """The step's parts, with a head that is not trained."""

    device: torch.device

    def head(self) -> AlignmentHead:
        models, p = self.workspace.models(), self.workspace.params.train
        head = AlignmentHead(models.vision.dim, models.clip.dim, p.heads, p.mlp_ratio)
        return head.to(self.device)


def _score(
    prepared: PreparedMethod, sample: Sample, names: Sequence[str], runs: Runs, unit: str
) -> Rate:
    classes, read = len(sample.column.classes), sample.reader()
    confusion = ConfusionMatrix(classes)
    told = range(min(_TOLD, classes)) if prepared.needs_image_labels else None

    def one(name: str) -> None:
        labels = prepared.predict(read(name), told)
        confusion.update(labels, np.zeros(labels.shape, np.uint8))

    return runs.each(unit, one, names)


def _foundation(sample: Sample, names: Sequence[str], models: FoundationModels, runs: Runs) -> Rate:
    """What the unit `foundation` asks the models for: CLIP, SAM's encoder, one prompt."""
    read = sample.reader()

    def one(name: str) -> None:
        image, sam = read(name), models.sam
        models.clip.encode_dense(image)
        embedding = sam.embed(image)
        middle = np.array([[[image.shape[1] / 2, image.shape[0] / 2]]], np.float32)
        sam.upscale(embedding, sam.predict_points(embedding, middle).logits[0])

    return runs.each(evaluate.FOUNDATION, one, names)
