"""PASCAL Context's published annotations made into label files and lists; see `context`."""

import io
from collections import defaultdict
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pycocotools.mask
import scipy.io
from jaxtyping import UInt8

from fmbseg.datasets.base import DatasetError
from fmbseg.datasets.context import IDS_OF_459
from fmbseg.datasets.json_stream import elements_of
from fmbseg.progress import tracked
from fmbseg.store import encode_image, flush_tree, write_bytes

SPLITS = ("train", "val")

_LABEL_OF_ID = {number: label for label, number in enumerate(IDS_OF_459.values(), start=1)}
_IDS_IN_MAT = 460
_PNG_END = b"\0\0\0\0IEND\xaeB`\x82"

_Labels = UInt8[np.ndarray, "height width"]


def convert_context(voc2010: str | Path) -> None:
    """Make `SegmentationClassContext/` and `ImageSets/SegmentationContext/` of a VOC2010 folder.

    Taken are `trainval_merged.json` or, where that is absent, `trainval/*.mat`, both in the
    folder itself. A cut conversion goes on where it was: label files are renamed into place when
    whole, and the lists come last.

    Args:
        voc2010: `VOCdevkit/VOC2010`.

    Raises:
        DatasetError: neither source is there, or what the source's own function raises.
    """
    folder = Path(voc2010)
    merged, mats = folder / "trainval_merged.json", folder / "trainval"
    if merged.is_file():
        convert_merged_json(merged, folder)
    elif mats.is_dir():
        convert_mats(mats, folder)
    else:
        raise DatasetError(
            f"{folder}: found neither trainval_merged.json nor trainval/*.mat; fetch one of them "
            "with: fmbseg download context59"
        )


def convert_merged_json(merged: str | Path, voc2010: str | Path) -> None:
    """Convert the JSON of the PASCAL in Detail challenge (`trainval_merged.json`).

    Structure, as that challenge's Python API reads it: one object whose `images` have `image_id`,
    `file_name`, `height`, `width` and `phase` (train, val, ...), and whose `annos_segmentation`
    have `image_id`, `category_id` (of the 459; only the 59 occur) and `segmentation` (COCO run
    lengths). Later annotations lie over earlier ones; what none covers is 0, background. The
    parts, key points, borders and occlusions that fill most of the file are passed over as they
    are read, so memory holds the run lengths alone.

    Args:
        merged: the JSON file.
        voc2010: gets the label files and lists.

    Raises:
        DatasetError: not whole JSON, or not of that structure.
    """
    images, annotations = _of_merged_json(Path(merged))
    lists: dict[str, list[str]] = {split: [] for split in SPLITS}
    jobs: list[tuple[str, Callable[[], _Labels]]] = []
    for identity, image in images.items():
        stem = Path(image["file_name"]).stem
        if image["phase"] in lists:
            lists[image["phase"]].append(stem)
            jobs.append((stem, partial(_draw, image, annotations.get(identity, []))))
    _convert(Path(voc2010), lists, jobs)


def convert_mats(mats: str | Path, voc2010: str | Path) -> None:
    """Convert the 459-class annotations, one `<id>.mat` an image.

    Each holds `LabelMap`, [height width], 0 to 459; the 59 classes keep their place, all others
    become 0, background. The lists are VOC 2010's own (`ImageSets/Main/{train,val}.txt`), less
    the images that have no .mat.

    Args:
        mats: folder of the .mat files.
        voc2010: has VOC's lists, and gets the label files and ours.

    Raises:
        DatasetError: VOC's lists are missing, no .mat fits them, or some cannot be read (the
            others are converted first).
    """
    folder, annotated = Path(voc2010), {path.stem: path for path in Path(mats).glob("*.mat")}
    lists: dict[str, list[str]] = {}
    for split in SPLITS:
        file = folder / "ImageSets" / "Main" / f"{split}.txt"
        if not file.is_file():
            raise DatasetError(f"{file}: no such file; unpack VOC 2010's tar there")
        stems = [line.split()[0] for line in file.read_text().splitlines() if line.strip()]
        lists[split] = [stem for stem in stems if stem in annotated]
    wanted = [stem for split in SPLITS for stem in lists[split]]
    if not wanted:
        raise DatasetError(f"{mats}: found no <id>.mat of an image in VOC 2010's lists")
    jobs = [(stem, partial(_read, annotated[stem])) for stem in wanted]
    _convert(folder, lists, jobs)


def _of_merged_json(
    merged: Path,
) -> tuple[dict[int, dict[str, Any]], dict[int, list[tuple[int, Any]]]]:
    images: dict[int, dict[str, Any]] = {}
    annotations: dict[int, list[tuple[int, Any]]] = defaultdict(list)
    try:
        for one in elements_of(merged, "images"):
            fields = ("file_name", "height", "width", "phase")
            images[one["image_id"]] = {field: one[field] for field in fields}
        for one in elements_of(merged, "annos_segmentation"):
            label = _LABEL_OF_ID.get(one["category_id"])
            if label is None:
                raise DatasetError(
                    f"{merged}: found category {one['category_id']}; wanted one of the 59"
                )
            annotations[one["image_id"]].append((label, one["segmentation"]))
    except (KeyError, TypeError) as error:
        raise DatasetError(f"{merged}: an entry is not as expected ({error!r})") from None
    if not images or not annotations:
        raise DatasetError(f"{merged}: found no images with annos_segmentation; wrong file?")
    return images, annotations


def _draw(image: dict[str, Any], annotations: list[tuple[int, Any]]) -> _Labels:
    height, width = image["height"], image["width"]
    labels = np.zeros((height, width), np.uint8)
    for label, outline in annotations:
        if isinstance(outline["counts"], list):
            outline = pycocotools.mask.frPyObjects(outline, height, width)
        labels[pycocotools.mask.decode(outline) > 0] = label
    return labels


def _read(mat: Path) -> _Labels:
    numbers = np.asarray(scipy.io.loadmat(mat, variable_names=["LabelMap"])["LabelMap"])
    if numbers.ndim != 2 or numbers.min() < 0 or numbers.max() >= _IDS_IN_MAT:
        raise ValueError(f"LabelMap {numbers.shape} holds {numbers.min()} to {numbers.max()}")
    table = np.zeros(_IDS_IN_MAT, np.uint8)
    table[list(_LABEL_OF_ID)] = list(_LABEL_OF_ID.values())
    return np.asarray(table[numbers])


def _convert(
    voc2010: Path, lists: dict[str, list[str]], jobs: Sequence[tuple[str, Callable[[], _Labels]]]
) -> None:
    """Write the label files that are not there yet; the lists last, once all could be made."""
    folder = voc2010 / "SegmentationClassContext"
    problems: list[str] = []
    for stem, make in tracked(jobs, "PASCAL Context: label files"):
        path = folder / f"{stem}.png"
        if _is_whole_png(path):
            continue
        try:
            labels = make()
        except Exception as error:  # scipy and pycocotools raise anything on damaged data
            problems.append(f"{stem}: {error!r}")
            continue
        write_bytes(path, encode_image(PIL.Image.fromarray(labels)), flush=False)
    if folder.is_dir():
        flush_tree(folder)  # before the lists, which say that the conversion is done
    if problems:
        raise DatasetError(
            f"{len(problems)} of {len(jobs)} annotations cannot be read (first: {problems[0]}); "
            "fetch the archive again, then convert again: what is done is kept"
        )
    for split, stems in lists.items():
        file = voc2010 / "ImageSets" / "SegmentationContext" / f"{split}.txt"
        write_bytes(file, "".join(f"{stem}\n" for stem in sorted(stems)).encode())


def _is_whole_png(path: Path) -> bool:
    if not path.is_file() or path.stat().st_size < len(_PNG_END):
        return False
    with path.open("rb") as stream:
        stream.seek(-len(_PNG_END), io.SEEK_END)
        return stream.read() == _PNG_END
