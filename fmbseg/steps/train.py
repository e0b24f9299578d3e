"""Step `train`: stage 2 of the paper, the alignment module on frozen vision features."""

from pathlib import Path

from torch import Tensor
from tqdm import tqdm

from fmbseg.align.trainer import AlignmentSettings, train_alignment
from fmbseg.models.device import resolve_device
from fmbseg.pseudo.patch_labels import label_map_of, patch_labels
from fmbseg.steps import pseudo_masks
from fmbseg.steps.workspace import Workspace
from fmbseg.store import UnitKey, file_sha, read_coco, write_json
from fmbseg.types import PseudoMask
from fmbseg.vocabulary import encode, read_classes


class NothingToTrainOnError(ValueError):
    """No image has a kept pseudo mask."""


def key(workspace: Workspace) -> UnitKey:
    """Content key of the trained module."""
    bad = {entry["image"] for entry in pseudo_masks.quarantined(workspace)}
    images = workspace.listing().images
    inputs = {name: sha for name, sha in images.items() if name not in bad}
    inputs["kept"] = file_sha(workspace.subsample / "kept.json")
    inputs["classes"] = file_sha(workspace.classes_path())
    params = {**workspace.params.train.model_dump(), **workspace.models_params("clip", "vision")}
    return workspace.key("train", inputs, {**params, "seed": workspace.params.seed})


def run(workspace: Workspace) -> bool:
    """Make `models/train/`; True when there was something to do.

    A cut training goes on at its last checkpoint and ends with the same bytes.

    Raises:
        NothingToTrainOnError: stage 1 found no mask at all.
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
        train_alignment(features, labels, texts, settings, out, scratch, device=device)
        section = workspace.params.models.model_dump()
        write_json(
            out / "segmenter.json",
            {"models": section, "input_short_side_px": p.input_short_side_px,
             "trained_classes": list(vocabulary.names)},
        )  # fmt: skip

    return workspace.run_unit("train", workspace.train, train_key, compute, keep=scratch)


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
