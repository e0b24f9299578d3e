"""Label maps as PNG files, of 8 or 16 bits, as the export `png` writes them."""

from collections.abc import Iterator
from functools import partial

import numpy as np

from fmbseg.export.label_png import none_value
from fmbseg.export.record import ExportRecord
from fmbseg.importing.edited import Drawn, EditedImage, EditError
from fmbseg.importing.files import Files
from fmbseg.importing.shapes import picture

_FOLDER, _SUFFIX = "labels/", ".png"
_MODES = ("L", "P", "I;16", "I", "1")


def read(files: Files, record: ExportRecord) -> Iterator[EditedImage]:
    """The images of `labels/`, or of all PNG files where there is no such folder."""
    found = files.named(_SUFFIX)
    root = _FOLDER if any(name.startswith(_FOLDER) for name in found) else ""
    for name in found:
        if name.startswith(root):
            called = name.removeprefix(root)[: -len(_SUFFIX)]
            yield EditedImage(called, None, partial(_drawn, files, name, list(record.classes)))


def _drawn(files: Files, name: str, names: list[str], image_hw: tuple[int, int]) -> list[Drawn]:
    values = picture(files.content(name), image_hw, _MODES)
    none, found = none_value(len(names)), []
    for value in np.unique(values).astype(int).tolist():
        if value != none:
            if not 0 <= value < len(names):
                raise EditError(
                    f"found the number {value}; wanted 0 to {len(names) - 1}, or {none} for none"
                )
            found.append(Drawn.of(names[value], values == value))
    return found
