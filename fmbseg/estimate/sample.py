"""Which images stand for the data sets of a run, and how many those have."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from PIL import Image as PilImage

from fmbseg.datasets import Dataset, DatasetError, load
from fmbseg.datasets.catalogue import CATALOGUE
from fmbseg.datasets.miniature_views import VIEWS, MiniatureView
from fmbseg.image_size import size_problem
from fmbseg.miniature import world
from fmbseg.params import Params, ParamsError
from fmbseg.steps.evaluation_sets import HOME
from fmbseg.store import UnreadableImageError
from fmbseg.types import IGNORE
from fmbseg.vocabulary import Vocabulary, read_classes

TYPICAL_HW = (480, 640)
"""Size of a photograph, px."""
IMAGE_BYTES = 40_000
"""An image of the miniature and its labels on disk, about."""


@dataclass(frozen=True)
class DataSet:
    """A data set, of which some images are measured.

    Attributes:
        name: in the names of units.
        title: for people.
        samples: the images to choose from.
        classes: their names.
        images: how many it really has.
        drawn: how many images the run draws for it, those of all splits.
        archives: what is fetched for it: file name to size, about.
        here: its own images are on this machine; else drawn pictures of `TYPICAL_HW` are taken.
    """

    name: str
    title: str
    samples: Dataset
    classes: Vocabulary
    images: int
    drawn: int = 0
    archives: Mapping[str, int] = field(default_factory=dict)
    here: bool = True

    def write(self, most: int, folder: Path) -> None:
        """Write images/, labels/ and classes.txt of at most so many images, drawn from all.

        Raises:
            DatasetError: none of those looked at, four times as many, can be used.
        """
        for part in ("images", "labels"):
            (folder / part).mkdir(parents=True)
        (folder / "classes.txt").write_text("\n".join(self.classes.lines()))
        looked_at = np.random.default_rng(0).permutation(len(self.samples))[: 4 * most].tolist()
        written = 0
        for place in looked_at:
            try:
                one = self.samples[place]
            except (UnreadableImageError, DatasetError):
                continue
            if size_problem(one.image.shape[:2]) is not None:
                continue
            picture, target = PilImage.fromarray(one.image), one.target
            if not self.here:
                picture, target = picture.resize(TYPICAL_HW[::-1]), None
            if target is None or (target == IGNORE).all():
                target = np.full(picture.size[::-1], len(self.classes) - 1, np.uint8)
            picture.save(folder / f"images/{place:06d}.png")
            PilImage.fromarray(target).save(folder / f"labels/{place:06d}.png")
            written += 1
            if written == most:
                break
        if not written:
            raise DatasetError(f"{self.title}: of {len(looked_at)} images none can be used")


def data_sets_of(params: Params, images: str | None, root: Path) -> tuple[DataSet, list[DataSet]]:
    """What a run trains on, and what it scores.

    Args:
        params: of the run.
        images: None takes what params.yaml names; a number stands for as many of those; else a
            name of the catalogue, whose train split is trained on and whose val split is scored.
        root: where public data sets lie, or will.

    Raises:
        ParamsError: no such data set, a count below 1, or nothing where params.yaml points.
        DatasetError: a class list cannot be used.
    """
    data, split = params.data, params.evaluate.split
    if images == "0":
        raise ParamsError("--images: found 0; wanted at least 1")
    if images is not None and not images.isdigit():
        train, home = (_public(images, part, root, "--images") for part in ("train", "val"))
    else:
        train = home = _own(params, int(images) if images else None)
        if train.drawn:
            home = replace(train, images=data.val_images if split == "val" else data.test_images)
    scored: dict[str, DataSet] = {}
    for name in params.evaluate.data_sets:
        found = home
        if name in VIEWS:
            count = params.evaluate.view_images
            view = MiniatureView(name, split, count=count, seed=params.seed)
            found = DataSet(name, name, view, Vocabulary(view.class_names), count)
        elif name != HOME:
            found = _public(name, "val", root, "evaluate.data_sets")
        if found is not train or data.labels is not None:
            scored.setdefault(found.name, found)
    return train, list(scored.values())


def _public(name: str, split: str, root: Path, asked: str) -> DataSet:
    if name not in CATALOGUE:
        raise ParamsError(f"{asked}: found {name!r}; wanted one of {', '.join(CATALOGUE)}")
    entry, here = CATALOGUE[name], True
    try:
        samples = load(name, root, split, with_labels=False)
    except DatasetError:
        samples, here = load("miniature", None, "train", count=64), False
    none = entry.classes.background_index if split == "train" else None  # no class to look for
    classes = Vocabulary(tuple(one for k, one in enumerate(entry.classes.names) if k != none))
    archives = {one.file_name: one.about_bytes or 0 for one in entry.needed([split])}
    title, count = f"{name}: {entry.title}", dict(entry.splits)[split]
    return DataSet(name, title, samples, classes, count, 0, archives, here)


def _own(params: Params, count: int | None) -> DataSet:
    """What params.yaml names: the miniature, or a folder."""
    data, classes = params.data, Vocabulary(tuple(world.SEEN_CLASS_NAMES))
    if data.classes != "miniature":
        classes = read_classes(Path(data.classes))
    if data.images == "miniature":
        count = count or data.train_images
        samples = load("miniature", None, "train", count=count, seed=params.seed)
        drawn = count + data.val_images + data.test_images
        return DataSet("miniature", "the miniature's world", samples, classes, count, drawn)
    limit = round(data.max_megapixels * 1e6)
    samples = load("folder", data.images, "", class_names=classes.names, max_pixels=limit)
    if not len(samples):
        raise ParamsError(f"data.images: found no image in {data.images}; wanted some")
    title = f"images of {data.images}"
    return DataSet("folder", title, samples, classes, count or len(samples))
