"""What corrections changed: before and after on the held-out images, and what they found wrong."""

from typing import Any

import numpy as np
from jaxtyping import Int64

from fmbseg.align.settings import WEIGHTS
from fmbseg.evaluate.confusions import most_confused
from fmbseg.evaluate.metrics import ConfusionMatrix
from fmbseg.methods.table import METHODS, OURS
from fmbseg.report.corrected import ClassPutRight, CorrectionFacts
from fmbseg.steps import evaluate
from fmbseg.steps.corrections import CORRECTIONS, Corrections
from fmbseg.steps.kept_masks import KeptMasks
from fmbseg.steps.shards import quarantined
from fmbseg.steps.train import uncorrected_folder
from fmbseg.steps.workspace import Workspace
from fmbseg.store import file_sha, read_json
from fmbseg.types import IGNORE

_TAKEN_FOR = 3
"""So many wrong classes are named of each."""


def inputs(workspace: Workspace) -> dict[str, str]:
    """Name to content hash of what `facts` reads besides pseudo masks and evaluations."""
    corrections = Corrections.of(workspace)
    found = {f"/corrections/{name}": said for name, said in corrections.contents.items()}
    found |= {f"/corrections {place}": line for place, line in enumerate(corrections.words())}
    weights = uncorrected_folder(workspace) / WEIGHTS
    if corrections.held_out and weights.is_file():
        found["/uncorrected"] = file_sha(weights)
    return found


def facts(workspace: Workspace) -> CorrectionFacts | None:
    """All that the report says of corrections; None where there is none."""
    corrections = Corrections.of(workspace)
    if not corrections and not corrections.left_out:
        return None
    matrix, invented, pixels = _pseudo_against_people(workspace, corrections)
    method = judged_method(workspace)
    before = after = None
    if corrections.held_out and method is not None:
        unit = evaluate.unit_name(method, CORRECTIONS)
        after = float(read_json(workspace.evaluate / unit / "metrics.json")["miou"])
        if (uncorrected_folder(workspace) / WEIGHTS).is_file():
            folder = uncorrected_folder(workspace)
            before = evaluate.miou_of(workspace, folder, method, CORRECTIONS)
    return CorrectionFacts(
        trained=len(corrections.trained), held_out=len(corrections.held_out),
        weight=workspace.params.train.corrections_weight, method=method, before=before,
        after=after, classes=_classes(matrix, corrections.class_names),
        right=float(np.trace(matrix)) / max(1, int(matrix.sum())),
        invented=invented / max(1, pixels), said=tuple(corrections.words()),
    )  # fmt: skip


def judged_method(workspace: Workspace) -> str | None:
    """The trained method whose mIoU on the held-out images counts; None where none is scored."""
    wanted = (workspace.params.tracking.primary_method, OURS)
    scored = workspace.params.evaluate.methods
    return next((one for one in wanted if one in scored and METHODS[one].trained), None)


def _pseudo_against_people(
    workspace: Workspace, corrections: Corrections
) -> tuple[Int64[np.ndarray, "category category+1"], int, int]:
    """Pixels by the class that people left (row) and that of the pseudo masks (column).

    Returns:
        The matrix, the pixels with a pseudo label where people left none, and all pixels.
    """
    from fmbseg.pseudo.patch_labels import label_map_of  # brings torch

    confusion = ConfusionMatrix(max(1, len(corrections.class_names)))
    kept, invented, pixels = KeptMasks(workspace), 0, 0
    bad = {entry["image"] for entry in quarantined(workspace)}
    for image in sorted(corrections.contents.keys() - bad):
        own, people = kept.of(image), corrections.label_map(image)
        pseudo = label_map_of(own.masks, own.size_hw)
        confusion.update(pseudo, people)
        invented += int(((people == IGNORE) & (pseudo != IGNORE)).sum())
        pixels += people.size
    return confusion.matrix, invented, pixels


def _classes(
    matrix: Int64[np.ndarray, "category category+1"], names: tuple[str, ...]
) -> tuple[ClassPutRight, ...]:
    """The classes that people found, the one with the largest wrong share first."""
    found = []
    for index in np.flatnonzero(matrix.sum(1)).tolist():
        alone = np.zeros_like(matrix)
        alone[index] = matrix[index]
        total = int(matrix[index].sum())
        found.append(ClassPutRight(
            names[index], total, 1 - int(matrix[index, index]) / total,
            tuple((one.predicted, one.share) for one in most_confused(alone, names, _TAKEN_FOR)),
        ))  # fmt: skip
    return tuple(sorted(found, key=lambda one: -one.wrong))


def flat(found: CorrectionFacts | None) -> dict[str, Any]:
    """The same as numbers, for metrics.json and MLflow; none where there are no corrections."""
    if found is None:
        return {}
    numbers = {
        "trained_on": found.trained, "held_out": found.held_out,
        "pseudo_pixels_right": round(found.right, 6),
        "miou_before": found.before, "miou": found.after,
    }  # fmt: skip
    return {"corrections": {name: v for name, v in numbers.items() if v is not None}}
