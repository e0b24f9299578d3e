"""The steps' own code over a few images of each data set."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import torch
from torch import Tensor

from fmbseg.align.head import AlignmentHead
from fmbseg.align.settings import AlignmentSettings
from fmbseg.align.trainer import train_alignment
from fmbseg.estimate.meter import Cost
from fmbseg.estimate.models import MeasuredWorkspace
from fmbseg.estimate.sample import DataSet, Few
from fmbseg.estimate.to_do import evaluations
from fmbseg.evaluate.prepared import PreparedMethod
from fmbseg.methods.table import METHODS
from fmbseg.progress import tracked
from fmbseg.pseudo.patch_labels import label_map_of, patch_labels
from fmbseg.pseudo.shard import compute_shard
from fmbseg.pseudo.subsample import subsample
from fmbseg.steps import evaluate, foundation
from fmbseg.steps.scoring import Asked
from fmbseg.steps.stage1_options import stage1_options
from fmbseg.steps.validation import scorer
from fmbseg.store import read_coco, write_coco
from fmbseg.types import IGNORE
from fmbseg.vocabulary import encode

TYPICAL_BYTES = 50_000
"""Masks of a photograph on disk, about; for a SAM of which not all masks were seen."""
_STEPS = 10
"""Steps of training that are measured."""


@dataclass(frozen=True)
class Figures:
    """What was measured.

    Attributes:
        costs: of an image each: "pseudo_masks", "subsample", "features", "labels", "validation"
            and every unit of the step `evaluate`; of a step of training: "step".
        sizes: bytes of an image: "shard" and "kept" on disk, "features" and "labels" in memory;
            of the whole: "model" on disk.
        base_bytes: memory of the process with the models in it, idle.
        models_s: seconds that building the models takes.
        guessed_labels: no patch was labelled, so labels were drawn for the training.
    """

    costs: Mapping[str, Cost]
    sizes: Mapping[str, float]
    base_bytes: int
    models_s: float
    guessed_labels: bool


@dataclass(frozen=True)
class _Parts(evaluate.WorkspaceParts):
    """What methods are built from, with the head that was trained here."""

    trained_head: AlignmentHead

    def head(self) -> AlignmentHead:
        return self.trained_head


def measure(
    workspace: MeasuredWorkspace, train: DataSet, scored: Sequence[DataSet], most: int,
    budget_s: float, scratch: Path,
) -> Figures:  # fmt: skip
    """Measure one image of each data set; then as many as the rest of the budget lasts, anew.

    Args:
        workspace: its params.yaml and its models.
        train: the data set that is trained on.
        scored: those that are scored.
        most: images of each, at most.
        budget_s: seconds, about.
        scratch: an empty folder.
    """
    meter = workspace.meter
    began = meter.now()
    workspace.models()
    models_s = meter.now() - began
    meter.until = began + budget_s / 2
    found = _measure(workspace, train, scored, 1, models_s, scratch / "1")
    took = meter.now() - began - models_s
    more = min(most, int((budget_s - took) / took))
    if more > 1:
        meter.until = float("inf")
        found = _measure(workspace, train, scored, more, models_s, scratch / "2")
    return found


def _measure(
    workspace: MeasuredWorkspace, train: DataSet, scored: Sequence[DataSet], most: int,
    models_s: float, scratch: Path,
) -> Figures:  # fmt: skip
    p, models, meter = workspace.params, workspace.models(), workspace.meter
    samples, classes = train.sample(most), train.column.classes
    images = {one.name: one.image for one in samples}
    base, options = meter.rest(), stage1_options(workspace)
    costs: dict[str, Cost] = defaultdict(Cost)

    with meter.measured(costs["pseudo_masks"], 0):
        texts = encode(models.clip, classes)
    for name in tracked(images, "estimate: stage 1"):
        with meter.measured(costs["pseudo_masks"]):
            compute_shard(
                [name], images.__getitem__, models.clip, models.sam, texts, classes.names, options,
                scratch / "shards" / name, scratch / "records", progress=False,
            )  # fmt: skip

    with meter.measured(costs["subsample"], len(images)):
        first, second = (
            [mask for path in (scratch / "shards").rglob(file) for mask in read_coco(path).masks]
            for file in ("stage11.json", "stage12.json")
        )
        kept = subsample(first, second, p.subsample.keep_fraction, p.seed).kept
        sizes_hw = {name: (image.shape[0], image.shape[1]) for name, image in images.items()}
        write_coco(scratch / "kept.json", kept, sizes_hw, classes.names)

    features, labels = list[Tensor](), list[Tensor]()
    for name, image in tracked(images.items(), "estimate: vision features"):
        with meter.measured(costs["features"]):
            features.append(models.vision.encode(image))
        with meter.measured(costs["labels"]):
            painted = label_map_of([one for one in kept if one.image == name], sizes_hw[name])
            labels.append(patch_labels(painted, models.vision.grid_hw(sizes_hw[name])))
    guessed = all(bool((one == IGNORE).all()) for one in labels)
    if guessed:
        labels = [torch.arange(one.numel()).view(one.shape) % len(classes) for one in labels]
    head, model_bytes = _train(workspace, features, labels, texts, costs, scratch / "train")
    for known, sample in zip(features, samples, strict=True):
        assert sample.target is not None
        with meter.measured(costs["validation"]):
            scorer([(known, sample.target)], texts)(head)

    for unit, (method, data_set) in evaluations(p, scored).items():
        column, chosen = data_set.column, data_set.sample(most)
        if method == evaluate.FOUNDATION:
            for k, sample in enumerate(chosen):
                one = Few(column.classes.names, (sample,))
                with meter.measured(costs[unit]):
                    foundation.score(
                        one, models, options, p.seed, scratch / "metrics.json", scratch / f"{k}"
                    )
            continue
        segmentation = METHODS[method].build(_Parts(workspace, head), method)
        protocol = evaluate.protocol(workspace, column)
        asked = Asked(
            PreparedMethod(protocol, segmentation, column.classes, column.background_index),
            column, 0, p.seed,
        )  # fmt: skip
        for sample in tracked(chosen, f"estimate: {unit}"):
            with meter.measured(costs[unit]):
                asked.answer(sample)

    in_part = costs["pseudo_masks"].asked != costs["pseudo_masks"].done
    least = TYPICAL_BYTES if in_part or "sam" in workspace.random else 0
    sizes = {
        "shard": max(_bytes_below(scratch / "shards") / len(images), least),
        "kept": max((scratch / "kept.json").stat().st_size / len(images), least),
        "features": sum(one.nbytes for one in features) / len(images),
        "labels": sum(one.nbytes for one in labels) / len(images),
        "model": model_bytes,
    }
    return Figures(costs, sizes, base, models_s, guessed)


def _train(
    workspace: MeasuredWorkspace, features: Sequence[Tensor], labels: Sequence[Tensor],
    texts: Tensor, costs: dict[str, Cost], folder: Path,
) -> tuple[AlignmentHead, int]:  # fmt: skip
    """Steps of the real training, for which the images take turns; one where time is short.

    Returns:
        The trained head, and the bytes that it and its checkpoint take on disk.
    """
    p, meter = workspace.params.train, workspace.meter
    values = p.model_dump(include={one.name for one in fields(AlignmentSettings)})
    settings = AlignmentSettings(**values | {"epochs": 1, "seed": workspace.params.seed})
    usable = [k for k, one in enumerate(labels) if bool((one != IGNORE).any())]
    for count in (1, _STEPS):
        turns = [usable[k % len(usable)] for k in range(count * p.batch_images)]
        costs["step"] = Cost()
        with meter.measured(costs["step"], count):
            train_alignment(
                [features[k] for k in turns], [labels[k] for k in turns], texts, settings,
                folder / str(count), folder / f"{count}.resume", progress=False,
                device=str(workspace.device),
            )  # fmt: skip
        if meter.now() + _STEPS * costs["step"].seconds > meter.until:
            break
    size = _bytes_below(folder / str(count)) + _bytes_below(folder / f"{count}.resume")
    return AlignmentHead.load(folder / str(count), str(workspace.device)), size


def _bytes_below(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
