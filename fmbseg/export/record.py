"""What an export showed of every image: an import tells by it what was edited since."""

import difflib
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from fmbseg.export.classes import ClassMap
from fmbseg.export.labelled import NONE, ExportError, LabelledImage
from fmbseg.store import MANIFEST, StoreError, file_sha, read_json
from fmbseg.store.growing import growing_file
from fmbseg.types import Origin, Rle

RECORD = "exported.jsonl"
"""Its name in the export's folder: a line for the classes, then a line an image."""
_FORMAT = "fmbseg export record 1"


@dataclass(frozen=True)
class ShownRegion:
    """A region as it was exported.

    Attributes:
        label: its class in the export.
        class_name: its class in the workspace, which the export may have merged or renamed.
        rle: its pixels.
        origin: who labelled it.
        score: confidence, 0 to 1; None where nothing is known.
    """

    label: str
    class_name: str
    rle: Rle
    origin: Origin
    score: float | None


@dataclass(frozen=True)
class ShownImage:
    """An image as it was exported.

    Attributes:
        name: in the workspace's listing.
        stem: what its labels are called.
        sha: of its content, as the listing had it.
        image_hw: its height and width, px, turned upright.
        revision: of the correction that was exported; 0 where the labels were no correction.
        regions: the most important first.
    """

    name: str
    stem: str
    sha: str
    image_hw: tuple[int, int]
    revision: int
    regions: tuple[ShownRegion, ...]


class RecordWriter:
    """Writes a line for each image that goes by."""

    def __init__(self, write: Any, classes: ClassMap, shas: Mapping[str, str]) -> None:
        self._write, self._classes, self._shas = write, classes, shas
        parts = {name: classes.parts_of(place) for place, name in enumerate(classes.names)}
        rest = None if classes.rest == NONE else classes.names[classes.rest]
        self._line({"format": _FORMAT, "classes": parts, "rest": rest})

    def over(self, images: Iterable[LabelledImage]) -> Iterator[LabelledImage]:
        """Hand the images on."""
        for one in images:
            named = zip(one.regions, one.own_classes, strict=True)
            self._line(
                {"image": one.name, "stem": one.stem, "sha": self._shas[one.name],
                 "hw": one.image_hw, "revision": one.revision,
                 "regions": [
                     {"label": self._classes.names[region.class_index],
                      "class": self._classes.known[own], "origin": region.origin,
                      "score": region.score, "counts": region.rle["counts"]}
                     for region, own in named
                 ]}
            )  # fmt: skip
            yield one

    def _line(self, content: Mapping[str, Any]) -> None:
        self._write(json.dumps(content, separators=(",", ":"), allow_nan=False) + "\n")


@contextmanager
def recording(out: Path, classes: ClassMap, shas: Mapping[str, str]) -> Iterator[RecordWriter]:
    """Write the record of an export while its images go by.

    Args:
        out: the export's folder.
        classes: of the export.
        shas: name of every image to the SHA-256 of its content.
    """
    with growing_file(out / RECORD) as stream:
        yield RecordWriter(stream.write, classes, shas)


class ExportRecord:
    """What an export showed; images are read from the file when they are asked for."""

    def __init__(self, folder: Path) -> None:
        """Look through the record of an export's folder.

        Raises:
            ExportError: there is none, or it is not the one that the export wrote.
        """
        self.path = folder / RECORD
        if not self.path.is_file():
            raise ExportError(
                f"{folder}: found no {RECORD}; wanted the folder that `fmbseg export` wrote, which "
                "tells what was edited since; name it with --export"
            )
        try:
            self.sha = file_sha(self.path)
            if read_json(folder / MANIFEST)["files"][RECORD] != self.sha:
                raise ValueError("its hash is not that of manifest.json")
            self._at: dict[str, int] = {}
            self._whole: dict[str, set[str]] = {}
            self._ends: dict[str, set[str]] = {}
            with self.path.open("rb") as stream:
                head = json.loads(stream.readline())
                if head["format"] != _FORMAT:
                    raise ValueError(f"format {head['format']!r}")
                place = stream.tell()
                for line in stream:
                    found = json.loads(line)
                    self._note(found["image"], found["stem"], place)
                    place += len(line)
        except (StoreError, ValueError, KeyError, TypeError) as error:
            raise ExportError(
                f"{self.path}: was changed since it was exported ({error}); wanted it as it was, "
                "since what was edited cannot be told without it; put it back, or export again"
            ) from None
        self.classes: dict[str, tuple[str, ...]] = {
            name: tuple(parts) for name, parts in head["classes"].items()
        }
        """The export's classes in their order, each with the workspace's classes it stands for."""
        self.rest: str | None = head["rest"]
        """The class that pixels under no region were given; None where they were given none."""

    def __len__(self) -> int:
        """Number of images."""
        return len(self._at)

    def named(self, called: str) -> str | None:
        """The image that a tool's file calls so; None where there is no such one, or several.

        Tools keep an image's name, its name without suffix, or either without some of the folders
        in front, and some put folders before it.
        """
        parts = called.split("/") if called in self._whole else re.split(r"[\\/]", called)
        for first in range(len(parts)):
            end = "/".join(parts[first:])
            if found := self._whole.get(end) or self._ends.get(end):
                return next(iter(found)) if len(found) == 1 else None
        return None

    def nearest(self, called: str) -> str | None:
        """The image whose name is most like this one; None where none is like it."""
        for part in (called, called.rpartition("/")[2]):
            if found := difflib.get_close_matches(part, self._whole, 1):
                return min(self._whole[found[0]])
        return None

    def image(self, name: str) -> ShownImage:
        """What was exported of one of the images."""
        with self.path.open("rb") as stream:
            stream.seek(self._at[name])
            found = json.loads(stream.readline())
        height, width = found["hw"]
        return ShownImage(
            name, found["stem"], found["sha"], (height, width), found["revision"],
            tuple(
                ShownRegion(
                    one["label"], one["class"], {"size": [height, width], "counts": one["counts"]},
                    one["origin"], one["score"],
                )
                for one in found["regions"]
            ),
        )  # fmt: skip

    def _note(self, name: str, stem: str, place: int) -> None:
        self._at[name] = place
        for whole in {name, stem, stem + PurePosixPath(name).suffix}:
            self._whole.setdefault(whole, set()).add(name)
            parts = whole.split("/")
            for first in range(1, len(parts)):
                self._ends.setdefault("/".join(parts[first:]), set()).add(name)
