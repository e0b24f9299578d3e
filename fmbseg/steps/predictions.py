"""What `fmbseg predict` has made in a folder, so that the same call goes on where it was.

`predictions.json` beside the label maps says with what model, words and settings they were made,
and holds the hash of each image and of each file that was made of it. The same images and settings
give the same bytes.
"""

import contextlib
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fmbseg.store import StoreError, file_sha, read_json, write_bytes
from fmbseg.store.files import json_bytes

RECORD = "predictions.json"
_WRITING_SHARE = 0.05
"""Share of the time that goes into writing the record; images since then are lost with a kill."""


class Predictions:
    """The record of one output folder.

    Attributes:
        others: images that are on record with other settings, and are made again.
    """

    def __init__(self, out: Path, settings: Mapping[str, Any], *, again: bool = False) -> None:
        """Read the record.

        Args:
            out: the output folder.
            settings: JSON values; images that were made with others do not count as made.
            again: count none as made.
        """
        self._out, self._settings, self._due = out, settings, 0.0
        self._images: dict[str, dict[str, Any]] = {}
        self.others = 0
        with contextlib.suppress(StoreError, KeyError, TypeError, AttributeError):
            found = read_json(out / RECORD)
            images = {str(name): dict(entry) for name, entry in found["images"].items()}
            if found["settings"] != settings:
                self.others = len(images)
            elif not again:
                self._images = images

    def shares(self, name: str, image: Path) -> dict[str, float] | None:
        """Classes of an image by area, if all its files are there as they were made; else None.

        Args:
            name: of its outputs.
            image: the image as it is now.
        """
        with contextlib.suppress(OSError, KeyError, TypeError, AttributeError):
            entry = self._images[name]
            files: dict[str, str] = entry["files"]
            if entry["image"] == file_sha(image) and all(
                file_sha(self._out / file) == sha for file, sha in files.items()
            ):
                return dict(entry["shares"])
        return None

    def add(
        self, name: str, image: Path, endings: Sequence[str], shares: Mapping[str, float]
    ) -> None:
        """Note an image whose files are all there; the record is written every now and then.

        Args:
            name: of its outputs.
            image: the image.
            endings: of the files' names.
            shares: its classes by area.
        """
        self._images[name] = {
            "image": file_sha(image),
            "files": {f"{name}{end}": file_sha(self._out / f"{name}{end}") for end in endings},
            "shares": dict(shares),
        }
        if time.monotonic() > self._due:
            self.save(flush=False)

    def save(self, *, flush: bool = True) -> None:
        """Write the record; the file is there whole, old or new.

        Args:
            flush: see `fmbseg.store.write_bytes`.
        """
        began = time.monotonic()
        document = {"settings": self._settings, "images": dict(sorted(self._images.items()))}
        write_bytes(self._out / RECORD, json_bytes(document), flush=flush)
        ended = time.monotonic()
        self._due = ended + (ended - began) / _WRITING_SHARE


def remove_leftovers(folder: Path) -> None:
    """Remove half-written files of processes that were killed, from one folder."""
    for file in folder.glob(".tmp-*-*"):
        process = file.name.split("-")[1]
        if process.isdecimal() and not _runs(int(process)):
            file.unlink(missing_ok=True)


def _runs(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        return True
    return True
