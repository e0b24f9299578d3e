"""Stage 1 of a shard of images: resumable image by image, bad images set aside with a reason."""

import contextlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import TypeAdapter, ValidationError

from fmbseg.ahead import ahead
from fmbseg.image_size import size_problem
from fmbseg.progress import progress
from fmbseg.pseudo.stage1 import ImagePseudoMasks
from fmbseg.pseudo.teacher import Teacher, array_sha
from fmbseg.store import (
    UnreadableImageError,
    read_coco,
    read_json,
    sha_of,
    write_bytes,
    write_coco,
    write_json,
)
from fmbseg.types import Image, PseudoMask

LOOKS = "looks.npy"
"""Of a shard: what CLIP sees of each whole image."""


@dataclass(frozen=True)
class _Record:
    """A finished image; its scratch file holds this as JSON.

    Attributes:
        size_hw: of the image, px.
        pixels: SHA-256 of the decoded image.
        found: its masks.
    """

    size_hw: tuple[int, int]
    pixels: str
    found: ImagePseudoMasks


_JSON = TypeAdapter(_Record)


@dataclass(frozen=True)
class _Opened:
    """An image that was read ahead; its own pixels are held no longer.

    Attributes:
        name: its own.
        size_hw: of the image, px.
        pixels: SHA-256 of the decoded image.
        path: of its scratch file.
        record: what a run before found in it.
        prepared: what the teacher takes for it, where there is no record.
    """

    name: str
    size_hw: tuple[int, int]
    pixels: str
    path: Path
    record: _Record | None
    prepared: Any


def compute_shard(
    names: Sequence[str],
    read: Callable[[str], Image],
    teacher: Teacher,
    out_folder: Path,
    scratch: Path,
    salvaged: Path | None = None,
    *,
    key: str = "",
    label: str = "pseudo_masks",
) -> dict[str, int]:
    """Compute and write the pseudo masks of some images.

    Every finished image is written to `scratch` at once, under a hash of its name, its pixels,
    the class names, the teacher's settings and `key`; what is there already is not computed again.
    Images are read and prepared ahead by background threads; in memory are, besides all run
    lengths, those under way: two, or where the teacher takes several at once twice as many.

    Written to `out_folder`, the same bytes for the same images in any order, cut or not:
    `stage11.json` and `stage12.json` (COCO), `presence.json` ({image: {"present": class names,
    "votes": {class name: votes > 0}, "pixels": SHA-256 of the decoded image}}), `looks.npy`
    (float16, a row an image in the order of presence.json: its `look`) and `quarantine.json`
    ([{"image", "reason"}]).

    Args:
        names: of the images, each once.
        read: gives an image by name, or raises `UnreadableImageError`.
        teacher: answers an image with pseudo masks.
        out_folder: for the five files.
        scratch: for finished images; outlives a killed run, safe to share between processes.
        salvaged: what `save_records` wrote of other shards with the same models and options.
        label: what it calls itself where it says how far it is; see `fmbseg.progress`.
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
    records: dict[str, _Record] = {}
    computed = 0

    def opened(name: str) -> _Opened | str:
        """An image, or why it cannot be used."""
        try:
            image = read(name)
        except UnreadableImageError as error:
            return error.reason
        size_hw = (image.shape[0], image.shape[1])
        if problem := size_problem(size_hw):
            return problem
        pixels = array_sha(image)
        path = scratch / f"{sha_of([name, pixels, settings])}.json"
        record = _finished(path)
        if record is None and salvaged is not None:
            record = _finished(salvaged / _salvaged_name(name, pixels))
        prepared = teacher.prepare(image) if record is None else None
        return _Opened(name, size_hw, pixels, path, record, prepared)

    def usable(images: Iterable[tuple[str, _Opened | str]]) -> Iterator[_Opened]:
        for name, one in images:
            if isinstance(one, str):
                quarantine.append({"image": name, "reason": one})
                done.update()
            else:
                yield one

    images = ahead(sorted(names), opened, teacher.images_at_once)
    with contextlib.closing(images), progress(label, total=len(names)) as done:
        for one, record in _answered(usable(images), teacher):
            if one.record is None:
                _write(one.path, record)
                computed += 1
            records[one.name] = record
            done.update()
    records = dict(sorted(records.items()))
    sizes = {name: record.size_hw for name, record in records.items()}
    masks_11 = [mask for record in records.values() for mask in record.found.masks_11]
    masks_12 = [mask for record in records.values() for mask in record.found.masks_12]
    write_coco(out_folder / "stage11.json", masks_11, sizes, class_names)
    write_coco(out_folder / "stage12.json", masks_12, sizes, class_names)
    write_json(out_folder / "presence.json", _presence(records, class_names))
    write_bytes(out_folder / LOOKS, _looks(records))
    write_json(out_folder / "quarantine.json", quarantine)
    return {"computed": computed, "reused": len(records) - computed}


def _answered(images: Iterable[_Opened], teacher: Teacher) -> Iterator[tuple[_Opened, _Record]]:
    """Each image with its record: found, or computed of several images together."""
    todo: list[_Opened] = []
    for one in images:
        if one.record is not None:
            yield one, one.record
            continue
        todo.append(one)
        if len(todo) >= teacher.images_at_once:
            yield from _computed(todo, teacher)
            todo = []
    if todo:
        yield from _computed(todo, teacher)


def _computed(todo: Sequence[_Opened], teacher: Teacher) -> Iterator[tuple[_Opened, _Record]]:
    answers = teacher.pseudo_masks([one.prepared for one in todo], [one.name for one in todo])
    for one, found in zip(todo, answers, strict=True):
        yield one, _Record(one.size_hw, one.pixels, found)


def save_records(shard_folder: Path, salvaged: Path) -> int:
    """Write a finished shard's images as `compute_shard` finds them again; returns how many.

    Args:
        shard_folder: what `compute_shard` wrote.
        salvaged: where to; the caller keeps apart what other models or options made.

    Raises:
        StoreError: the folder is not a finished shard.
    """
    presence = read_json(shard_folder / "presence.json")
    first, second = (read_coco(shard_folder / file) for file in ("stage11.json", "stage12.json"))
    class_names = first.class_names
    masks: dict[tuple[str, str], list[PseudoMask]] = defaultdict(list)
    for mask in first.masks + second.masks:
        masks[mask.image, mask.stage].append(mask)
    looks = np.load(shard_folder / LOOKS)
    for (name, seen), look in zip(presence.items(), looks, strict=True):
        found = ImagePseudoMasks(
            masks[name, "1.1"], masks[name, "1.2"],
            present=[class_names.index(one) for one in seen["present"]],
            votes=[seen["votes"].get(one, 0) for one in class_names],
            look=tuple(look.tolist()),
        )  # fmt: skip
        record = _Record(first.image_sizes_hw[name], seen["pixels"], found)
        _write(salvaged / _salvaged_name(name, record.pixels), record)
    return len(presence)


def _salvaged_name(name: str, pixels: str) -> str:
    return f"{sha_of([name, pixels])}.json"


def _finished(path: Path) -> _Record | None:
    """A finished image's record; None when there is none or the file is damaged."""
    try:
        return _JSON.validate_json(path.read_bytes())
    except (OSError, ValidationError):
        return None


def _write(path: Path, record: _Record) -> None:
    write_bytes(path, _JSON.dump_json(record), flush=False)  # a damaged one is noticed


def _presence(
    records: dict[str, _Record], class_names: Sequence[str]
) -> dict[str, dict[str, object]]:
    return {
        name: {
            "present": [class_names[index] for index in record.found.present],
            "votes": {class_names[index]: n for index, n in enumerate(record.found.votes) if n},
            "pixels": record.pixels,
        }
        for name, record in records.items()
    }


def _looks(records: dict[str, _Record]) -> bytes:
    content = BytesIO()
    np.save(content, np.array([record.found.look for record in records.values()], np.float16))
    return content.getvalue()
