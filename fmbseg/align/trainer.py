"""Stage 2: fit the alignment head to pseudo labels, resumable and repeatable to the last byte."""

import logging
import math
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Integer
from torch import Tensor

from fmbseg.align.batches import (
    Features,
    Labels,
    Norms,
    View,
    draw_patches,
    labelled_images,
    labels_of,
    read_group,
    share_of,
    weights_of,
)
from fmbseg.align.checkpoint import (
    OnPoints,
    PointFeed,
    Progress,
    Trained,
    Validate,
    load_progress,
    save_progress,
    share_progress,
    training_fingerprint,
)
from fmbseg.align.head import AlignmentHead
from fmbseg.align.optimise import (
    MovingAverage,
    learning_rate,
    make_optimizer,
    repeatable,
    take_step,
)
from fmbseg.align.ranks import ALONE, Ranks
from fmbseg.align.settings import TrainParams
from fmbseg.progress import progress as told_progress
from fmbseg.store import write_json

_log = logging.getLogger(__name__)
_MAX_POINTS = 2000
VALIDATIONS = 10
"""About so many times a head is scored while it is trained."""


class TrainingDivergedError(RuntimeError):
    """The loss is no longer a finite number."""


def train_alignment(
    features: Callable[[int], Float[Tensor, "rows cols dim"]] | Sequence[Tensor],
    labels: Sequence[Integer[Tensor, "_rows _cols"]],
    texts: Float[Tensor, "category text_dim"],
    settings: TrainParams,
    folder: Path,
    resume_folder: Path,
    progress: bool = True,
    device: str = "cpu",
    *,
    vision_dim: int | None = None,
    initial: AlignmentHead | None = None,
    on_points: OnPoints | None = None,
    validate: Validate | None = None,
    norms_bytes: float = 0.0,
    views: Callable[[int, int], View] | None = None,
    ranks: Ranks = ALONE,
    deal: Callable[[Sequence[int]], list[list[int]]] | None = None,
    weights: Sequence[float] | None = None,
) -> int:
    """Train a new alignment head, or go on where a cut training left off.

    Same inputs, seed, machine and thread count: same bytes, cut or not. The frozen models do not
    take part: their features come in ready.

    Args:
        features: frozen patch features by image index (any float type), as many as `labels`.
        labels: class index per patch, or IGNORE. Images without a labelled patch are left out.
        texts: unit-length text features, one per class.
        settings: the section `train` of params.yaml.
        folder: receives alignment.safetensors, alignment.json, history.json (all repeatable) and
            timing.json (wall clock). history.json is a list of at most 2,000 points {step, epoch,
            loss, learning_rate}: finished steps, and the mean loss since the point before. With
            `validate`, validation.json as well, a list of {step, epoch, miou, images}.
        resume_folder: holds the checkpoint; the caller removes it once `folder` is safe.
        progress: say where the training is; see `fmbseg.progress`.
        device: where the head is trained.
        vision_dim: length of a patch's features; None: an image's are asked for to learn it.
        initial: a head of the same shape whose weights are started from; None for fresh ones.
        on_points: told new points of the history about once a second and at the end; first, where
            a training goes on, all points of its checkpoint. It changes no byte of the result.
        validate: scores the head that would be saved now; asked about ten times, the last time at
            the end. What it says is written down and changes nothing else.
        norms_bytes: memory that normalised features may take on the CPU, which saves their norms
            in every epoch but the first; no value depends on it.
        views: (image index, epoch) to what that epoch sees in place of features and labels: another
            part of the picture, say. The same every time it is asked.
        ranks: the processes that train together, each of which calls this. Only the first one
            writes, loads the checkpoint, validates and tells of points and progress.
        deal: the images of a batch to those that each process reads; None: one in turn each.
        weights: of each image's patches in the loss, above 0; None: all the same.

    Returns:
        First step of this call; 0 for a training that was not cut.

    Raises:
        ValueError: no labelled patch at all, or settings, grids, labels or an initial head that
            do not fit.
        TrainingDivergedError: the loss is not finite.

    Paper: section 3.2.
    """
    get: Features = features if callable(features) else features.__getitem__
    images = labelled_images(labels)
    head = AlignmentHead(
        vision_dim or get(images[0]).shape[-1], texts.shape[1], settings.heads, settings.mlp_ratio,
        generator=torch.Generator().manual_seed(settings.seed),
    ).to(device)  # fmt: skip
    if initial is not None:
        _start_from(initial, head)
    batches = math.ceil(len(images) / settings.batch_images)
    total = batches * settings.epochs
    texts = texts.detach().float().to(device)
    trained = Trained(head, make_optimizer(head, settings), MovingAverage(head, settings, total))
    stride = math.ceil(total / _MAX_POINTS)
    validation_stride = math.ceil(total / VALIDATIONS)

    checkpoint, fingerprint, state = resume_folder / "checkpoint.safetensors", "", Progress()
    if ranks.writes:
        fingerprint = training_fingerprint(settings.model_dump(), head, labels, texts, weights)
        state = load_progress(checkpoint, trained, fingerprint) or state
    state.step = share_progress(trained, state.step, ranks)
    model = ranks.model(head)
    resumed_at = state.step
    feed = PointFeed((state.points, state.validation), on_points if ranks.writes else None)
    feed.tell()
    norms = Norms(0.0 if views else norms_bytes) if device == "cpu" else None
    if resumed_at:
        _log.info("train: goes on at step %d of %d", resumed_at, total)
    began, patches_done, saved = time.perf_counter(), 0, time.monotonic()
    shown = told_progress(
        "train", total=total, unit="step", initial=state.step, shown=progress and ranks.writes
    )
    order = np.empty(0, np.int64)
    labels_now: Labels = labels
    deal = deal or partial(_in_turn, count=ranks.count)
    with shown as bar, repeatable(device):
        while state.step < total:
            epoch, batch = divmod(state.step, batches)
            if batch == 0 or state.step == resumed_at:
                order = np.random.default_rng([settings.seed, epoch]).permutation(images)
            start = batch * settings.batch_images
            now = order[start : start + settings.batch_images].tolist()
            rate = learning_rate(state.step, total, settings)
            if views is not None:
                seen = {image: views(image, epoch) for image in now}
                labels_now = {image: view[0] for image, view in seen.items()}
                get = _reader(seen)
            drawn = draw_patches(
                labels_now, now, settings.patches_per_image,
                np.random.default_rng([settings.seed, epoch, start]),
            )  # fmt: skip
            shares = [share_of(drawn, part) for part in deal(now)]
            groups = [read_group(one, get, norms, device) for one in shares[ranks.rank]]
            wanted = [labels_of(share) for share in shares]
            loss = take_step(
                model, trained.optimizer, groups, wanted, texts, settings, rate, ranks,
                weights_of(shares, weights),
            )  # fmt: skip
            if not math.isfinite(loss):
                raise TrainingDivergedError(
                    f"loss {loss} at step {state.step}; lower train.learning_rate "
                    f"({settings.learning_rate}) or raise train.temperature "
                    f"({settings.temperature})"
                )
            state.add(loss, epoch, rate, stride, last=state.step + 1 == total)
            if settings.average_over is not None:
                trained.mean.update_parameters(head)
            patches_done += sum(map(len, wanted))
            if (
                validate is not None
                and ranks.writes
                and (state.step % validation_stride == 0 or state.step == total)
            ):
                state.validation.append(
                    {"step": state.step, "epoch": epoch, **validate(trained.best())}
                )
            if ranks.writes and (
                state.step == total or time.monotonic() - saved >= settings.save_every_seconds
            ):
                save_progress(checkpoint, trained, fingerprint, state)
                saved = time.monotonic()
            feed.tell_now_and_then()
            bar.update(loss=loss)

    if not ranks.writes:
        return resumed_at
    feed.tell()
    seconds = time.perf_counter() - began
    folder.mkdir(parents=True, exist_ok=True)
    trained.best().save(folder)
    write_json(folder / "history.json", state.points)
    if validate is not None:
        write_json(folder / "validation.json", state.validation)
    timing = {
        "seconds": seconds,
        "steps": state.step - resumed_at,
        "patches_per_second": patches_done / max(seconds, 1e-9),
        "threads": torch.get_num_threads(),
    }
    write_json(folder / "timing.json", timing)
    return resumed_at


def _reader(seen: Mapping[int, View]) -> Features:
    return lambda image: seen[image][1]()


def _in_turn(images: Sequence[int], count: int) -> list[list[int]]:
    return [list(images[rank::count]) for rank in range(count)]


def _start_from(initial: AlignmentHead, head: AlignmentHead) -> None:
    if initial.config() != head.config():
        raise ValueError(
            f"initial weights: of a head {initial.config()}; wanted {head.config()}; "
            "set train.init_from to null, or train with the settings they were made with"
        )
    head.load_state_dict(initial.state_dict())
