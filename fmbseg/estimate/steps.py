"""The pipeline's own code, step by step, over the sample."""

import tracemalloc
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from fmbseg.align.head import WEIGHTS, AlignmentHead
from fmbseg.align.settings import AlignmentSettings
from fmbseg.align.trainer import train_alignment
from fmbseg.estimate.evaluation import score
from fmbseg.estimate.figures import Figures
from fmbseg.estimate.meter import Meter, Phase, Rate
from fmbseg.estimate.models import MeteredWorkspace
from fmbseg.estimate.runs import Runs
from fmbseg.estimate.sample import Samples
from fmbseg.params import Params
from fmbseg.pseudo.patch_labels import label_map_of, patch_labels
from fmbseg.pseudo.shard import compute_shard
from fmbseg.pseudo.subsample import subsample
from fmbseg.steps import pseudo_masks
from fmbseg.steps.validation import scorer
from fmbseg.store import CocoMasks, read_coco, write_coco
from fmbseg.types import IGNORE, PseudoMask
from fmbseg.vocabulary import encode

_MOST_STEPS = 30
_KEPT = "kept.json"


def measure(
    workspace: MeteredWorkspace,
    samples: Samples,
    count: int,
    meter: Meter,
    scratch: Path,
    *,
    budget_s: float,
    models_s: float,
    device: torch.device,
    progress: bool = True,
) -> Figures:
    """Run the steps over the samples, as many images as the budget lasts, one of each at least.

    Args:
        workspace: its params.yaml, and models metered by `meter`.
        samples: the data sets.
        count: images to measure of each, at most.
        meter: decides what is really computed.
        scratch: an empty folder.
        budget_s: seconds; a part that was begun is ended.
        models_s: seconds that building the models took.
        device: where the models are.
        progress: show bars.
    """
    params, models = workspace.params, workspace.models()
    sample, read = samples.train, samples.train.reader()
    classes, names = sample.column.classes, sample.measured(count)
    runs = Runs(meter, meter.now() + budget_s, progress)
    base = meter.rest()
    with meter.phase() as reading:
        texts = encode(models.clip, classes)
    options = pseudo_masks.options(workspace)

    def shard(names: Sequence[str], out: str) -> None:
        compute_shard(
            names, read, models.clip, models.sam, texts, classes.names, options,
            scratch / out, scratch / "records", progress=False,
        )  # fmt: skip

    seen: list[str] = []

    def one_image(name: str) -> None:
        shard([name], f"one/{name}")
        seen.append(name)

    stage1, names = runs.each("stage 1", one_image, names), seen
    shard(names, "shard")
    all_masks, choosing = _choose(params, scratch, meter)
    kept, kept_masks = _objects(scratch / _KEPT)

    features: list[Tensor] = []
    encoded = runs.each(
        "vision features", lambda name: features.append(models.vision.encode(read(name))), names
    )
    labels, labelled = _patch_labels(kept, names, features, meter)
    guessed = all(bool((one == IGNORE).all()) for one in labels)
    if guessed:
        labels = [torch.arange(one.numel()).view(one.shape) % len(classes) for one in labels]
    train = scratch / "train"
    step = _train(params, features, labels, texts, train, runs, device)
    validation = _validate(
        dict(zip(names, features, strict=False)), kept.image_sizes_hw, texts, train, runs, device
    )
    scored = score(workspace, samples.scored, count, runs, device, stage1)
    return Figures(
        base_bytes=base,
        models_s=models_s,
        texts_s=reading.seconds,
        stage1=stage1,
        stage1_bytes=_bytes_below(scratch / "shard") / len(names),
        subsample=Rate.of([choosing], len(names)),
        kept_bytes=(scratch / _KEPT).stat().st_size / len(names),
        masks_memory_bytes=all_masks / len(names),
        kept_memory_bytes=kept_masks / len(names),
        encode=encoded,
        feature_bytes=sum(one.nbytes for one in features) / len(features),
        labels=labelled,
        label_bytes=sum(one.nbytes for one in labels) / len(labels),
        step=step,
        validation=validation,
        model_bytes=_bytes_below(train) // len(list(train.glob("*.resume"))),
        scored=scored,
        guessed_labels=guessed,
    )


def _choose(params: Params, scratch: Path, meter: Meter) -> tuple[int, Phase]:
    """Memory of all masks as objects, and the choice among them."""
    first, first_bytes = _objects(scratch / "shard" / "stage11.json")
    second, second_bytes = _objects(scratch / "shard" / "stage12.json")
    with meter.phase() as choosing:
        chosen = subsample(first.masks, second.masks, params.subsample.keep_fraction, params.seed)
        write_coco(scratch / _KEPT, chosen.kept, first.image_sizes_hw, first.class_names)
    return first_bytes + second_bytes, choosing


def _patch_labels(
    kept: CocoMasks, names: Sequence[str], features: Sequence[Tensor], meter: Meter
) -> tuple[list[Tensor], Rate]:
    by_image: dict[str, list[PseudoMask]] = {name: [] for name in names}
    for mask in kept.masks:
        by_image[mask.image].append(mask)
    labels: list[Tensor] = []
    phases = []
    for name, one in zip(names, features, strict=False):
        with meter.phase() as phase:
            rows, cols, _ = one.shape
            painted = label_map_of(by_image[name], kept.image_sizes_hw[name])
            labels.append(patch_labels(painted, (rows, cols)))
        phases.append(phase)
    return labels, Rate.of(phases)


def _train(
    params: Params, features: Sequence[Tensor], labels: Sequence[Tensor], texts: Tensor,
    folder: Path, runs: Runs, device: torch.device,
) -> Rate:  # fmt: skip
    """Steps of the real training, for which the sample's images take turns.

    The first one is counted only where there is no time for more.
    """
    p = params.train
    values = p.model_dump(include={one.name for one in fields(AlignmentSettings)})
    settings = AlignmentSettings(**values | {"epochs": 1, "seed": params.seed})
    usable = [k for k, one in enumerate(labels) if bool((one != IGNORE).any())]

    def steps(count: int) -> Rate:
        turns = [usable[k % len(usable)] for k in range(count * p.batch_images)]
        with runs.phase() as phase:
            train_alignment(
                [features[k] for k in turns], [labels[k] for k in turns], texts, settings,
                folder / str(count), folder / f"{count}.resume", progress=False,
                device=str(device),
            )  # fmt: skip
        return Rate.of([phase], count)

    runs.meter.rest()
    first = steps(1)
    more = min(_MOST_STEPS, int((runs.ends - runs.meter.now()) / 4 / first.seconds))
    return steps(more) if more > 1 else first


def _validate(
    features: Mapping[str, Tensor], sizes_hw: Mapping[str, tuple[int, int]], texts: Tensor,
    trained: Path, runs: Runs, device: torch.device,
) -> Rate:  # fmt: skip
    """The head that was trained for the sample, scored on an image."""
    folder = next(one.parent for one in trained.glob(f"*/{WEIGHTS}"))
    head = AlignmentHead.load(folder, str(device))

    def one(name: str) -> None:
        scorer([(features[name], np.zeros(sizes_hw[name], np.uint8))], texts)(head)

    return runs.each("validation", one, list(features))


def _objects(file: Path) -> tuple[CocoMasks, int]:
    """Masks of a file, and the memory their objects take."""
    with _allocated() as size:
        masks = read_coco(file)
    return masks, size[0]


@contextmanager
def _allocated() -> Iterator[list[int]]:
    """Bytes of the objects made inside that are still there at the end."""
    found = [0]
    tracemalloc.start()
    try:
        yield found
        found[0] = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()


def _bytes_below(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
