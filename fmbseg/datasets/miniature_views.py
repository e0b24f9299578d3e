"""The miniature in five views, which stand where the paper's data sets stand."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from fmbseg.datasets.base import Dataset, DatasetError, Sample
from fmbseg.datasets.classes import ClassTable
from fmbseg.datasets.miniature import MiniatureDataset
from fmbseg.miniature import world
from fmbseg.types import IGNORE


@dataclass(frozen=True)
class View:
    """A view of the world.

    Attributes:
        stands_for: the paper's column of that kind.
        names: the classes; a first name "background" takes all stuff.
        thing_names: the things that are drawn.
        looks: light and palette; images take them in turn.
    """

    stands_for: str
    names: tuple[str, ...]
    thing_names: tuple[str, ...]
    looks: tuple[world.Look, ...] = ("day",)


VIEWS: Mapping[str, View] = {
    "miniature_background": View(
        "things and background: VOC-21, Context-60, COCO-Object",
        ("background", *world.SEEN_THINGS),
        world.SEEN_THINGS,
    ),
    "miniature_things": View(
        "things, background ignored: VOC-20, COCO-80", world.SEEN_THINGS, world.SEEN_THINGS
    ),
    "miniature_all": View(
        "all classes: COCO-Stuff 171, Context-59", world.SEEN_CLASS_NAMES, world.SEEN_THINGS
    ),
    "miniature_shifted": View(
        "another domain: Cityscapes",
        world.SEEN_CLASS_NAMES,
        world.SEEN_THINGS,
        ("night", "fog", "palette"),
    ),
    "miniature_unseen": View(
        "classes outside the training vocabulary: ADE20K",
        (*world.STUFF, *world.UNSEEN_THINGS),
        world.UNSEEN_THINGS,
    ),
}


class MiniatureView(Dataset):
    """One of `VIEWS`: images of a split, drawn when they are asked for.

    Args:
        name: of the view.
        split: train, val or test.
        count: number of images.
        seed: the world's seed.

    Raises:
        DatasetError: an unknown view or split.
    """

    def __init__(self, name: str, split: str, *, count: int, seed: int = 0) -> None:
        if name not in VIEWS:
            raise DatasetError(f"unknown view {name!r}; wanted one of {sorted(VIEWS)}")
        view = VIEWS[name]
        self._drawn = [
            MiniatureDataset(split, count=count, seed=seed, thing_names=view.thing_names, look=look)
            for look in view.looks
        ]
        background = "background" in view.names
        self.classes = ClassTable(
            view.names,
            background_index=0 if background else None,
            background_names=world.STUFF if background else (),
        )
        self.class_names, self.background_index = view.names, self.classes.background_index
        self.names = self._drawn[0].names
        rest = 0 if background else IGNORE
        self._index = np.full(256, IGNORE, np.uint8)
        self._index[: len(world.CLASS_NAMES)] = [
            view.names.index(one) if one in view.names else rest for one in world.CLASS_NAMES
        ]

    def __getitem__(self, index: int) -> Sample:
        """Draw one image.

        Raises:
            IndexError: no such image.
        """
        at = range(len(self.names))[index]
        sample = self._drawn[at % len(self._drawn)][at]
        assert sample.target is not None
        return Sample(sample.image, self._index[sample.target], sample.name)
