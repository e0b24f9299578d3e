"""Step `pseudo_masks`: stage 1 of the paper, one shard of images at a time."""

import shutil
from pathlib import Path

from fmbseg.pseudo.automatic import AutomaticOptions
from fmbseg.pseudo.shard import compute_shard
from fmbseg.pseudo.stage1 import Stage1Options
from fmbseg.steps.workspace import Workspace
from fmbseg.store import UnitKey, file_sha, read_image, read_json, run_unit
from fmbseg.vocabulary import encode, read_classes


class TooManyQuarantinedError(ValueError):
    """More images are unreadable than `data.max_quarantined_fraction` allows."""


def shards(workspace: Workspace) -> dict[str, list[str]]:
    """Shard name to image names: chunks of the sorted names of every sub-folder.

    A new image in one sub-folder leaves the shards of the others, and the full ones before it
    in its own, as they are.
    """
    size = workspace.params.data.shard_images
    folders: dict[str, list[str]] = {}
    for name in sorted(workspace.listing()["images"]):
        folders.setdefault(str(Path(name).parent), []).append(name)
    found: dict[str, list[str]] = {}
    for folder, names in sorted(folders.items()):
        stem = "images" if folder == "." else folder.replace("/", "__")
        for start in range(0, len(names), size):
            found[f"{stem}-{start // size:04d}"] = names[start : start + size]
    return found


def options(workspace: Workspace) -> Stage1Options:
    """The section of params.yaml as stage 1's options."""
    p = workspace.params.pseudo_masks
    points = p.points_per_side
    if points == "auto":
        points = workspace.models().sam.grid_side // 2
    automatic = AutomaticOptions(
        points_per_side=points,
        min_predicted_iou=p.min_predicted_iou,
        min_stability=p.min_stability,
        stability_offset=p.stability_offset,
        nms_iou=p.nms_iou,
        min_area_fraction=p.min_area_fraction,
        max_area_fraction=p.max_area_fraction,
    )
    return Stage1Options(
        presence_votes=p.presence_votes, prompt_points=p.prompt_points, automatic=automatic
    )


def key(workspace: Workspace, shard: str) -> UnitKey:
    """Content key of one shard."""
    images = workspace.listing()["images"]
    inputs = {name: images[name] for name in shards(workspace)[shard]}
    inputs["classes"] = file_sha(workspace.classes_path())
    section = workspace.params.pseudo_masks.model_dump()
    return workspace.key(
        "pseudo_masks", inputs, {**section, **workspace.models_params("clip", "sam")}
    )


def run(workspace: Workspace, shard: str) -> bool:
    """Make `data/pseudo_masks/<shard>/`; True when there was something to do.

    A cut run keeps every finished image. Images that cannot be read are quarantined with a
    reason in the shard's `quarantine.json`.
    """
    shard_key = key(workspace, shard)
    scratch = workspace.scratch(f"pseudo_masks-{shard}", shard_key)

    def compute(out: Path) -> None:
        models, vocabulary = workspace.models(), read_classes(workspace.classes_path())
        root = workspace.images_root()
        compute_shard(
            shards(workspace)[shard],
            lambda name: read_image(root / name),
            models.clip,
            models.sam,
            encode(models.clip, vocabulary),
            vocabulary.names,
            options(workspace),
            out,
            scratch,
            key=shard_key.digest,
            label=f"pseudo_masks {shard}",
        )

    return run_unit(workspace.pseudo_masks / shard, shard_key, compute, keep=scratch)


def finish(workspace: Workspace) -> None:
    """Drop shards that no image belongs to any more, and hold the share of bad images to its limit.

    Raises:
        TooManyQuarantinedError: with the counts, the limit and the first reason.
    """
    wanted = shards(workspace)
    for folder in sorted(workspace.pseudo_masks.iterdir()):
        if folder.is_dir() and not folder.name.startswith(".") and folder.name not in wanted:
            shutil.rmtree(folder)
    bad = quarantined(workspace)
    total = sum(len(names) for names in wanted.values())
    limit = workspace.params.data.max_quarantined_fraction
    if len(bad) > limit * total or len(bad) == total:
        raise TooManyQuarantinedError(
            f"{len(bad)} of {total} images cannot be used (limit data.max_quarantined_fraction: "
            f"{limit}); first: {bad[0]['image']}: {bad[0]['reason']}"
        )


def quarantined(workspace: Workspace) -> list[dict[str, str]]:
    """`[{"image", "reason"}]` over all shards, in order of the shards' names."""
    found: list[dict[str, str]] = []
    for shard in shards(workspace):
        found += read_json(workspace.pseudo_masks / shard / "quarantine.json")
    return found
