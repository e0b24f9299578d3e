"""What public data sets share: the opened data set, and the two ways of looking a tree through."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from fmbseg.datasets.base import Dataset, DatasetError, Sample
from fmbseg.datasets.classes import ClassTable
from fmbseg.datasets.label_files import Encoding
from fmbseg.datasets.tree import Tree
from fmbseg.store import MAX_PIXELS, read_image


@dataclass(frozen=True)
class LabelFiles:
    """Targets in picture files.

    Attributes:
        folder: where the files are.
        files: image name to label file, relative to the folder, and what its numbers mean.
    """

    folder: Path
    files: Mapping[str, tuple[str, Encoding]]

    def read(self, name: str) -> UInt8[np.ndarray, "height width"]:
        """Read one target; DatasetError when its file is damaged or of another encoding."""
        file, encoding = self.files[name]
        return encoding.read(self.folder / file)

    def sources(self) -> list[Path]:
        """The label files, in the order of the images."""
        return [self.folder / file for file, _ in self.files.values()]


class BenchmarkDataset(Dataset):
    """Images of one split of a public data set; nothing is decoded before it is asked for.

    Attributes:
        classes: names, background.
        class_names: `classes.names`.
        background_index: `classes.background_index`.
        names: of the images, relative to the data set's image folder.

    Args:
        classes: what the indices in the targets mean.
        images: the image folder.
        names: of its images, in order.
        targets: of these images; None for images alone.
    """

    def __init__(
        self, classes: ClassTable, images: Path, names: Sequence[str], targets: LabelFiles | None
    ) -> None:
        self.classes = classes
        self.class_names = classes.names
        self.background_index = classes.background_index
        self.names = tuple(names)
        self._images = images
        self._targets = targets

    def sources(self) -> list[Path]:
        """Every file that the samples come from: what a figure depends on."""
        labels = [] if self._targets is None else self._targets.sources()
        return [*(self._images / name for name in self.names), *labels]

    def __getitem__(self, index: int) -> Sample:
        """Read one sample; see `Dataset`."""
        name = self.names[index]
        image = read_image(self._images / name, max_pixels=MAX_PIXELS)
        if self._targets is None:
            return Sample(image, None, name)
        target = self._targets.read(name)
        if target.shape != image.shape[:2]:
            raise DatasetError(
                f"{name}: found labels of height x width {target.shape}; the image has "
                f"{image.shape[:2]}"
            )
        return Sample(image, target, name)


def open_listed(
    tree: Tree, classes: ClassTable, encoding: Encoding, list_file: str, labels_folder: str,
    *, with_labels: bool,
) -> BenchmarkDataset:  # fmt: skip
    """Open a VOC-like tree: a list of image ids, `JPEGImages/<id>.jpg`, one PNG an image.

    Args:
        tree: at the folder that holds JPEGImages.
        classes: what its indices mean.
        encoding: of its label files.
        list_file: one image id a line, relative to the tree's top.
        labels_folder: holds `<id>.png`, relative to the tree's top.
        with_labels: whether labels are wanted.

    Raises:
        DatasetError: the tree is incomplete.
    """
    ids = tree.listed(tree.top / list_file)
    images, labels = tree.top / "JPEGImages", tree.top / labels_folder
    tree.require("listed images", images, [f"{stem}.jpg" for stem in ids])
    if with_labels:
        tree.require("labels of listed images", labels, [f"{stem}.png" for stem in ids])
    tree.check()
    files = {f"{stem}.jpg": (f"{stem}.png", encoding) for stem in ids}
    targets = LabelFiles(labels, files) if with_labels else None
    return BenchmarkDataset(classes, images, tuple(files), targets)


def open_paired(
    tree: Tree, classes: ClassTable, images: Path, labels: Path, image_ending: str,
    encodings: Mapping[str, Encoding | None], *, with_labels: bool, nested: bool = False,
) -> BenchmarkDataset:  # fmt: skip
    """Open a tree whose label files are called as the images are, but for the ending.

    Args:
        tree: holds the two folders.
        classes: what its indices mean.
        images: folder of the images.
        labels: folder of the label files.
        image_ending: of an image's name.
        encodings: ending of a label file's name to its encoding, best first; None for files of
            the same images that hold something else.
        with_labels: whether labels are wanted.
        nested: both folders hold folders of files, as Cityscapes' do of its cities.

    Raises:
        DatasetError: the tree is incomplete.
    """
    names = sorted(tree.files(images, image_ending, nested=nested))
    if not names and images.is_dir():
        wanted = f"<folder>/*{image_ending}" if nested else image_ending
        tree.note(f"images in {tree.place(images)}/, which holds no {wanted}")
    if not with_labels:
        tree.check()
        return BenchmarkDataset(classes, images, names, None)
    stems = [name.removesuffix(image_ending) for name in names]
    there, files = tree.files(labels, ".png", nested=nested), {}
    for name, stem in zip(names, stems, strict=True):
        for ending, encoding in encodings.items():
            if encoding is not None and stem + ending in there:
                files[name] = stem + ending, encoding
                break
    best = next(iter(encodings))
    absent = [f"{stem}{best}" for name, stem in zip(names, stems, strict=True) if name not in files]
    tree.lacking("labels of images", labels, absent, len(names))
    longest_first = sorted(encodings, key=len, reverse=True)
    ends = {file: next(filter(file.endswith, longest_first), None) for file in there}
    labelled = {file.removesuffix(ending) for file, ending in ends.items() if ending is not None}
    absent = [f"{stem}{image_ending}" for stem in sorted(labelled - {*stems})]
    tree.lacking("images of labels", images, absent, len(labelled))
    tree.check()
    return BenchmarkDataset(classes, images, names, LabelFiles(labels, files))
