"""The training of the step `train` as one of its processes runs it."""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from fmbseg.align.checkpoint import OnPoints
from fmbseg.align.head import AlignmentHead
from fmbseg.align.ranks import Ranks
from fmbseg.align.trainer import train_alignment
from fmbseg.models.device import resolve_device
from fmbseg.models.protocols import VisionModel
from fmbseg.steps.foundation_models import models_of
from fmbseg.steps.label_maps import NothingToTrainOnError, label_maps
from fmbseg.steps.student_labels import student_map
from fmbseg.steps.train import initial_folder
from fmbseg.steps.training_set import Features
from fmbseg.steps.validation import validation_of
from fmbseg.steps.workspace import Workspace
from fmbseg.store import require_space
from fmbseg.types import IGNORE
from fmbseg.vocabulary import encode, read_classes

Initial = Callable[[Mapping[str, Any]], AlignmentHead | None]
"""The head to start from, given the wanted head's sizes (`AlignmentHead.config`)."""


def train_with(
    ranks: Ranks,
    workspace: Workspace,
    out: Path = Path(),
    scratch: Path = Path(),
    *,
    initial: Initial = lambda sizes: None,
    on_points: OnPoints | None = None,
    vision: VisionModel | None = None,
) -> None:
    """Train the head; every process of `ranks` calls this, and the first one alone writes.

    Args:
        ranks: the processes.
        workspace: whose masks are trained on.
        out: receives the trained head.
        scratch: holds the checkpoint.
        initial: weights to start from; the others have them from the first process.
        on_points: see `train_alignment`.
        vision: the workspace's own vision encoder, where the caller has it already.

    Raises:
        NothingToTrainOnError: see `label_maps`; or a trained model finds no mask clear.
        FileNotFoundError, StoreError, ValueError: see `student_map`.
    """
    p, models = workspace.params.train, models_of(workspace)
    encoder = models.vision if vision is None else vision
    folder = initial_folder(workspace) if p.labels == "student" else None
    student = None if folder is None else student_map(workspace, folder, encoder)
    maps = label_maps(workspace, student)
    features = Features(workspace, maps.names, encoder)
    labels = features.patch_labels(maps)
    if student is not None and not any((one != IGNORE).any() for one in labels):
        raise NothingToTrainOnError(
            f"no mask is clear to the model of train.init_from: on none agrees {p.min_agreement:g} "
            "of its area; lower train.min_agreement, or look at the model's own predictions"
        )
    texts = encode(models.clip, read_classes(workspace.classes_path()))
    sizes = {
        "vision_dim": features.dim, "text_dim": texts.shape[1],
        "heads": p.heads, "mlp_ratio": p.mlp_ratio,
    }  # fmt: skip
    if ranks.writes:
        weights = (4 + 2 * p.mlp_ratio) * features.dim**2 + features.dim * texts.shape[1]
        require_space(out, int(16 * weights), "train: weights, momenta and their checkpoints")
    start = initial(sizes)
    features.prepare(labels, ranks)
    train_alignment(
        features, labels, texts, p, out, scratch,
        device=str(resolve_device(workspace.params.device)), vision_dim=features.dim,
        initial=start, on_points=on_points,
        validate=validation_of(workspace, texts, encoder) if ranks.writes else None,
        norms_bytes=features.spare_bytes,
        views=partial(features.view, maps) if p.varies else None,
        ranks=ranks, deal=partial(features.deal, count=ranks.count),
        weights=maps.weights,
    )  # fmt: skip
