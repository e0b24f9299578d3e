"""Accepted corrections: a run takes a copy of them first, and sees no other until its end.

People go on correcting while a run is under way. The copy lies in `data/download/corrections/`:
listing.json, and in `files/` the corrections as they were saved, so that DVC keeps every state
that a model was made from.
"""

import functools
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from fmbseg.corrections.store import (
    Correction,
    corrected_images,
    correction_file,
    read_correction,
)
from fmbseg.datasets.base import Dataset, Sample
from fmbseg.steps.workspace import Workspace
from fmbseg.store import StoreError, file_sha, read_json, sha_of, write_bytes, write_json
from fmbseg.store.lot import lot
from fmbseg.store.names import printable
from fmbseg.types import IGNORE
from fmbseg.vocabulary import read_classes

CORRECTIONS = "corrections"
"""Name of the copy among what the step `download` makes, and of the held-out images as a data
set."""
HELD_OUT = "held-out"
"""Their split."""
_FILES = "files"
_SEED = 0
"""Of the draw of held-out images, whatever the run's own seed: none may be trained on by the next
model that this one was judged by."""


@dataclass(frozen=True)
class Accepted:
    """A correction that a person has accepted, as its file is now.

    Attributes:
        sha: SHA-256 of the file.
        content: digest of what training and scoring take from it, without who, when and how.
        changed_ns: when the file was written, ns since 1970.
    """

    sha: str
    content: str
    changed_ns: int


def accepted(workspace: Workspace) -> dict[str, Accepted]:
    """Image to its correction, of those that a person has accepted by now.

    A file is read once, as long as it stays as it is.

    Raises:
        StoreError: one of the files is damaged.
    """
    folder, found = workspace.corrections, {}
    for image in corrected_images(folder):
        state = correction_file(folder, image).stat()
        stamp = (state.st_mtime_ns, state.st_ino, state.st_size, state.st_ctime_ns)
        if (one := _accepted(folder, image, *stamp)) is not None:
            found[image] = one
    return found


def copied_contents(workspace: Workspace) -> dict[str, str]:
    """Image to digest of what its copied correction says; none where nothing was copied."""
    listing = workspace.downloads / CORRECTIONS / "listing.json"
    return dict(read_json(listing)["contents"]) if listing.is_file() else {}


def copy_accepted(workspace: Workspace, out: Path) -> None:
    """Copy the accepted corrections into a folder, with a listing of what they say."""
    shas, contents, classes = {}, {}, {}
    for image in accepted(workspace):
        target = correction_file(out / _FILES, image)
        write_bytes(target, correction_file(workspace.corrections, image).read_bytes())
        one = read_correction(out / _FILES, image)
        if one is None or not one.accepted:  # withdrawn since it was listed
            target.unlink()
            continue
        shas[image], contents[image] = one.image_sha, _content(one)
        classes[image] = sorted({region.class_name for region in one.regions})
    write_json(
        out / "listing.json",
        {"data_set": CORRECTIONS, "images": shas, "refused": [], "contents": contents,
         "classes": classes},
    )  # fmt: skip


@dataclass(frozen=True)
class Corrections:
    """The copied corrections that fit the images and classes of today.

    Attributes:
        folder: of their files.
        class_names: of the class file.
        trained: image to digest of what its correction says, of those that are trained on.
        held_out: the same of those that are not.
        left_out: `{"image", "reason"}` of corrections that do not fit.
        unknown_classes: those of corrections that the class file does not have; their pixels count
            as unlabelled.
    """

    folder: Path
    class_names: tuple[str, ...]
    trained: dict[str, str]
    held_out: dict[str, str]
    left_out: tuple[dict[str, str], ...]
    unknown_classes: tuple[str, ...]

    @staticmethod
    def of(workspace: Workspace) -> "Corrections":
        """Those of a workspace; none where the step `download` found none."""
        copied = workspace.downloads / CORRECTIONS
        if not (copied / "listing.json").is_file():
            return Corrections(copied / _FILES, (), {}, {}, (), ())
        class_names = read_classes(workspace.classes_path()).names
        listing, today = read_json(copied / "listing.json"), workspace.listing().images
        parts: tuple[dict[str, str], dict[str, str]] = ({}, {})
        left_out, used = [], set[str]()
        fraction = workspace.params.data.corrections_held_out_fraction
        for image, sha in listing["images"].items():
            if today.get(image) == sha:
                parts[lot(image, _SEED) < fraction][image] = listing["contents"][image]
                used |= set(listing["classes"][image])
            else:
                why = "is gone" if image not in today else "was replaced"
                left_out.append(
                    {"image": image, "reason": f"the image {why} since it was corrected"}
                )
        unknown = tuple(sorted(used - set(class_names)))
        return Corrections(copied / _FILES, class_names, *parts, tuple(left_out), unknown)

    def __bool__(self) -> bool:
        """Whether there is any that fits."""
        return bool(self.contents)

    @property
    def contents(self) -> dict[str, str]:
        """Image to digest of what its correction says, held out or not."""
        return {**self.trained, **self.held_out}

    def of_image(self, image: str) -> Correction:
        """The copied correction of an image."""
        found = read_correction(self.folder, image)
        if found is None:
            raise StoreError(f"{self.folder}: found no correction of {image}; run again")
        return found

    def label_map(self, image: str) -> UInt8[np.ndarray, "height width"]:
        """Class index per pixel of a corrected image; IGNORE where a person left no class."""
        from fmbseg.pseudo.patch_labels import painted  # brings torch

        found = self.of_image(image)
        index = {name: place for place, name in enumerate(self.class_names)}
        lowest_first = found.regions[::-1]
        labels = [index.get(region.class_name, IGNORE) for region in lowest_first]
        return painted([region.rle for region in lowest_first], labels, found.image_hw)

    def words(self) -> list[str]:
        """What people should know of corrections that are not used, or not wholly."""
        found = [
            f"correction of {printable(one['image'])}: {one['reason']}" for one in self.left_out
        ]
        if self.unknown_classes:
            found.append(
                "corrections name classes that the class file does not have; their pixels count "
                f"as unlabelled: {', '.join(map(printable, self.unknown_classes))}"
            )
        return found


class HeldOut(Dataset):
    """The corrected images that are never trained on, with what people left standing on them."""

    def __init__(self, workspace: Workspace) -> None:
        """Read the listing; an image is opened when it is asked for."""
        self._workspace, self._corrections = workspace, Corrections.of(workspace)
        self.class_names = self._corrections.class_names
        self.names = tuple(sorted(self._corrections.held_out))

    def __getitem__(self, index: int) -> Sample:
        """One image; see `Dataset`."""
        name = self.names[index]
        return Sample(self._workspace.read_image(name), self._corrections.label_map(name), name)


def held_out_inputs(workspace: Workspace) -> dict[str, str]:
    """Name to content hash of what figures on the held-out images depend on."""
    images, held_out = workspace.listing().images, Corrections.of(workspace).held_out
    return {
        "/classes": file_sha(workspace.classes_path()),
        **{name: images[name] for name in held_out},
        **{f"/corrections/{name}": said for name, said in held_out.items()},
    }


@functools.lru_cache(maxsize=100_000)
def _accepted(folder: Path, image: str, changed_ns: int, *state: int) -> Accepted | None:
    found = read_correction(folder, image)
    if found is None or not found.accepted:
        return None
    return Accepted(file_sha(correction_file(folder, image)), _content(found), changed_ns)


def _content(one: Correction) -> str:
    regions = [[region.class_name, region.rle["counts"]] for region in one.regions]
    return sha_of([list(one.image_hw), regions])
