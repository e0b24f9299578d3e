"""Small trees of the public data sets: official layout, official raw numbers, a few images.

Each function fills a root and gives, by image name, the raw numbers it wrote. Every number that
the encoding knows occurs in every image.
"""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pycocotools.mask
import scipy.io

IMAGES = 4
COCO_GAPS = (11, 25, 28, 29, 44, 65, 67, 68, 70, 82, 90)
COCO_RAW = [*(raw for raw in range(182) if raw not in COCO_GAPS), 255]
CITYSCAPES_TRAIN_IDS = {
    7: 0, 8: 1, 11: 2, 12: 3, 13: 4, 17: 5, 19: 6, 20: 7, 21: 8, 22: 9, 23: 10, 24: 11, 25: 12,
    26: 13, 27: 14, 28: 15, 31: 16, 32: 17, 33: 18,
}  # fmt: skip

Raw = dict[str, np.ndarray]


def voc2012(root: Path) -> Raw:
    """VOCdevkit/VOC2012 with palette labels; the list of train holds the first image alone."""
    top = root / "VOCdevkit/VOC2012"
    stems = [f"2007_{index:06d}" for index in range(IMAGES)]
    written = {}
    for index, stem in enumerate(stems):
        raw = numbers([*range(21), 255], index)
        save_photo(top / f"JPEGImages/{stem}.jpg", raw.shape, index)
        save_palette(top / f"SegmentationClass/{stem}.png", raw)
        written[f"{stem}.jpg"] = raw
    save_photo(top / "JPEGImages/2008_000000.jpg", (5, 7), 9)  # of no segmentation list
    lists = top / "ImageSets/Segmentation"
    save_list(lists / "val.txt", stems)
    save_list(lists / "train.txt", stems[:1])
    save_list(lists / "trainval.txt", stems)
    return written


def context(root: Path) -> Raw:
    """VOCdevkit/VOC2010 as mmsegmentation's converter leaves it."""
    top = root / "VOCdevkit/VOC2010"
    stems = [f"2008_{index:06d}" for index in range(IMAGES)]
    written = {}
    for index, stem in enumerate(stems):
        raw = numbers(range(60), index)
        save_photo(top / f"JPEGImages/{stem}.jpg", raw.shape, index)
        save_grey(top / f"SegmentationClassContext/{stem}.png", raw)
        written[f"{stem}.jpg"] = raw
    save_list(top / "ImageSets/SegmentationContext/val.txt", stems)
    save_list(top / "ImageSets/SegmentationContext/train.txt", stems[:1])
    return written


def context_published(root: Path, ids: Sequence[int], *, json_file: bool, mats: bool) -> Raw:
    """VOCdevkit/VOC2010 as the tar unpacks, with Context's annotations as published.

    The raw numbers are those of the 459; 0 is unannotated. In the .mat files numbers other than
    `ids` occur too, in the first row. Two images are train's and two val's.
    """
    top = root / "VOCdevkit/VOC2010"
    stems = [f"2008_{index:06d}" for index in range(IMAGES)]
    written, plain = {}, {}
    for index, stem in enumerate(stems):
        raw = numbers([0, *ids], index)
        save_photo(top / f"JPEGImages/{stem}.jpg", raw.shape, index)
        written[f"{stem}.jpg"] = plain[f"{stem}.jpg"] = raw
        if mats:
            full = raw.copy()
            full[0, :4] = [1, 431, 459, 3]
            written[f"{stem}.jpg"] = full
            (top / "trainval").mkdir(exist_ok=True)
            scipy.io.savemat(top / f"trainval/{stem}.mat", {"LabelMap": full}, do_compression=True)
    save_list(top / "ImageSets/Main/train.txt", stems[:2])
    save_list(top / "ImageSets/Main/val.txt", stems[2:])
    if json_file:
        (top / "trainval_merged.json").write_text(json.dumps(_merged(plain)))
    return written


def _merged(raw: Raw) -> dict[str, Any]:
    images: list[dict[str, Any]] = []
    segments: list[dict[str, Any]] = []
    for position, (name, labels) in enumerate(raw.items()):
        identity = int(name[:4] + name[5:11])
        images.append(
            {"image_id": identity, "file_name": name, "height": labels.shape[0],
             "width": labels.shape[1], "phase": "train" if position < 2 else "val",
             "date_captured": "31-Dec-2010"}
        )  # fmt: skip
        for number in np.unique(labels[labels > 0]).tolist():
            segments.append(
                {"id": len(segments) + 1, "image_id": identity, "category_id": number,
                 "segmentation": rle(labels == number), "iscrowd": 0, "area": 1,
                 "bbox": [0, 0, 1, 1], "parts": [{"part_id": 255, "segmentation": {}}]}
            )  # fmt: skip
    images.append(
        {"image_id": 1, "file_name": "2008_999999.jpg", "height": 4, "width": 6, "phase": "test"}
    )
    return {
        "info": {"description": "PASCAL in Detail [braces } and brackets ] in a text"},
        "images": images,
        "categories": [{"category_id": 2, "name": "aeroplane", "onlysemantic": 0, "parts": [1]}],
        "parts": [],
        "annos_segmentation": segments,
        "annos_boundary": [{"image_id": images[0]["image_id"], "boundary_mask": {}}],
        "annos_joints": [],
    }


def coco_stuff164k(root: Path, ending: str = ".png") -> Raw:
    """coco_stuff164k with stuffthingmaps; val has all images, train the first."""
    top = root / "coco_stuff164k"
    written = {}
    for index in range(IMAGES):
        stem, raw = f"{index * 139 + 139:012d}", numbers(COCO_RAW, index)
        for split in ("val2017", "train2017") if index == 0 else ("val2017",):
            save_photo(top / f"images/{split}/{stem}.jpg", raw.shape, index)
            save_grey(top / f"annotations/{split}/{stem}{ending}", raw)
        written[f"{stem}.jpg"] = raw
    return written


def cityscapes(root: Path) -> Raw:
    """leftImg8bit and gtFine; val has two cities, train the first frame."""
    written = {}
    for index in range(IMAGES):
        city = ("frankfurt", "munster")[index % 2]
        frame, raw = f"{city}/{city}_{index:06d}_000019", numbers(range(34), index)
        for split in ("val", "train") if index == 0 else ("val",):
            save_photo(root / f"leftImg8bit/{split}/{frame}_leftImg8bit.png", raw.shape, index)
            labels = root / f"gtFine/{split}"
            save_grey(labels / f"{frame}_gtFine_labelIds.png", raw)
            save_grey(labels / f"{frame}_gtFine_instanceIds.png", raw.astype(np.uint16) * 1000)
        written[f"{frame}_leftImg8bit.png"] = raw
    return dict(sorted(written.items()))


def cityscapes_train_ids(raw: np.ndarray) -> np.ndarray:
    """Train ids of label ids, by the official table, pixel by pixel."""
    flat = [CITYSCAPES_TRAIN_IDS.get(number, 255) for number in raw.ravel().tolist()]
    return np.array(flat, np.uint8).reshape(raw.shape)


def ade(root: Path) -> Raw:
    """ADEChallengeData2016; validation has all images, training the first."""
    top = root / "ADEChallengeData2016"
    written = {}
    for index in range(IMAGES):
        stem, raw = f"ADE_val_{index + 1:08d}", numbers(range(151), index)
        for split in ("validation", "training") if index == 0 else ("validation",):
            save_photo(top / f"images/{split}/{stem}.jpg", raw.shape, index)
            save_grey(top / f"annotations/{split}/{stem}.png", raw)
        written[f"{stem}.jpg"] = raw
    return written


def numbers(values: Sequence[int] | range, index: int) -> np.ndarray:
    """A non-square picture of all these values, of another size and order for each index."""
    height, width = 13 + index, 17 + 3 * index
    flat = np.resize(np.roll(np.array(values, np.int64), 5 * index), height * width)
    return flat.reshape(height, width).astype(np.uint8 if max(values) < 256 else np.uint16)


def rle(mask: np.ndarray) -> dict[str, Any]:
    """Compressed COCO run lengths, as JSON has them."""
    encoded = pycocotools.mask.encode(np.asfortranarray(mask.astype(np.uint8)))
    return {"size": list(encoded["size"]), "counts": encoded["counts"].decode("ascii")}


def save_photo(path: Path, shape: tuple[int, ...], seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (*shape[:2], 3), np.uint8)
    PIL.Image.fromarray(pixels).save(path)


def save_grey(path: Path, labels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    PIL.Image.fromarray(labels).save(path)


def save_palette(path: Path, labels: np.ndarray) -> None:
    """With the beginning of VOC's palette; what counts is that the mode is P."""
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = PIL.Image.fromarray(labels).convert("L")
    picture = PIL.Image.frombytes("P", picture.size, picture.tobytes())
    picture.putpalette([0, 0, 0, 128, 0, 0, 0, 128, 0, 128, 128, 0, 0, 0, 128] + [7, 9, 11] * 251)
    picture.save(path)


def save_list(path: Path, stems: Sequence[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{stem}\n" for stem in stems))


TREES: dict[str, Callable[[Path], Raw]] = {
    "voc21": voc2012, "voc20": voc2012, "context59": context, "context60": context,
    "coco_stuff171": coco_stuff164k, "coco_object81": coco_stuff164k,
    "coco_things80": coco_stuff164k, "cityscapes19": cityscapes, "cityscapes30": cityscapes,
    "ade150": ade,
}  # fmt: skip
"""Writes a small tree of every public data set; the list of train holds the first image alone."""
