"""The run's own steps over a few images of each data set."""

import shutil
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from fmbseg.align.head import AlignmentHead
from fmbseg.align.trainer import train_alignment
from fmbseg.estimate.meter import Cost
from fmbseg.estimate.models import MeasuredWorkspace
from fmbseg.estimate.sample import DataSet
from fmbseg.steps import evaluate
from fmbseg.steps.plan import run_step, units_of
from fmbseg.steps.validation import scorer
from fmbseg.types import IGNORE
from fmbseg.vocabulary import encode, read_classes

TYPICAL_BYTES = 50_000
"""Masks of a photograph on disk, about; for a SAM of which not all masks were seen."""
_STEPS = 10
"""Steps of training that are measured."""


@dataclass(frozen=True)
class Figures:
    """What was measured.

    Attributes:
        costs: of an image each: "pseudo_masks", "subsample", "features", "validation" and every
            unit of the step `evaluate`; of a step of training: "step".
        sizes: bytes of an image: "masks" and "kept" on disk, "features" and "labels" in memory; of
            the whole: "model" on disk.
        base_bytes: memory of the process with the models in it, idle.
        models_s: seconds that building the models takes.
    """

    costs: Mapping[str, Cost]
    sizes: Mapping[str, float]
    base_bytes: int
    models_s: float


def measure(
    workspace: MeasuredWorkspace, train: DataSet, scored: Sequence[DataSet], most: int,
    budget_s: float,
) -> Figures:  # fmt: skip
    """Measure one image of each data set; then as many as the rest of the budget lasts, anew.

    Args:
        workspace: an empty folder, the run's parameters, and its models.
        train: the data set that is trained on.
        scored: those that are scored.
        most: images of each, at most.
        budget_s: seconds, about.
    """
    meter = workspace.meter
    began = meter.now()
    workspace.models()
    models_s = meter.now() - began
    meter.until = began + budget_s / 2
    found = _measure(workspace, train, scored, 1, models_s)
    took = meter.now() - began - models_s
    more = min(most, int((budget_s - took) / took))
    if more > 1:
        meter.until = float("inf")
        found = _measure(workspace, train, scored, more, models_s)
    return found


def _measure(
    workspace: MeasuredWorkspace, train: DataSet, scored: Sequence[DataSet], most: int,
    models_s: float,
) -> Figures:  # fmt: skip
    meter, models = workspace.meter, workspace.models()
    base, costs = meter.rest(), defaultdict[str, Cost](Cost)
    first = _sample(workspace, train, most, f"{most}")
    count = len(first.listing().images)
    for step in ("pseudo_masks", "subsample"):
        for unit in units_of(first, step):
            with meter.measured(costs[step], count):
                unit.run()
    texts = encode(models.clip, read_classes(first.classes_path()))
    features = []
    for name in first.listing().images:
        image = first.read_image(name)
        with meter.measured(costs["features"]):
            features.append(models.vision.encode(image))
    head, model_bytes = _train(first, features, texts, costs)
    for name, known in zip(first.listing().images, features, strict=True):
        target = torch.zeros(first.read_image(name).shape[:2], dtype=torch.uint8).numpy()
        with meter.measured(costs["validation"]):
            scorer([(known, target)], texts)(head)

    for number, one in enumerate(scored):
        place = _sample(workspace, one, most, f"{most}-{number}")
        shutil.copytree(first.train, place.train)
        for unit in units_of(place, "evaluate")[min(number, 1) :]:  # `foundation` comes once
            own = evaluate.unit_name(evaluate.method_of(unit.name), one.name)
            with meter.measured(costs[own], len(place.listing().images)):
                unit.run()

    seen = costs["pseudo_masks"].asked == costs["pseudo_masks"].done
    least = 0 if seen and "sam" not in workspace.random else TYPICAL_BYTES
    sizes = {
        "masks": max(_bytes_below(first.pseudo_masks) / count, least),
        "kept": max(_bytes_below(first.subsample) / count, least),
        "features": sum(one.nbytes for one in features) / count,
        "labels": sum(8 * one[..., 0].numel() for one in features) / count,
        "model": model_bytes,
    }
    return Figures(costs, sizes, base, models_s)


def _sample(
    workspace: MeasuredWorkspace, data_set: DataSet, most: int, name: str
) -> MeasuredWorkspace:
    """A workspace of some images of a data set."""
    p, root = workspace.params, workspace.root / name
    data_set.write(most, root)
    data = p.data.changed(
        images=str(root / "images"), labels=str(root / "labels"), ignore_label=IGNORE,
        classes=str(root / "classes.txt"), shard_images=most, drops="drops",
    )  # fmt: skip
    scoring = p.evaluate.changed(data_sets=("home",), examples=0)
    found = replace(
        workspace, root=root, params=p.model_copy(update={"data": data, "evaluate": scoring})
    )
    run_step(found, "download")
    return found


def _train(
    workspace: MeasuredWorkspace, features: Sequence[Tensor], texts: Tensor,
    costs: dict[str, Cost],
) -> tuple[AlignmentHead, int]:  # fmt: skip
    """Steps of the training on made-up labels, for which the images take turns.

    Returns:
        The trained head, and the bytes that it and its checkpoint take on disk.
    """
    p, meter = workspace.params.train, workspace.meter
    settings = p.changed(epochs=1)
    labels = [
        torch.arange(one[..., 0].numel()).view(one.shape[:2]) % len(texts) for one in features
    ]
    for count in (1, _STEPS):  # one alone where the time is short
        turns = [k % len(features) for k in range(count * p.batch_images)]
        costs["step"], scratch = Cost(), workspace.root / f"checkpoint-{count}"
        with meter.measured(costs["step"], count):
            train_alignment(
                [features[k] for k in turns], [labels[k] for k in turns], texts, settings,
                workspace.train, scratch, progress=False, device=str(workspace.device),
            )  # fmt: skip
        if meter.now() + _STEPS * costs["step"].seconds > meter.until:
            break
    head = AlignmentHead.load(workspace.train, str(workspace.device))
    return head, _bytes_below(workspace.train) + _bytes_below(scratch)


def _bytes_below(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
