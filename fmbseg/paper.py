"""What the paper publishes of its settings, what `auto` stands for, and where a run departs.

`auto` in params.yaml is what the models' profile says: with the profile `paper` the published
value, or none of what the paper does not mention; otherwise ours, which suits the miniature. A
value that stands in params.yaml always wins.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

AUTO: Mapping[str, tuple[Any, Any]] = {
    "train.epochs": (10, 30),
    "train.patches_per_image": (None, 16),
    "train.max_grad_norm": (None, 1.0),
    "train.warm_up_fraction": (0.0, 0.02),
    "train.hold_rate_from": (None, 0.5),
    "train.average_over": (None, 0.3),
    "evaluate.templates": ("model", "protocol"),
}
"""Dotted key to the value of `auto`: with the profile `paper`, and with any other."""

PROFILE = "paper"
EXPERIMENTS = "experiments"


@dataclass(frozen=True)
class Published:
    """A setting that the paper prints.

    Attributes:
        value: as params.yaml writes it.
        section: of the paper: 3.1, 3.2, or its experiments.
        words: what the paper says.
    """

    value: Any
    section: str
    words: str


PUBLISHED: Mapping[str, Published] = {
    "models.clip": Published("ViT-L-14-quickgelu, openai", EXPERIMENTS, "CLIP ViT-L/14 of OpenAI"),
    "models.sam": Published("vit_h", EXPERIMENTS, "SAM ViT-H"),
    "models.vision": Published("vit_large_patch14_dinov2.lvd142m", EXPERIMENTS, "DINOv2 ViT-L/14"),
    "models.template": Published('a photo of a "{}"', "3.1", 'a photo of a "{name}", no ensemble'),
    "pseudo_masks.presence_votes": Published(1, "3.1", "more than 1 crop votes for a class"),
    "pseudo_masks.prompt_points": Published(5, "3.1", "the 5 most similar patches"),
    "pseudo_masks.points_together": Published(True, "3.1", "the points are one prompt"),
    "train.loss": Published("prototype_supcon", "3.2", "prototypes and SupCon, equations 1 to 4"),
    "train.epochs": Published(10, EXPERIMENTS, "10 epochs"),
    "train.batch_images": Published(5, EXPERIMENTS, "5 images"),
    "train.patches_per_image": Published(None, "3.2", "all labelled patches of the batch"),
    "train.hold_rate_from": Published(None, EXPERIMENTS, "cosine annealing, to its end"),
    "train.init_from": Published(None, "3.2", "fresh weights"),
    "train.labels": Published("pseudo", "3.2", "pseudo masks, no labels"),
    "evaluate.protocol": Published("tcl", EXPERIMENTS, "TCL's unified protocol"),
    "evaluate.templates": Published("model", EXPERIMENTS, "the template of training"),
    "evaluate.background": Published("stuff_names", EXPERIMENTS, "the stuff names of COCO-Stuff"),
}
"""Dotted key to what the paper prints."""

_NO_SETTING_OF_THE_METHOD = frozenset({
    "models.profile", "pseudo_masks.clip_batch_crops", "train.chunk_patches",
    "train.save_every_seconds", "train.feature_cache",
    "train.feature_cache_gb", "train.processes", "train.validation_images",
    "train.seed",
})  # fmt: skip
"""Keys of the sections below that change no result, or only as a seed does."""
_SECTIONS = ("models", "pseudo_masks", "subsample", "train")
"""Whose other keys are settings of the method that the paper does not publish."""


@dataclass(frozen=True)
class Departure:
    """A setting that is not the paper's, or that the paper does not publish.

    Attributes:
        key: dotted, of params.yaml.
        value: this run's, `auto` resolved where the profile decides it.
        published: what the paper says; None where it says nothing.
    """

    key: str
    value: Any
    published: Published | None

    def words(self) -> str:
        """`train.epochs 30 (paper: 10 epochs)`, or the key and the value alone."""
        said = f" (paper: {self.published.words})" if self.published else ""
        return f"{self.key} {shown(self.value)}{said}"


def resolve(tree: Mapping[str, Any]) -> dict[str, Any]:
    """Put the profile's value wherever a key of `AUTO` is `auto`.

    Args:
        tree: params.yaml as read; what is no section is left to the checks that follow.
    """
    models = tree.get("models")
    paper = isinstance(models, Mapping) and models.get("profile") == PROFILE
    found = dict(tree)
    for dotted, (published, ours) in AUTO.items():
        section, key = dotted.split(".")
        branch = found.get(section)
        if isinstance(branch, Mapping) and branch.get(key) == "auto":
            found[section] = {**branch, key: published if paper else ours}
    return found


def departures(tree: Mapping[str, Any], models: Mapping[str, str]) -> list[Departure]:
    """Every setting that departs from the paper, then every one that the paper does not publish.

    Args:
        tree: all of params.yaml, `auto` resolved; `Params.model_dump()`.
        models: role (clip, sam, vision) to the name in use, weights included.
    """
    flat = {
        f"{section}.{key}": value
        for section in (*_SECTIONS, "evaluate")
        for key, value in tree[section].items()
    } | {f"models.{role}": name for role, name in models.items()}
    departing = [
        Departure(key, flat[key], published)
        for key, published in PUBLISHED.items()
        if key in flat
        and flat[key] != published.value
        and not (key == "evaluate.templates" and flat["evaluate.protocol"] == "whole")
    ]  # `whole` takes the template of training in any case
    silent = [
        Departure(key, value, None)
        for key, value in flat.items()
        if key.split(".")[0] in _SECTIONS
        and key not in PUBLISHED
        and key not in _NO_SETTING_OF_THE_METHOD
    ]
    return departing + silent


def shown(value: Any) -> str:
    """A value as params.yaml writes it."""
    if value is None:
        return "null"
    return str(value).lower() if isinstance(value, bool) else str(value)
