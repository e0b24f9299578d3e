"""What computes cells: a process that lives as long as the study, and so pays imports once.

Trainings of a study differ in their loss or seed and mostly share their images: the frozen
encoder's features of training images stay in memory from one training to the next.
"""

import multiprocessing
import multiprocessing.connection
import os
import sys
import threading
import traceback
from hashlib import blake2b
from pathlib import Path

from torch import Tensor

from fmbseg.models.protocols import VisionModel
from fmbseg.steps.foundation_models import models_of
from fmbseg.steps.plan import PLAN, run_plan
from fmbseg.steps.step import Unit
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


def end_with_parent() -> None:
    """End this process once the one that started it has ended, even by a kill."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        multiprocessing.connection.wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=watch, name="end with the study", daemon=True).start()


def compute(root: Path, until: str) -> None:
    """The steps of one workspace, then, where `until` is the last, its MLflow run."""
    run_plan(root, until, _run)
    if until == PLAN[-1].name:
        track.fn(str(root))


def _run(unit: Unit) -> bool:
    if unit.of.name == "train":
        return unit.run(vision=RememberingVision(models_of(unit.workspace).vision))
    return unit.run()


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
