"""Stage 1 of a shard of images: resumable image by image, bad images set aside with a reason."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from fmbseg.image_size import size_problem
from fmbseg.progress import tracked
from fmbseg.pseudo.stage1 import ImagePseudoMasks
from fmbseg.pseudo.teacher import Teacher, array_sha
from fmbseg.store import (
    StoreError,
    UnreadableImageError,
    read_coco,
    read_json,
    sam_mask_from_json,
    sam_mask_to_json,
    sha_of,
    write_coco,
    write_json,
)
from fmbseg.types import Image, PseudoMask, Stage


def compute_shard(
    names: Sequence[str],
    read: Callable[[str], Image],
    teacher: Teacher,
    out_folder: Path,
    scratch: Path,
    salvaged: Path | None = None,
    progress: bool = True,
    *,
    key: str = "",
    label: str = "pseudo_masks",
) -> dict[str, int]:
    """Compute and write the pseudo masks of some images.

    Every finished image is written to `scratch` at once, under a hash of its name, its pixels,
    the class names, the teacher's settings and `key`; what is there already is not computed again.
    One image's arrays are in memory at a time, besides all run lengths.

    Written to `out_folder`, the same bytes for the same images in any order, cut or not:
    `stage11.json` and `stage12.json` (COCO), `presence.json` ({image: {"present": class names,
    "votes": {class name: votes > 0}, "pixels": SHA-256 of the decoded image}}) and
    `quarantine.json` ([{"image", "reason"}]).

    Args:
        names: of the images, each once.
        read: gives an image by name, or raises `UnreadableImageError`.
        teacher: answers an image with pseudo masks.
        out_folder: for the four files.
        scratch: for finished images; outlives a killed run, safe to share between processes.
        salvaged: what `save_records` wrote of other shards with the same models and options.
        progress: say where it is, see `fmbseg.progress`.
        label: what it calls itself there.
        key: whatever else the masks depend on (the models); the unit's digest serves.

    Returns:
        How many images were `computed` and how many `reused`.

    Raises:
        ValueError: a name is given twice.
    """
    if len(set(names)) != len(names):
        raise ValueError("an image name is given twice; wanted each once")
    class_names = teacher.class_names
    settings = sha_of([teacher.settings, list(class_names), key])
    quarantine: list[dict[str, str]] = []
    records: dict[str, dict[str, Any]] = {}
    computed = 0
    for name in tracked(sorted(names), label, shown=progress):
        try:
            image = read(name)
        except UnreadableImageError as error:
            quarantine.append({"image": name, "reason": error.reason})
            continue
        height, width = image.shape[:2]
        problem = size_problem((height, width))
        if problem is not None:
            quarantine.append({"image": name, "reason": problem})
            continue
        pixels = array_sha(image)
        path = scratch / f"{sha_of([name, pixels, settings])}.json"
        record = _finished(path)
        if record is None and salvaged is not None:
            record = _finished(salvaged / _salvaged_name(name, pixels))
        if record is None:
            record = _to_record(teacher.pseudo_masks(image, name), (height, width), pixels)
            write_json(path, record, compact=True, flush=False)  # a damaged one is noticed
            computed += 1
        records[name] = record
    sizes = {name: (record["size"][0], record["size"][1]) for name, record in records.items()}
    stages: tuple[tuple[Stage, str], ...] = (("1.1", "stage11.json"), ("1.2", "stage12.json"))
    for stage, file in stages:
        masks = list(_masks(records, stage, class_names))
        write_coco(out_folder / file, masks, sizes, class_names)
    write_json(out_folder / "presence.json", _presence(records, class_names))
    write_json(out_folder / "quarantine.json", quarantine)
    return {"computed": computed, "reused": len(records) - computed}


def save_records(shard_folder: Path, salvaged: Path) -> int:
    """Write a finished shard's images as `compute_shard` finds them again; returns how many.

    Args:
        shard_folder: what `compute_shard` wrote.
        salvaged: where to; the caller keeps apart what other models or options made.

    Raises:
        StoreError: the folder is not a finished shard.
    """
    presence = read_json(shard_folder / "presence.json")
    stages = {
        stage: read_coco(shard_folder / file)
        for stage, file in (("1.1", "stage11.json"), ("1.2", "stage12.json"))
    }
    sizes, class_names = stages["1.1"].image_sizes_hw, stages["1.1"].class_names
    number = {name: index for index, name in enumerate(class_names)}
    masks: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for stage, found in stages.items():
        for mask in found.masks:
            masks.setdefault((mask.image, stage), []).append(_mask_record(mask))
    for name, seen in presence.items():
        record = {
            "size": list(sizes[name]),
            "pixels": seen["pixels"],
            "present": [number[one] for one in seen["present"]],
            "votes": {str(number[one]): n for one, n in seen["votes"].items()},
            "1.1": masks.get((name, "1.1"), []),
            "1.2": masks.get((name, "1.2"), []),
        }
        file = salvaged / _salvaged_name(name, seen["pixels"])
        write_json(file, record, compact=True, flush=False)
    return len(presence)


def _salvaged_name(name: str, pixels: str) -> str:
    return f"{sha_of([name, pixels])}.json"


def _finished(path: Path) -> dict[str, Any] | None:
    """A finished image's record; None when there is none or the file is damaged."""
    try:
        record: dict[str, Any] = read_json(path)
        complete = {"size", "pixels", "present", "votes", "1.1", "1.2"} <= record.keys()
    except (StoreError, AttributeError):
        return None
    return record if complete else None


def _to_record(found: ImagePseudoMasks, image_hw: tuple[int, int], pixels: str) -> dict[str, Any]:
    return {
        "size": list(image_hw),
        "pixels": pixels,
        "present": found.present,
        "votes": {str(index): n for index, n in enumerate(found.votes) if n},
        "1.1": [_mask_record(mask) for mask in found.masks_11],
        "1.2": [_mask_record(mask) for mask in found.masks_12],
    }


def _mask_record(mask: PseudoMask) -> dict[str, Any]:
    return {
        "class_index": mask.class_index,
        "clip_similarity": mask.clip_similarity,
        **sam_mask_to_json(mask.mask),
    }


def _masks(
    records: dict[str, dict[str, Any]], stage: Stage, class_names: Sequence[str]
) -> Iterator[PseudoMask]:
    for name, record in records.items():
        for mask in record[stage]:
            yield PseudoMask(
                image=name,
                class_index=mask["class_index"],
                class_name=class_names[mask["class_index"]],
                stage=stage,
                clip_similarity=mask["clip_similarity"],
                mask=sam_mask_from_json(mask),
            )


def _presence(
    records: dict[str, dict[str, Any]], class_names: Sequence[str]
) -> dict[str, dict[str, Any]]:
    return {
        name: {
            "present": [class_names[index] for index in record["present"]],
            "votes": {class_names[int(index)]: n for index, n in record["votes"].items()},
            "pixels": record["pixels"],
        }
        for name, record in records.items()
    }
