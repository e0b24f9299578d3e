"""Masks as COCO run lengths, and lists of pseudo masks as COCO files that pycocotools loads."""

import contextlib
import gc
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pycocotools.mask
from jaxtyping import Bool, Int64

from fmbseg.store.files import StoreError, read_json, write_json
from fmbseg.types import PseudoMask, Rle, SamMask


@dataclass(frozen=True)
class CocoMasks:
    """What a COCO file of ours holds.

    Attributes:
        masks: in the file's order.
        image_sizes_hw: name to (height, width) in px of every image, also of those without masks.
        class_names: the vocabulary, all of it.
    """

    masks: list[PseudoMask]
    image_sizes_hw: dict[str, tuple[int, int]]
    class_names: tuple[str, ...]

    def by_image(self) -> dict[str, list[PseudoMask]]:
        """Name of every image with a mask to its masks."""
        found: dict[str, list[PseudoMask]] = {}
        for mask in self.masks:
            found.setdefault(mask.image, []).append(mask)
        return found


def encode_rles(masks: Bool[np.ndarray, "mask height width"]) -> list[Rle]:
    """Run-length encode several masks of one size in one call.

    Returns:
        One COCO RLE a mask; `counts` is an ASCII string, `size` is [height, width].
    """
    if len(masks) == 0:
        return []
    columns_first = np.ascontiguousarray(masks.transpose(0, 2, 1)).view(np.uint8)
    encoded = pycocotools.mask.encode(columns_first.T)  # [height width mask], Fortran order
    return [
        {"size": [int(side) for side in rle["size"]], "counts": rle["counts"].decode("ascii")}
        for rle in encoded
    ]


def decode_rle(rle: Rle) -> Bool[np.ndarray, "height width"]:
    """Pixels of a COCO RLE."""
    pixels: Bool[np.ndarray, "height width"] = pycocotools.mask.decode(rle).astype(bool)
    return pixels


def foreground_runs(rles: Sequence[Rle]) -> list[Int64[np.ndarray, "run 2"]]:
    """First pixel and the one after the last of each run of each mask, counted column by column.

    The pixels of masks much smaller than their image are found five times as fast as by
    `decode_rle`.

    Raises:
        ValueError: the runs of a mask do not fill its image.

    Source: `rleFrString` of pycocotools' maskApi.c (digits of 5 bits, the lowest first; from the
    fourth on a count is the difference to the one before the last).
    """
    if not rles:
        return []
    texts = [str(rle["counts"]) for rle in rles]
    codes = np.frombuffer("".join(texts).encode("ascii"), np.uint8).astype(np.int64) - 48
    last = np.flatnonzero((codes & 0x20) == 0)
    first = np.append(0, last[:-1] + 1)
    digit = np.arange(len(codes)) - np.repeat(first, last - first + 1)
    numbers = np.add.reduceat((codes & 0x1F) << 5 * digit, first)
    numbers -= (codes[last] & 0x10) << 5 * digit[last] + 1  # the highest bit is the sign
    ends = np.searchsorted(last, np.cumsum([len(text) for text in texts]))
    found = []
    for counts, rle in zip(np.split(numbers, ends), rles, strict=False):  # the last part is empty
        counts[1::2] = np.cumsum(counts[1::2])
        counts[2::2] = np.cumsum(counts[2::2])
        edges = np.cumsum(counts)
        height, width = map(int, rle["size"])
        if edges[-1] != height * width:
            raise ValueError(f"run lengths of {edges[-1]} px; wanted {height} x {width}")
        found.append(edges[: len(edges) // 2 * 2].reshape(-1, 2))
    return found


def _to_json(mask: SamMask) -> dict[str, Any]:
    """A mask as the keys that it has in a COCO annotation."""
    return {
        "segmentation": mask.rle,
        "area": mask.area_px,
        "bbox": list(mask.box_xywh_px),
        "score": mask.predicted_iou,
        "stability": mask.stability,
        "points_xy": [list(point) for point in mask.points_xy_px],
    }


def _from_json(record: Mapping[str, Any]) -> SamMask:
    """The inverse of `_to_json`.

    Raises:
        KeyError: a key is missing.
    """
    left, top, width, height = record["bbox"]
    return SamMask(
        rle=record["segmentation"],
        area_px=record["area"],
        box_xywh_px=(left, top, width, height),
        predicted_iou=record["score"],
        stability=record["stability"],
        points_xy_px=tuple((x, y) for x, y in record["points_xy"]),
    )


@contextlib.contextmanager
def _uncollected() -> Iterator[None]:
    """Put garbage collection off, which so many objects without cycles would set off in vain."""
    collects = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collects:
            gc.enable()


@_uncollected()
def write_coco(
    path: str | Path,
    masks: Sequence[PseudoMask],
    image_sizes_hw: Mapping[str, tuple[int, int]],
    class_names: Sequence[str],
) -> None:
    """Write masks as a COCO file; the same masks give the same bytes.

    Image ids follow the sorted names from 1, category ids are class index + 1, annotation ids
    follow the order given. Beyond COCO's keys an annotation has `score` (SAM's predicted IoU),
    `stability`, `clip_similarity`, `points_xy` (prompts, px) and `stage`.

    Args:
        path: target.
        masks: in the order they shall have.
        image_sizes_hw: (height, width) in px of every image, also of those without masks.
        class_names: the vocabulary.

    Raises:
        StoreError: a mask of an unknown image or class, or of another size than its image.
    """
    image_ids = {name: index for index, name in enumerate(sorted(image_sizes_hw), start=1)}
    annotations = []
    for index, mask in enumerate(masks, start=1):
        if mask.image not in image_ids:
            raise StoreError(f"{path}: a mask of {mask.image!r}, which is not among the images")
        if not 0 <= mask.class_index < len(class_names):
            raise StoreError(
                f"{path}: class index {mask.class_index} of {mask.image!r}; "
                f"wanted 0 to {len(class_names) - 1}"
            )
        if class_names[mask.class_index] != mask.class_name:
            raise StoreError(
                f"{path}: class {mask.class_index} of {mask.image!r} is called "
                f"{mask.class_name!r}; the vocabulary says {class_names[mask.class_index]!r}"
            )
        if mask.mask.rle["size"] != list(image_sizes_hw[mask.image]):
            raise StoreError(
                f"{path}: a mask of {mask.image!r} has size {mask.mask.rle['size']}; "
                f"the image has {list(image_sizes_hw[mask.image])}"
            )
        annotations.append(
            {
                "id": index,
                "image_id": image_ids[mask.image],
                "category_id": mask.class_index + 1,
                "iscrowd": 0,
                **_to_json(mask.mask),
                "clip_similarity": mask.clip_similarity,
                "stage": mask.stage,
            }
        )
    images = [
        {"id": image_ids[name], "file_name": name, "height": height, "width": width}
        for name, (height, width) in sorted(image_sizes_hw.items())
    ]
    categories = [
        {"id": index, "name": name, "supercategory": ""}
        for index, name in enumerate(class_names, start=1)
    ]
    content = {
        "info": {"description": "FMbSeg pseudo masks"},
        "licenses": [],
        "images": images,
        "categories": categories,
        "annotations": annotations,
    }
    write_json(path, content, compact=True)


@_uncollected()
def read_coco(path: str | Path) -> CocoMasks:
    """Read a file that `write_coco` wrote.

    Raises:
        StoreError: no such file, or not such a file.
    """
    content = read_json(path)
    try:
        images = {image["id"]: image for image in content["images"]}
        sizes = {image["file_name"]: (image["height"], image["width"]) for image in images.values()}
        class_names = tuple(category["name"] for category in content["categories"])
        masks = [
            PseudoMask(
                image=images[record["image_id"]]["file_name"],
                class_index=record["category_id"] - 1,
                class_name=class_names[record["category_id"] - 1],
                stage=record["stage"],
                clip_similarity=record["clip_similarity"],
                mask=_from_json(record),
            )
            for record in content["annotations"]
        ]
    except (KeyError, TypeError, IndexError, ValueError) as error:
        raise StoreError(f"{path}: not a file of pseudo masks ({error!r})") from None
    return CocoMasks(masks, sizes, class_names)
