"""Where a training stands, in one file that is always whole."""

import json
import logging
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from fmbseg import store
from fmbseg.align.head import AlignmentHead

_log = logging.getLogger(__name__)


@dataclass
class Progress:
    """Steps done and the history so far.

    Attributes:
        step: finished steps.
        points: the history's points.
        loss_sum: of the steps since the last point.
        loss_count: number of those steps.
    """

    step: int = 0
    points: list[dict[str, float]] = field(default_factory=list)
    loss_sum: float = 0.0
    loss_count: int = 0

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


def save_progress(
    path: Path,
    head: AlignmentHead,
    optimizer: torch.optim.SGD,
    fingerprint: str,
    progress: Progress,
) -> None:
    """Write weights, momenta and progress, replacing the file in one move."""
    tensors = {}
    for name, parameter in head.named_parameters():
        tensors[f"weight.{name}"] = parameter.detach().cpu().contiguous()
        momentum = optimizer.state[parameter].get("momentum_buffer")
        if momentum is not None:
            tensors[f"momentum.{name}"] = momentum.detach().cpu().contiguous()
    metadata = {"fingerprint": fingerprint, "progress": json.dumps(asdict(progress))}
    path.parent.mkdir(parents=True, exist_ok=True)
    store.write_bytes(path, save(tensors, metadata))


def load_progress(
    path: Path, head: AlignmentHead, optimizer: torch.optim.SGD, fingerprint: str
) -> Progress | None:
    """Put the checkpoint's weights and momenta in place.

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
    except SafetensorError as error:
        _log.warning("%s: unreadable (%s); starting anew", path, error)
        return None
    with torch.no_grad():
        for name, parameter in head.named_parameters():
            parameter.copy_(tensors[f"weight.{name}"])
            if f"momentum.{name}" in tensors:
                momentum = tensors[f"momentum.{name}"].to(parameter.device)
                optimizer.state[parameter]["momentum_buffer"] = momentum
    return Progress(**json.loads(metadata["progress"]))
