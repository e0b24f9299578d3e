"""What computes cells: a process that lives as long as the study, and so pays imports once.

Trainings of a study differ in their loss or seed and mostly share their images: the frozen
encoder's features of training images stay in memory from one training to the next.
"""

import os
import sys
import traceback
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from hashlib import blake2b
from pathlib import Path

from torch import Tensor

from fmbseg.models.build import FoundationModels
from fmbseg.models.protocols import VisionModel
from fmbseg.steps import pseudo_masks, units
from fmbseg.steps.workspace import Workspace
from fmbseg.types import Image
from tasks.tracking import track

_FEATURES_GB = 4.0
_kept: dict[int, tuple[VisionModel, dict[bytes, Tensor]]] = {}
"""An encoder's id to itself, so that the id stays its own, and what it said of images."""


class RememberingVision:
    """A frozen encoder whose answers are kept, up to 4 GB a process.

    Attributes:
        dim: length of its features.
    """

    def __init__(self, vision: VisionModel) -> None:
        """Remember what this encoder says; it must not change."""
        self._vision, self.dim = vision, vision.dim
        _, self._found = _kept.setdefault(id(vision), (vision, {}))

    def encode(self, image: Image) -> Tensor:
        """As the encoder's own `encode`; the answer is shared and must not be written to."""
        key = blake2b(repr(image.shape).encode() + image.tobytes()).digest()
        if key not in self._found:
            features = self._vision.encode(image)
            held = sum(one.nbytes for _, found in _kept.values() for one in found.values())
            if held + features.nbytes > _FEATURES_GB * 1e9:
                return features
            self._found[key] = features
        return self._found[key]

    def grid_hw(self, image_hw: tuple[int, int]) -> tuple[int, int]:
        """As the encoder's own."""
        return self._vision.grid_hw(image_hw)


@dataclass(frozen=True)
class _Remembering(Workspace):
    """A workspace whose vision encoder remembers."""

    def models(self) -> FoundationModels:
        """The models, the encoder remembering."""
        found = super().models()
        return replace(found, vision=RememberingVision(found.vision))


def compute(root: Path, until: str) -> None:
    """The steps of one workspace, then, where `until` is the last, its MLflow run."""
    workspace = Workspace.open(root)
    remembering = _Remembering(workspace.root, workspace.params)
    for step in units.STEPS:
        if step == "pseudo_masks":
            _shards(workspace)
        units.run_step(remembering if step == "train" else workspace, step)
        if step == until:
            break
    if until == units.STEPS[-1]:
        track.fn(str(root))


def work(root: Path, until: str, log: Path) -> bool:
    """`compute` in a process of a pool; what is printed goes to the log. True when it succeeded."""
    with log.open("wb") as printed:
        sys.stdout.flush()
        sys.stderr.flush()
        os.dup2(printed.fileno(), 1)
        os.dup2(printed.fileno(), 2)
        try:
            compute(root, until)
        except Exception:
            traceback.print_exc()
            return False
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
    return True


def _shards(workspace: Workspace) -> None:
    """Stage 1 over `runner.workers` threads."""
    pseudo_masks.salvage(workspace)
    with ThreadPoolExecutor(workspace.params.runner.workers) as threads:
        done = [threads.submit(unit.run) for unit in units.units_of(workspace, "pseudo_masks")]
        for one in done:
            one.result()
