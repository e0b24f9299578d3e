"""Stage 2: fit the alignment head to pseudo labels, resumable and repeatable to the last byte."""

import logging
import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor
from tqdm import tqdm

from fmbseg import store
from fmbseg.align.batches import Features, Group, cut_batch, labelled_images
from fmbseg.align.checkpoint import (
    OnPoints,
    PointFeed,
    Progress,
    load_progress,
    save_progress,
    training_fingerprint,
)
from fmbseg.align.head import AlignmentHead
from fmbseg.align.loss import LOSSES
from fmbseg.align.settings import AlignmentSettings

_log = logging.getLogger(__name__)
_MAX_POINTS = 2000
_WARM_UP_FRACTION = 0.02


class TrainingDivergedError(RuntimeError):
    """The loss is no longer a finite number."""


@dataclass(frozen=True)
class TrainingHistory:
    """What history.json holds.

    Attributes:
        points: at most 2,000 of {step, epoch, loss, learning_rate}; loss is the mean since the
            point before, step counts finished steps.
        steps: steps of the whole training.
        resumed_at_step: first step of this run; 0 for a training that was not cut.
    """

    points: tuple[dict[str, float], ...] = field(repr=False)
    steps: int
    resumed_at_step: int


def train_alignment(
    features: Callable[[int], Float[Tensor, "rows cols dim"]] | Sequence[Tensor],
    labels: Sequence[Int64[Tensor, "rows cols"]],
    texts: Float[Tensor, "category text_dim"],
    settings: AlignmentSettings,
    folder: Path,
    resume_folder: Path,
    progress: bool = True,
    device: str = "cpu",
    *,
    initial: AlignmentHead | None = None,
    on_points: OnPoints | None = None,
) -> TrainingHistory:
    """Train a new alignment head, or go on where a cut training left off.

    Same inputs, seed, machine and thread count: same bytes, cut or not. The frozen models do not
    take part: their features come in ready.

    Args:
        features: frozen patch features by image index (any float type), as many as `labels`.
        labels: class index per patch, or IGNORE. Images without a labelled patch are left out.
        texts: unit-length text features, one per class.
        settings: see there.
        folder: receives alignment.safetensors, alignment.json, history.json (all repeatable) and
            timing.json (wall clock).
        resume_folder: holds the checkpoint; the caller removes it once `folder` is safe.
        progress: show a bar.
        device: where the head is trained.
        initial: a head of the same shape whose weights are started from; None for fresh ones.
        on_points: told new points of the history about once a second and at the end; first, where
            a training goes on, all points of its checkpoint. It changes no byte of the result.

    Raises:
        ValueError: no labelled patch at all, or settings, grids, labels or an initial head that
            do not fit.
        TrainingDivergedError: the loss is not finite.

    Paper: section 3.2.
    """
    get: Features = features if callable(features) else features.__getitem__
    settings.check()
    images = labelled_images(labels)
    head = AlignmentHead(
        get(images[0]).shape[-1], texts.shape[1], settings.heads, settings.mlp_ratio,
        generator=torch.Generator().manual_seed(settings.seed),
    ).to(device)  # fmt: skip
    if initial is not None:
        _start_from(initial, head)
    texts = texts.detach().float().to(device)
    optimizer = _sgd(head, settings)
    batches = math.ceil(len(images) / settings.batch_images)
    total = batches * settings.epochs
    stride = math.ceil(total / _MAX_POINTS)

    checkpoint = resume_folder / "checkpoint.safetensors"
    fingerprint = training_fingerprint(asdict(settings), head, labels, texts)
    state = load_progress(checkpoint, head, optimizer, fingerprint) or Progress()
    resumed_at = state.step
    feed = PointFeed(state.points, on_points)
    feed.tell()
    if resumed_at:
        _log.info("train: goes on at step %d of %d", resumed_at, total)
    began, patches_done = time.perf_counter(), 0
    hidden = not progress or None  # None: unless standard error is a terminal
    bar = tqdm(total=total, initial=state.step, desc="train", unit="step", disable=hidden)
    with bar, _repeatable(device):
        for epoch in range(state.step // batches, settings.epochs):
            order = np.random.default_rng([settings.seed, epoch]).permutation(images)
            for start in range(0, len(order), settings.batch_images):
                rate = _learning_rate(state.step, total, settings.learning_rate)
                rng = np.random.default_rng([settings.seed, epoch, start])
                groups = cut_batch(
                    get, labels, order[start : start + settings.batch_images],
                    settings.patches_per_image, rng,
                )  # fmt: skip
                loss, patches = _step(head, optimizer, groups, texts, settings, rate)
                if not math.isfinite(loss):
                    raise TrainingDivergedError(
                        f"loss {loss} at step {state.step}; lower train.learning_rate "
                        f"({settings.learning_rate}) or raise train.temperature "
                        f"({settings.temperature})"
                    )
                state.add(loss, epoch, rate, stride, last=state.step + 1 == total)
                patches_done += patches
                feed.tell_now_and_then()
                bar.update()
            if (epoch + 1) % settings.save_every_epochs == 0 or epoch + 1 == settings.epochs:
                save_progress(checkpoint, head, optimizer, fingerprint, state)
            bar.set_postfix(loss=f"{loss:.3f}")

    feed.tell()
    seconds = time.perf_counter() - began
    folder.mkdir(parents=True, exist_ok=True)
    head.save(folder)
    store.write_json(folder / "history.json", state.points)
    timing = {
        "seconds": seconds,
        "steps": state.step - resumed_at,
        "patches_per_second": patches_done / max(seconds, 1e-9),
        "threads": torch.get_num_threads(),
    }
    store.write_json(folder / "timing.json", timing)
    return TrainingHistory(tuple(state.points), total, resumed_at)


def _step(
    head: AlignmentHead,
    optimizer: torch.optim.SGD,
    groups: list[Group],
    texts: Tensor,
    settings: AlignmentSettings,
    rate: float,
) -> tuple[float, int]:
    """One step of SGD; the loss and the number of patches in it."""
    for parameters in optimizer.param_groups:
        parameters["lr"] = rate
    found, wanted = [], []
    for group in groups:
        out = head(group.features.to(texts.device), group.wanted.to(texts.device))
        found.append(out[group.valid.to(texts.device)])
        wanted.append(group.labels.to(texts.device))
    patches, labels = torch.cat(found), torch.cat(wanted)
    loss = LOSSES[settings.loss](
        patches, labels, texts, settings.temperature, settings.chunk_patches
    )
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    if settings.max_grad_norm is not None:
        torch.nn.utils.clip_grad_norm_(head.parameters(), settings.max_grad_norm)
    optimizer.step()
    return float(loss.detach()), len(labels)


def _learning_rate(step: int, total: int, peak: float) -> float:
    warm_up = max(1.0, _WARM_UP_FRACTION * total)
    return peak * min(1.0, (step + 1) / warm_up) * 0.5 * (1 + math.cos(math.pi * step / total))


def _sgd(head: AlignmentHead, settings: AlignmentSettings) -> torch.optim.SGD:
    matrices = [p for p in head.parameters() if p.ndim > 1]
    vectors = [p for p in head.parameters() if p.ndim < 2]
    groups = [
        {"params": matrices, "weight_decay": settings.weight_decay},
        {"params": vectors, "weight_decay": 0.0},
    ]
    return torch.optim.SGD(groups, lr=settings.learning_rate, momentum=settings.momentum)


def _start_from(initial: AlignmentHead, head: AlignmentHead) -> None:
    if initial.config() != head.config():
        raise ValueError(
            f"initial weights: of a head {initial.config()}; wanted {head.config()}; "
            "set train.init_from to null, or train with the settings they were made with"
        )
    head.load_state_dict(initial.state_dict())


@contextmanager
def _repeatable(device: str) -> Iterator[None]:
    """Deterministic kernels; off the CPU, where some have none, torch warns instead of failing.

    Without torch's filling of new memory, a guard for kernels that read what they never wrote:
    it cost a twentieth of the time.
    """
    memory: Any = torch.utils.deterministic
    fill_before = memory.fill_uninitialized_memory
    before = torch.are_deterministic_algorithms_enabled()
    warn_before = torch.is_deterministic_algorithms_warn_only_enabled()
    torch.use_deterministic_algorithms(True, warn_only=device != "cpu")
    memory.fill_uninitialized_memory = False
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before, warn_only=warn_before)
        memory.fill_uninitialized_memory = fill_before
