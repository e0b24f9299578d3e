"""What an image costs here: the run's own steps over a few images of each data set."""

import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import mkdtemp

import numpy as np
import torch
from torch import Tensor

from fmbseg.align.head import AlignmentHead
from fmbseg.align.trainer import train_alignment
from fmbseg.estimate.memory import held_bytes, peak_bytes
from fmbseg.estimate.sample import DataSet
from fmbseg.models.device import resolve_device
from fmbseg.params import Params
from fmbseg.steps import evaluate
from fmbseg.steps.evaluation_sets import open_evaluation_set
from fmbseg.steps.foundation_models import models_of
from fmbseg.steps.plan import run_step, units_of
from fmbseg.steps.step import Unit
from fmbseg.steps.validation import scorer
from fmbseg.steps.workspace import Workspace
from fmbseg.types import IGNORE, Image
from fmbseg.vocabulary import encode, read_classes

_STEPS = 10
"""Steps of training that are timed where one takes less than `_QUICK_S` seconds."""
_QUICK_S = 1.0


@dataclass(frozen=True)
class Figures:
    """What was measured.

    Attributes:
        seconds: of an image in "download", "pseudo_masks", "subsample", every unit of the step
            `evaluate`, and in the training's "features" and "validation"; of a "step" of it.
        sizes: bytes of an image: "masks" and "kept" on disk, "features" in memory; of the whole:
            "model" on disk.
        idle_bytes: memory of a process with the models in it.
        work_bytes: most memory that one worker adds to it.
        images: of each data set that the steps ran over; 0 where the seconds are only looked up.
    """

    seconds: Mapping[str, float]
    sizes: Mapping[str, float]
    idle_bytes: float
    work_bytes: float
    images: int


def clock(params: Params) -> float:
    """Seconds, after all that was begun has ended; of the processor where one thread computes.

    Processor time is that of a machine which does nothing else.
    """
    if resolve_device(params.device).type != "cpu":
        torch.accelerator.synchronize()
        return time.perf_counter()
    return time.process_time() if params.threads == 1 else time.perf_counter()


def seconds(params: Params, work: Callable[[], object]) -> float:
    """What something takes."""
    began = clock(params)
    work()
    return clock(params) - began


def measure(
    place: Workspace, train: DataSet, scored: Sequence[DataSet], most: int, budget_s: float
) -> Figures:
    """Measure one image of each data set; then as many as the rest of the budget lasts, anew.

    Args:
        place: an empty folder, which the caller removes, and the run's parameters.
        train: the data set that is trained on.
        scored: those that are scored.
        most: images of each, at most.
        budget_s: seconds, about; one image is measured however long it takes.

    Raises:
        DatasetError: of a data set no image can be used.
    """
    models_of(place)
    idle_bytes, began = held_bytes(), clock(place.params)
    found = _measure(place, train, scored, 1)
    took_s = clock(place.params) - began
    images = min(most, int((budget_s - took_s) / took_s))
    if images > 1:
        found = _measure(place, train, scored, images)
    each_s, sizes, count = found
    return Figures(each_s, sizes, idle_bytes, peak_bytes() - idle_bytes, count)


def _measure(
    whole: Workspace, train: DataSet, scored: Sequence[DataSet], images: int
) -> tuple[dict[str, float], dict[str, float], int]:
    """Seconds and sizes, as in `Figures`, and how many images of `train` could be used."""
    place, placing_s = _sample(whole, train, images)
    models, classes = models_of(place), read_classes(place.classes_path())
    names = list(place.listing().images)
    image = place.read_image(names[0])
    texts, features = encode(models.clip, classes), models.vision.encode(image)
    reading_s = seconds(whole.params, lambda: encode(models.clip, classes))
    encoding_s = seconds(whole.params, lambda: models.vision.encode(image))
    found = {"download": placing_s, "features": encoding_s}

    def run(unit: Unit, name: str, once_s: float = 0.0) -> None:
        """Measure a unit, but for what it does once, however many images it has."""
        took_s = seconds(whole.params, unit.run) - once_s
        found[name] = max(took_s, 0.0) / len(unit.workspace.listing().images)

    run(units_of(place, "pseudo_masks")[0], "pseudo_masks", reading_s)
    run(units_of(place, "subsample")[0], "subsample")
    found |= _training(place, features, texts, image)
    for number, one in enumerate(scored):
        labelled, _ = _sample(whole, one, images)
        shutil.copytree(place.train, labelled.train)
        scoring = evaluate.protocol(labelled, open_evaluation_set(labelled, "folder"))
        once_s = reading_s * len(scoring.templates) * len(one.classes) / len(classes)
        for unit in units_of(labelled, "evaluate")[min(number, 1) :]:  # `foundation` comes once
            run(unit, evaluate.unit_name(evaluate.method_of(unit.name), one.name), once_s)
    sizes = {
        "masks": _bytes_below(place.pseudo_masks) / len(names),
        "kept": _bytes_below(place.subsample) / len(names),
        "features": features.nbytes, "model": _bytes_below(place.train),
    }  # fmt: skip
    return found, sizes, len(names)


def _sample(whole: Workspace, data_set: DataSet, images: int) -> tuple[Workspace, float]:
    """A workspace of some images of a data set; what putting one of them in place takes."""
    p, root = whole.params, Path(mkdtemp(dir=whole.root))
    drawing_s = seconds(p, lambda: data_set.write(images, root))
    data = p.data.changed(
        images=str(root / "images"), labels=str(root / "labels"), ignore_label=IGNORE,
        classes=str(root / "classes.txt"), shard_images=images, drops="drops",
        corrections="corrections",
    )  # fmt: skip
    scoring = p.evaluate.changed(data_sets=("home",), examples=0)
    place = Workspace(root, p.model_copy(update={"data": data, "evaluate": scoring}))
    listing_s = seconds(p, lambda: run_step(place, "download"))
    placing_s = listing_s + (drawing_s if data_set.drawn else 0.0)
    return place, placing_s / len(place.listing().images)


def _training(place: Workspace, features: Tensor, texts: Tensor, image: Image) -> dict[str, float]:
    """A step on made-up labels, on which its time does not depend, and a validation on an image.

    The head that is left in `place` serves the methods that need one.
    """
    p, patches = place.params.train.changed(epochs=1), features[..., 0]
    device = str(resolve_device(place.params.device))
    labels = torch.arange(patches.numel()).view(patches.shape) % len(texts)

    def train(steps: int) -> float:
        images = steps * p.batch_images
        return seconds(place.params, lambda: train_alignment(
            [features] * images, [labels] * images, texts, p, place.train,
            Path(mkdtemp(dir=place.root)), progress=False, device=device,
        ))  # fmt: skip

    step_s = train(1)
    if step_s < _QUICK_S:
        step_s = train(_STEPS) / _STEPS
    head = AlignmentHead.load(place.train, device)
    validate = scorer([(features, np.zeros(image.shape[:2], np.uint8))], texts)
    return {"step": step_s, "validation": seconds(place.params, lambda: validate(head))}


def _bytes_below(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
