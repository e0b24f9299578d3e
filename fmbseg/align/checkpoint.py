"""Where a training stands, in one file that is always whole."""

import hashlib
import json
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor
from torch.optim.swa_utils import AveragedModel

from fmbseg.align.head import AlignmentHead
from fmbseg.align.ranks import Ranks
from fmbseg.store import write_bytes

OnPoints = Callable[[Sequence[dict[str, float]]], None]
"""Is told points of the history, {step, epoch, loss, learning_rate}, each once and in order.

Points of the validation curve, {step, epoch, miou, images}, come through it too.
"""
Validate = Callable[[AlignmentHead], dict[str, float]]
"""Scores a head on labelled images; see `train_alignment`."""

_log = logging.getLogger(__name__)
_SECONDS_BETWEEN_TELLS = 1.0


@dataclass
class Progress:
    """Steps done and the history so far.

    Attributes:
        step: finished steps.
        points: the history's points.
        validation: points of the validation curve.
        loss_sum: of the steps since the last point.
        loss_count: number of those steps.
    """

    step: int = 0
    points: list[dict[str, float]] = field(default_factory=list)
    loss_sum: float = 0.0
    loss_count: int = 0
    validation: list[dict[str, float]] = field(default_factory=list)

    def add(self, loss: float, epoch: int, rate: float, stride: int, *, last: bool) -> None:
        """Count a finished step; every `stride` steps, and at the last, make a point."""
        self.step += 1
        self.loss_sum += loss
        self.loss_count += 1
        if self.step % stride == 0 or last:
            mean = self.loss_sum / self.loss_count
            point = {"step": self.step, "epoch": epoch, "loss": mean, "learning_rate": rate}
            self.points.append(point)
            self.loss_sum, self.loss_count = 0.0, 0


class PointFeed:
    """Hands growing lists of points on, new ones only."""

    def __init__(
        self, lists: Sequence[Sequence[dict[str, float]]], on_points: OnPoints | None
    ) -> None:
        """Watch lists that the training appends to; with no listener nothing happens."""
        self._lists, self._on_points = lists, on_points
        self._told, self._last = [0] * len(lists), time.monotonic()

    def tell(self) -> None:
        """Hand on what is new, if anything is."""
        told, self._told = self._told, [len(points) for points in self._lists]
        new = [
            dict(point)
            for points, start in zip(self._lists, told, strict=True)
            for point in points[start:]
        ]
        if self._on_points is not None and new:
            self._on_points(new)
        self._last = time.monotonic()

    def tell_now_and_then(self) -> None:
        """The same, when a second has passed since the last time."""
        if time.monotonic() - self._last >= _SECONDS_BETWEEN_TELLS:
            self.tell()


def training_fingerprint(
    settings: dict[str, Any],
    head: AlignmentHead,
    labels: Sequence[Tensor],
    texts: Tensor,
    weights: Sequence[float] | None = None,
) -> str:
    """What a training is: a checkpoint with another fingerprint is not gone on with.

    Args:
        settings: as JSON values.
        head: with the weights that training starts from.
        labels: class index per patch, one tensor an image.
        texts: the classes' text features.
        weights: of the images in the loss, where they differ.

    Returns:
        SHA-256, hexadecimal.
    """
    facts = [settings, head.config(), [list(one.shape) for one in labels], weights]
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode())
    for one in labels:
        digest.update(one.to(torch.int64).cpu().contiguous().numpy().tobytes())
    for one in (texts, *head.state_dict().values()):
        digest.update(one.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


@dataclass(frozen=True)
class Trained:
    """What a training changes.

    Attributes:
        head: with the weights of the last finished step.
        optimizer: and its momenta.
        mean: moving average of the weights so far, where there is one.
    """

    head: AlignmentHead
    optimizer: torch.optim.SGD
    mean: AveragedModel

    def best(self) -> AlignmentHead:
        """The head to use: of the mean where there is one, else of the last step."""
        if int(self.mean.n_averaged) == 0:
            return self.head
        averaged = self.mean.module
        assert isinstance(averaged, AlignmentHead)
        return averaged


def _content_sha(tensors: dict[str, Tensor], progress: str) -> str:
    """SHA-256 of all that a checkpoint holds: damage inside a tensor shows nowhere else."""
    digest = hashlib.sha256(progress.encode())
    for name in sorted(tensors):
        digest.update(name.encode() + b"\0" + tensors[name].numpy().tobytes())
    return digest.hexdigest()


def save_progress(path: Path, trained: Trained, fingerprint: str, progress: Progress) -> None:
    """Write weights, momenta, mean and progress, replacing the file in one move."""
    parts = {"head": trained.head, "mean": trained.mean}
    tensors = {
        f"{part}.{name}": tensor.cpu().contiguous()
        for part, module in parts.items()
        for name, tensor in module.state_dict().items()
    }
    for name, parameter in trained.head.named_parameters():
        momentum = trained.optimizer.state[parameter].get("momentum_buffer")
        if momentum is not None:
            tensors[f"momentum.{name}"] = momentum.cpu().contiguous()
    metadata = {"fingerprint": fingerprint, "progress": json.dumps(asdict(progress))}
    metadata["content"] = _content_sha(tensors, metadata["progress"])
    write_bytes(path, save(tensors, metadata))


def load_progress(path: Path, trained: Trained, fingerprint: str) -> Progress | None:
    """Put the checkpoint's weights, momenta and mean in place.

    Returns:
        Its progress; None, with nothing changed, when there is no checkpoint of this training.
    """
    if not path.is_file():
        return None
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            if metadata.get("fingerprint") != fingerprint:
                _log.warning("%s: of another training; starting anew", path)
                return None
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        if metadata.get("content") != _content_sha(tensors, metadata.get("progress", "")):
            raise SafetensorError("its content is not what was written")
    except SafetensorError as error:
        _log.warning("%s: unreadable (%s); starting anew", path, error)
        return None
    for part, module in (("head.", trained.head), ("mean.", trained.mean)):
        own = {name: tensor for name, tensor in tensors.items() if name.startswith(part)}
        module.load_state_dict({name.removeprefix(part): own[name] for name in own})
    for name, parameter in trained.head.named_parameters():
        if f"momentum.{name}" in tensors:
            momentum = tensors[f"momentum.{name}"].to(parameter.device)
            trained.optimizer.state[parameter]["momentum_buffer"] = momentum
    return Progress(**json.loads(metadata["progress"]))


def share_progress(trained: Trained, step: int, ranks: Ranks) -> int:
    """Put what the first process starts from in place in all others; returns its step."""
    if ranks.count == 1:
        return step
    parts: tuple[Any, ...] = (trained.head, trained.optimizer, trained.mean)
    found = ranks.told((step, *(part.state_dict() for part in parts)))
    for part, state in zip(parts, found[1:], strict=True):
        part.load_state_dict(state)
    return int(found[0])
