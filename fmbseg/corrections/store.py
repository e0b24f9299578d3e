"""What people put right: a file an image, `data/corrections/<image name>.json`.

A file says what a person left standing on an image, and who changed what when. Nothing but a
person's tools writes here (`fmbseg review`, `fmbseg import`), so that no run can lose any of it.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import Any

from fmbseg.store import StoreError, file_sha, foreground_runs, read_json, write_json
from fmbseg.store.locks import FileLock
from fmbseg.types import Origin, Rle

_FORMAT = "fmbseg correction 1"
_SUFFIX = ".json"
_LOCK = ".lock"
"""All files of a folder are written under one lock, whose name no listing of files counts."""


class ConflictError(StoreError):
    """Somebody else saved the image meanwhile: read it again, and then repeat the change."""


@dataclass(frozen=True)
class CorrectedRegion:
    """A mask of one class.

    Attributes:
        class_name: the class's first name; names outlive an edit of the class file, indices do not.
        rle: its pixels, at least one.
        origin: "person" where a person chose its class or drew its outline; else whose label a
            person left as it was.
        score: confidence of the label that a person left as it was, 0 to 1; None if unknown, and
            of a person's.
    """

    class_name: str
    rle: Rle
    origin: Origin
    score: float | None = None


@dataclass(frozen=True)
class Change:
    """One entry of an image's history.

    Attributes:
        by: who.
        at: when, UTC, ISO 8601 with seconds.
        tool: "review", "labelme", "cvat-images", "label-studio" or another.
        what: in a few words, such as "car instead of bus".
        seconds: that the person took for it; None where nobody measured.
    """

    by: str
    at: str
    tool: str
    what: str
    seconds: float | None = None


@dataclass(frozen=True)
class Correction:
    """What a person left standing on one image.

    Attributes:
        image: its name in the workspace's listing.
        image_sha: SHA-256 of its content, as the listing has it: another picture of the same name
            is not what the person saw.
        image_hw: its height and width, px, turned upright.
        class_names: the classes that the person could choose from.
        regions: the most important first: where they overlap the first one wins. Pixels under no
            region belong to none of the classes.
        accepted: the person is done with the image. What is not accepted yet is a draft, which
            nothing is trained on.
        history: all changes, oldest first.
        revision: how often it was saved.
    """

    image: str
    image_sha: str
    image_hw: tuple[int, int]
    class_names: tuple[str, ...]
    regions: tuple[CorrectedRegion, ...]
    accepted: bool
    history: tuple[Change, ...] = ()
    revision: int = 0

    def changed(self, change: Change, **values: Any) -> "Correction":
        """The same with other values, and one more entry in its history."""
        return replace(self, **values, history=(*self.history, change))


def now() -> str:
    """The time as a history tells it."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def correction_file(folder: str | Path, image: str) -> Path:
    """Where the correction of an image lies.

    Raises:
        StoreError: the name leads out of the folder.
    """
    parts = PurePosixPath(image).parts
    if not parts or image.startswith("/") or ".." in parts or re.search(r"[\\\x00]|^\w:", image):
        raise StoreError(f"found image name {image!r}; wanted one below the folder of images")
    return Path(folder) / f"{image}{_SUFFIX}"


def read_correction(folder: str | Path, image: str) -> Correction | None:
    """The correction of an image; None where nobody has touched it.

    Raises:
        StoreError: the file is damaged.
    """
    path = correction_file(folder, image)
    if not path.is_file():
        return None
    found = read_json(path)
    try:
        return from_json(found)
    except (KeyError, TypeError, ValueError) as error:
        raise StoreError(
            f"{path}: found no correction ({error}); wanted {_FORMAT!r}; put back its last "
            "version (`git log` or `dvc` know it), or delete it"
        ) from None


def save_correction(folder: str | Path, correction: Correction) -> Correction:
    """Write a correction; it is on the disk when this returns.

    Args:
        folder: all corrections of a workspace.
        correction: with the revision that it was read with, 0 for a new one.

    Returns:
        What was written: of the next revision.

    Raises:
        ConflictError: the file has another revision by now; nothing was written.
        StoreError: a mask that is empty or of another size.
    """
    _check(correction)
    path = correction_file(folder, correction.image)
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(Path(folder) / _LOCK):
        stored = read_correction(folder, correction.image)
        revision = 0 if stored is None else stored.revision
        if revision != correction.revision:
            raise ConflictError(
                f"{path}: found revision {revision}; wanted {correction.revision}: it was saved "
                "elsewhere meanwhile; read it again"
            )
        saved = replace(correction, revision=revision + 1)
        write_json(path, to_json(saved))
    return saved


def corrected_images(folder: str | Path) -> list[str]:
    """Names of all images that have a correction or a draft of one, sorted."""
    root = Path(folder)
    return sorted(
        path.relative_to(root).as_posix().removesuffix(_SUFFIX)
        for path in root.rglob(f"*{_SUFFIX}")
        if not any(part.startswith(".") for part in path.relative_to(root).parts)
    )


def read_corrections(folder: str | Path) -> Iterator[Correction]:
    """All corrections and drafts, by name.

    Raises:
        StoreError: one of the files is damaged.
    """
    for image in corrected_images(folder):
        found = read_correction(folder, image)
        if found is not None:
            yield found


def correction_shas(folder: str | Path) -> dict[str, str]:
    """Name of every image that has a file here to the SHA-256 of that file."""
    return {image: file_sha(correction_file(folder, image)) for image in corrected_images(folder)}


def _check(correction: Correction) -> None:
    for region in correction.regions:
        size = region.rle["size"]
        if tuple(size) != correction.image_hw or not len(foreground_runs([region.rle])[0]):
            raise StoreError(
                f"{correction.image}: found a mask of {region.class_name!r} that is empty, or of "
                f"{size} px; wanted at least one pixel of {list(correction.image_hw)}"
            )


def to_json(correction: Correction) -> dict[str, Any]:
    """A correction as its file holds it."""
    return {
        "format": _FORMAT,
        "image": correction.image,
        "image_sha": correction.image_sha,
        "image_hw": list(correction.image_hw),
        "revision": correction.revision,
        "accepted": correction.accepted,
        "classes": list(correction.class_names),
        "regions": [
            {"class": one.class_name, "origin": one.origin, "score": one.score,
             "counts": one.rle["counts"]}
            for one in correction.regions
        ],
        "history": [
            {"by": one.by, "at": one.at, "tool": one.tool, "what": one.what,
             "seconds": one.seconds}
            for one in correction.history
        ],
    }  # fmt: skip


def from_json(found: Mapping[str, Any]) -> Correction:
    """The correction that `to_json` made this of.

    Raises:
        KeyError, TypeError, ValueError: it was made of none.
    """
    if found["format"] != _FORMAT:
        raise ValueError(f"format {found['format']!r}")
    height, width = map(int, found["image_hw"])
    return Correction(
        str(found["image"]), str(found["image_sha"]), (height, width), tuple(found["classes"]),
        tuple(
            CorrectedRegion(
                one["class"], {"size": [height, width], "counts": one["counts"]}, one["origin"],
                one["score"],
            )
            for one in found["regions"]
        ),
        bool(found["accepted"]), tuple(Change(**one) for one in found["history"]),
        int(found["revision"]),
    )  # fmt: skip
