"""Which images stand for a whole data set, and how many there are in it."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image as PilImage

from fmbseg.datasets import Dataset, DatasetError, load
from fmbseg.datasets.catalogue import CATALOGUE
from fmbseg.miniature import world
from fmbseg.params import Params, ParamsError
from fmbseg.store import list_images, read_image
from fmbseg.types import Image
from fmbseg.vocabulary import Vocabulary, read_classes

TYPICAL_HW = {
    "voc": (375, 500), "context": (375, 500), "coco": (480, 640), "cityscapes": (1024, 2048),
    "ade": (512, 683),
}  # fmt: skip
"""Usual size of a public data set's images, px, by the beginning of its name."""


@dataclass(frozen=True)
class Sample:
    """Images that stand for a data set.

    Attributes:
        title: of the data set.
        names: of the sample's images.
        read: gives an image by name.
        images: how many are trained on.
        scored_images: how many are evaluated; 0 where there are no labels.
        vocabulary: class names.
        disk_bytes: room that the run's copy of the data set takes.
        fetch_bytes: to download before.
        note: what is assumed; empty when these are images of the data set itself.
    """

    title: str
    names: tuple[str, ...]
    read: Callable[[str], Image]
    images: int
    scored_images: int
    vocabulary: Vocabulary
    disk_bytes: int
    fetch_bytes: int = 0
    note: str = ""


def sample_of(params: Params, images: str | None, count: int, root: Path, scratch: Path) -> Sample:
    """Choose the sample.

    Args:
        params: of the run.
        images: None takes what params.yaml names; a number stands for as many of those; else a
            name of the catalogue.
        count: images in the sample.
        root: where public data sets lie, or will.
        scratch: gets drawn images.

    Raises:
        ParamsError: no such data set, a count below 1, or no image where params.yaml points.
    """
    if images is not None and not images.isdigit():
        return _public(images, count, root, scratch)
    if images == "0":
        raise ParamsError("--images: found 0; wanted at least 1")
    if params.data.images == "miniature":
        return _miniature(params, images, count, scratch)
    return _folder(params, images, count)


def _public(name: str, count: int, root: Path, scratch: Path) -> Sample:
    if name not in CATALOGUE:
        raise ParamsError(
            f"--images: found {name!r}; wanted a number, or one of {', '.join(CATALOGUE)}"
        )
    entry, published = CATALOGUE[name], dict(CATALOGUE[name].splits)
    words = [one for index, one in enumerate(entry.classes.names)
             if index != entry.classes.background_index]  # fmt: skip
    splits = ("train", "val")
    found = partial(
        Sample, title=f"{name}: {entry.title}", images=published["train"],
        scored_images=published["val"], vocabulary=Vocabulary(tuple(words), ((),) * len(words)),
        disk_bytes=entry.disk_bytes(splits) // 2,
    )  # fmt: skip
    for split in splits:
        try:
            samples = load(name, root, split, with_labels=False)
        except DatasetError:
            continue
        names = tuple(samples.names[index] for index in _spread(len(samples), count))
        return found(names=names, read=_reader(samples))
    height, width = next(hw for start, hw in TYPICAL_HW.items() if name.startswith(start))
    drawn = [
        PilImage.fromarray(item.image).resize((width, height), PilImage.Resampling.BICUBIC)
        for item in world.generate(0, count, "train")
    ]
    names, read = _saved(drawn, scratch, "jpg")
    return found(
        names=names, read=read, fetch_bytes=entry.disk_bytes(splits) // 2,
        note=f"{name} is not in {root}: drawn pictures of {width} x {height} px stand for it",
    )  # fmt: skip


def _reader(samples: Dataset) -> Callable[[str], Image]:
    places = {name: index for index, name in enumerate(samples.names)}
    return lambda name: samples[places[name]].image


def _miniature(params: Params, images: str | None, count: int, scratch: Path) -> Sample:
    data = params.data
    drawn = [PilImage.fromarray(one.image) for one in world.generate(params.seed, count, "train")]
    scored = data.val_images if params.evaluate.split == "val" else data.test_images
    total = int(images) if images else data.train_images
    if data.classes == "miniature":
        seen = tuple(world.SEEN_CLASS_NAMES)
        vocabulary = Vocabulary(seen, ((),) * len(seen))
    else:
        vocabulary = read_classes(Path(data.classes))
    names, read = _saved(drawn, scratch, "png")
    size = sum((scratch / name).stat().st_size for name in names) // len(names)
    return Sample(
        title="the miniature's world", images=total, scored_images=scored, vocabulary=vocabulary,
        disk_bytes=size * (total + data.val_images + data.test_images), names=names, read=read,
    )  # fmt: skip


def _folder(params: Params, images: str | None, count: int) -> Sample:
    data = params.data
    root = Path(data.images)
    names = list_images(root) if root.is_dir() else []
    if not names:
        raise ParamsError(f"data.images: found no image in {root}; wanted a folder of images")
    if not Path(data.classes).is_file():
        raise ParamsError(f"data.classes: no file {data.classes}; wanted one class name a line")
    total = int(images) if images else len(names)
    limit = round(data.max_megapixels * 1e6)
    return Sample(
        title=f"images of {root}",
        names=tuple(names[index] for index in _spread(len(names), count)),
        read=lambda name: read_image(root / name, max_pixels=limit),
        images=total,
        scored_images=0 if data.labels is None else total,
        vocabulary=read_classes(Path(data.classes)),
        disk_bytes=0,
    )


def _saved(
    drawn: list[PilImage.Image], scratch: Path, suffix: str
) -> tuple[tuple[str, ...], Callable[[str], Image]]:
    """Write the pictures, so that reading them is measured too."""
    names = tuple(f"{index:04d}.{suffix}" for index in range(len(drawn)))
    for name, picture in zip(names, drawn, strict=True):
        picture.save(scratch / name, quality=95)
    return names, lambda name: read_image(scratch / name)


def _spread(total: int, count: int) -> list[int]:
    """At most `count` places, evenly over all."""
    places = np.linspace(0, total - 1, min(count, total)).round().astype(int)
    return sorted(set(places.tolist()))
