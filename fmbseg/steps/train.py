"""Step `train`: stage 2 of the paper, the alignment module on frozen vision features."""

import json
import logging
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor
from tqdm import tqdm

from fmbseg.align.checkpoint import OnPoints
from fmbseg.align.head import WEIGHTS, AlignmentHead
from fmbseg.align.settings import AlignmentSettings
from fmbseg.align.trainer import train_alignment
from fmbseg.models.device import resolve_device
from fmbseg.pseudo.patch_labels import label_map_of, patch_labels
from fmbseg.steps import pseudo_masks
from fmbseg.steps.workspace import Workspace
from fmbseg.store import (
    MANIFEST,
    StoreError,
    UnitKey,
    file_sha,
    read_coco,
    read_json,
    require_space,
    unit_is_valid,
    write_json,
)
from fmbseg.types import PseudoMask
from fmbseg.vocabulary import encode, read_classes

_log = logging.getLogger(__name__)
_NO_CHAMPION = "none"


class NothingToTrainOnError(ValueError):
    """No image has a kept pseudo mask."""


def champion_folder(workspace: Workspace) -> Path:
    """Where the champion's trained folder lies when `train.init_from` is `champion`."""
    return workspace.root / "models" / "champion"


def key(workspace: Workspace) -> UnitKey:
    """Content key of the trained module.

    With `train.init_from: champion` the champion's weights belong to it. But a model that is up
    to date otherwise keeps the key that names the champion it was started from: a champion that
    moves outdates nothing.
    """
    bad = {entry["image"] for entry in pseudo_masks.quarantined(workspace)}
    images = workspace.listing().images
    inputs = {name: sha for name, sha in images.items() if name not in bad}
    inputs["kept"] = file_sha(workspace.subsample / "kept.json")
    inputs["classes"] = file_sha(workspace.classes_path())
    params = {**workspace.params.train.model_dump(), **workspace.models_params("clip", "vision")}
    plain = workspace.key("train", inputs, {**params, "seed": workspace.params.seed})
    if workspace.params.train.init_from is None:
        return plain
    started_from = _champion_of_trained(workspace.train)
    if started_from is not None:
        trained = replace(plain, inputs={**inputs, "init_from": started_from})
        if unit_is_valid(workspace.train, trained):
            return trained
    weights = champion_folder(workspace) / WEIGHTS
    sha = file_sha(weights) if weights.is_file() else _NO_CHAMPION
    return replace(plain, inputs={**inputs, "init_from": sha})


def run(workspace: Workspace, on_points: OnPoints | None = None) -> bool:
    """Make `models/train/`; True when there was something to do.

    A cut training goes on at its last checkpoint and ends with the same bytes.

    Args:
        workspace: whose masks are trained on.
        on_points: is told the history while it grows; see `train_alignment`.

    Raises:
        NothingToTrainOnError: stage 1 found no mask at all.
        StoreError: the champion was replaced between the start and the reading of its weights.
    """
    train_key = key(workspace)
    scratch = workspace.scratch("train", train_key)

    def compute(out: Path) -> None:
        p, models = workspace.params.train, workspace.models()
        vocabulary = read_classes(workspace.classes_path())
        kept = read_coco(workspace.subsample / "kept.json")
        by_image: dict[str, list[PseudoMask]] = {}
        for mask in kept.masks:
            by_image.setdefault(mask.image, []).append(mask)
        names = sorted(by_image)
        if not names:
            raise NothingToTrainOnError(
                "no pseudo mask was kept; look at data/pseudo_masks/*/presence.json and lower "
                "pseudo_masks.presence_votes or pseudo_masks.min_predicted_iou"
            )
        features = _Features(workspace, names)
        labels = [
            patch_labels(label_map_of(by_image[name], kept.image_sizes_hw[name]), features.grid(i))
            for i, name in enumerate(tqdm(names, desc="train: patch features and labels"))
        ]
        settings = AlignmentSettings(
            patches_per_image=p.patches_per_image,
            loss=p.loss, temperature=p.temperature, epochs=p.epochs, batch_images=p.batch_images,
            learning_rate=p.learning_rate, momentum=p.momentum, weight_decay=p.weight_decay,
            heads=p.heads, mlp_ratio=p.mlp_ratio, chunk_patches=p.chunk_patches,
            seed=workspace.params.seed, save_every_epochs=p.save_every_epochs,
        )  # fmt: skip
        texts = encode(models.clip, vocabulary)
        device = str(resolve_device(workspace.params.device))
        wanted = {
            "vision_dim": features(0).shape[-1], "text_dim": texts.shape[1],
            "heads": p.heads, "mlp_ratio": p.mlp_ratio,
        }  # fmt: skip
        width = int(wanted["vision_dim"])
        weights = (4 + 2 * p.mlp_ratio) * width**2 + width * int(wanted["text_dim"])
        require_space(out, int(16 * weights), "train: weights, momenta and their checkpoints")
        init_sha = train_key.inputs.get("init_from")
        initial = None
        if init_sha is not None:
            initial = _initial(champion_folder(workspace), init_sha, wanted)
        train_alignment(
            features, labels, texts, settings, out, scratch, device=device,
            initial=initial, on_points=on_points,
        )  # fmt: skip
        section = workspace.params.models.model_dump()
        write_json(
            out / "segmenter.json",
            {"models": section, "input_short_side_px": p.input_short_side_px,
             "trained_classes": list(vocabulary.names),
             "init_from": None if initial is None else init_sha},
        )  # fmt: skip

    return workspace.run_unit("train", workspace.train, train_key, compute, keep=scratch)


def _champion_of_trained(folder: Path) -> str | None:
    """The champion that the trained model's own key names, whether or not its weights fitted."""
    try:
        inputs = read_json(folder / MANIFEST)["parts"]["inputs"]
        return str(inputs["init_from"]) if "init_from" in inputs else None
    except (StoreError, KeyError, TypeError):
        return None


def _initial(folder: Path, sha: str, wanted: Mapping[str, Any]) -> AlignmentHead | None:
    """The champion's head; None, with a warning, when there is none that fits."""
    if sha == _NO_CHAMPION:
        _log.warning("train.init_from: no champion in %s; starting from fresh weights", folder)
        return None
    if not (folder / WEIGHTS).is_file() or file_sha(folder / WEIGHTS) != sha:
        raise StoreError(f"{folder}: the champion was replaced meanwhile; run the step again")
    try:
        head = AlignmentHead.load(folder)
    except (OSError, StoreError, ValueError, TypeError, RuntimeError) as error:
        _log.warning("train.init_from: %s cannot be read (%s); fresh weights", folder, error)
        return None
    if head.config() != dict(wanted):
        _log.warning(
            "train.init_from: the champion in %s does not fit (%s, wanted %s); starting from "
            "fresh weights", folder, json.dumps(head.config()), json.dumps(dict(wanted)),
        )  # fmt: skip
        return None
    return head


class _Features:
    """Frozen patch features by image index; kept in memory (fp32) up to the budget."""

    def __init__(self, workspace: Workspace, names: list[str]) -> None:
        self._vision = workspace.models().vision
        self._workspace, self._names = workspace, names
        self._budget_bytes = workspace.params.train.feature_cache_gb * 1e9
        self._cached: dict[int, Tensor] = {}

    def __call__(self, index: int) -> Tensor:
        if index in self._cached:
            return self._cached[index]
        features = self._vision.encode(self._workspace.read_image(self._names[index]))
        size = features.numel() * features.element_size()
        if size <= self._budget_bytes:
            self._cached[index] = features
            self._budget_bytes -= size
        return features

    def grid(self, index: int) -> tuple[int, int]:
        rows, cols, _ = self(index).shape
        return rows, cols
