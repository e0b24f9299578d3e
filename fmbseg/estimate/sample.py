"""Which images stand for the data sets of a run, and how many there are in those."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from PIL import Image as PilImage

from fmbseg.datasets import Dataset, DatasetError, load
from fmbseg.datasets.catalogue import CATALOGUE
from fmbseg.datasets.classes import ClassTable
from fmbseg.datasets.miniature_columns import COLUMNS, MiniatureColumn
from fmbseg.miniature import world
from fmbseg.miniature.world import WorldImage
from fmbseg.models.images import size_problem
from fmbseg.params import Params, ParamsError
from fmbseg.steps.columns import HOME, Column
from fmbseg.store import UnreadableImageError, list_images
from fmbseg.types import Image
from fmbseg.vocabulary import Vocabulary, read_classes

TYPICAL_HW = {
    "voc": (375, 500), "context": (375, 500), "coco": (480, 640), "cityscapes": (1024, 2048),
    "ade": (512, 683),
}  # fmt: skip
"""Usual size of a public data set's images, px, by the beginning of its name."""


@dataclass(frozen=True)
class Sample:
    """A data set, of which some images are measured.

    Attributes:
        title: for people.
        column: what is measured of it: the set itself, or pictures that stand for it.
        images: how many it really has.
        disk_bytes: room that the run's copy of it takes, beside `archives`.
        archives: what is to be fetched: file name to size, about.
        note: what is assumed; empty when these are images of the data set itself.
    """

    title: str
    column: Column
    images: int
    disk_bytes: int = 0
    archives: Mapping[str, int] = field(default_factory=dict)
    note: str = ""

    def measured(self, count: int) -> list[str]:
        """Names of at most `count` images, evenly over all; those that cannot be used are left out.

        Raises:
            DatasetError: none of them can be used.
        """
        samples = self.column.samples
        places = np.linspace(0, len(samples) - 1, min(count, len(samples))).round().astype(int)
        found = []
        for place in sorted(set(places.tolist())):
            try:
                image = samples[place].image
            except UnreadableImageError:
                continue
            if size_problem((image.shape[0], image.shape[1])) is None:
                found.append(samples.names[place])
        if not found:
            raise DatasetError(f"{self.title}: of {len(places)} images none can be used")
        return found

    def reader(self) -> Callable[[str], Image]:
        """Gives an image by name."""
        samples = self.column.samples
        places = {name: index for index, name in enumerate(samples.names)}
        return lambda name: samples[places[name]].image


@dataclass(frozen=True)
class Samples:
    """What a run trains on and what it scores.

    Attributes:
        train: its images.
        scored: data sets of the step `evaluate`.
        labelled: images with labels that the training can be validated on.
    """

    train: Sample
    scored: tuple[Sample, ...]
    labelled: int = 0


def samples_of(params: Params, images: str | None, count: int, root: Path, drawn: Path) -> Samples:
    """Choose the samples.

    Args:
        params: of the run.
        images: None takes what params.yaml names; a number stands for as many of those; else a
            name of the catalogue, whose train split is trained on and whose val split is home.
        count: pictures to draw where a data set is not here.
        root: where public data sets lie, or will.
        drawn: an empty folder for drawn pictures.

    Raises:
        ParamsError: no such data set, a count below 1, or nothing where params.yaml points.
        DatasetError: a class list cannot be used.
    """
    if images == "0":
        raise ParamsError("--images: found 0; wanted at least 1")
    if images is not None and not images.isdigit():
        train = _public(images, "train", count, root, drawn, "--images")
        scored_home = [_public(images, "val", count, root, drawn, "--images")]
    elif params.data.images == "miniature":
        train = _miniature(params, images, count, drawn)
        data = params.data
        scored = data.val_images if params.evaluate.split == "val" else data.test_images
        scored_home = [replace(train, images=scored, disk_bytes=0)]
    else:
        train = _folder(params, images)
        scored_home = [] if params.data.labels is None else [replace(train, disk_bytes=0)]
    found: list[Sample] = []
    for name in params.evaluate.data_sets:
        if name == HOME:
            found += scored_home
        elif name in COLUMNS:
            found.append(_view(params, name))
        elif name not in [one.column.name for one in found]:
            found.append(_public(name, "val", count, root, drawn, "evaluate.data_sets"))
    return Samples(train, tuple(found), scored_home[0].images if scored_home else 0)


def _public(name: str, split: str, count: int, root: Path, drawn: Path, asked: str) -> Sample:
    if name not in CATALOGUE:
        raise ParamsError(f"{asked}: found {name!r}; wanted one of {', '.join(CATALOGUE)}")
    entry = CATALOGUE[name]
    archives = {one.file_name: one.about_bytes or 0 for one in entry.needed([split])}
    note = ""
    try:
        samples = load(name, root, split, with_labels=False)
    except DatasetError:
        height, width = next(hw for start, hw in TYPICAL_HW.items() if name.startswith(start))
        note = f"{name} is not in {root}: drawn pictures of {width} x {height} px stand for it"
        folder = drawn / f"{height}x{width}"
        if not folder.is_dir():
            _save(world.generate(0, count, "train"), folder, "jpg", (width, height))
        samples = load("folder", folder, "", class_names=entry.classes.names)
    table = entry.classes
    if split == "train":  # "none of the others" is no class to look for
        words = tuple(one for k, one in enumerate(table.names) if k != table.background_index)
        column = Column(name, split, samples, Vocabulary(words))
    else:
        column = _with_table(name, split, samples, table)
    published = dict(entry.splits)[split]
    return Sample(f"{name}: {entry.title}", column, published, 0, archives, note)


def _miniature(params: Params, images: str | None, count: int, drawn: Path) -> Sample:
    data = params.data
    if data.classes == "miniature":
        classes = Vocabulary(tuple(world.SEEN_CLASS_NAMES))
    else:
        classes = read_classes(Path(data.classes))
    folder = drawn / "miniature"
    _save(world.generate(params.seed, count, "train"), folder, "png")
    size = sum(file.stat().st_size for file in folder.iterdir()) // count
    total = int(images) if images else data.train_images
    samples = load("folder", folder, "", class_names=classes.names)
    return Sample(
        "the miniature's world", Column("miniature", "train", samples, classes), total,
        size * (total + data.val_images + data.test_images),
    )  # fmt: skip


def _folder(params: Params, images: str | None) -> Sample:
    data = params.data
    root = Path(data.images)
    names = list_images(root) if root.is_dir() else []
    if not names:
        raise ParamsError(f"data.images: found no image in {root}; wanted a folder of images")
    if not Path(data.classes).is_file():
        raise ParamsError(f"data.classes: no file {data.classes}; wanted one class name a line")
    classes = read_classes(Path(data.classes))
    limit = round(data.max_megapixels * 1e6)
    samples = load("folder", root, "", class_names=classes.names, max_pixels=limit)
    total = int(images) if images else len(names)
    return Sample(f"images of {root}", Column("folder", "all", samples, classes), total)


def _view(params: Params, name: str) -> Sample:
    split, count = params.evaluate.split, params.evaluate.column_images
    samples = MiniatureColumn(name, split, count=count, seed=params.seed)
    return Sample(name, _with_table(name, split, samples, samples.classes), count)


def _with_table(name: str, split: str, samples: Dataset, table: ClassTable) -> Column:
    return Column(
        name, split, samples, Vocabulary(table.names), table.background_index,
        table.background_names,
    )  # fmt: skip


def _save(
    items: Iterable[WorldImage], folder: Path, suffix: str,
    size_wh: tuple[int, int] | None = None,
) -> None:  # fmt: skip
    """Write pictures of the world, so that reading them is measured too."""
    folder.mkdir()
    for index, item in enumerate(items):
        picture = PilImage.fromarray(item.image)
        if size_wh is not None:
            picture = picture.resize(size_wh, PilImage.Resampling.BICUBIC)
        picture.save(folder / f"{index:04d}.{suffix}", quality=95)
