"""What CVAT exports as "Segmentation mask 1.1": label maps as colours, Pascal VOC's layout."""

from collections.abc import Iterator
from functools import partial

import numpy as np
from jaxtyping import Int64

from fmbseg.export.cvat_masks import BACKGROUND
from fmbseg.export.record import ExportRecord
from fmbseg.importing.edited import Drawn, EditedImage, EditError
from fmbseg.importing.files import Files
from fmbseg.importing.shapes import picture

_LABELS, _FOLDER, _SUFFIX = "labelmap.txt", "SegmentationClass/", ".png"
_ZIP = ".zip"


def read(files: Files, record: ExportRecord) -> Iterator[EditedImage]:
    """The images of a ZIP or of the folder that it was unpacked to, or lies in."""
    if any(name.endswith(_LABELS) for name in files.names):
        yield from _read(files)
        return
    for name in files.named(_ZIP):
        yield from _read(Files(files.path / name))


def _read(files: Files) -> Iterator[EditedImage]:
    (labels,) = files.named(_LABELS)[:1]
    names, colours = _label_map(files, labels)
    root = labels.removesuffix(_LABELS) + _FOLDER
    maps = [name for name in files.names if name.startswith(root) and name.endswith(_SUFFIX)]
    if not maps:
        raise EditError(f"{files.path}: found no {root}*{_SUFFIX}; wanted CVAT's masks")
    for name in maps:
        called = name.removeprefix(root).removesuffix(_SUFFIX)
        yield EditedImage(called, None, partial(_drawn, files, name, names, colours))


def _label_map(files: Files, name: str) -> tuple[list[str], Int64[np.ndarray, " label"]]:
    """The names of lines `name:r,g,b::`, and the colour of each as one number."""
    content, names, colours = files.content(name), [], []
    try:
        for line in content.decode().splitlines():
            if line.strip() and not line.startswith("#"):
                label, colour = line.split(":")[:2]
                red, green, blue = map(int, colour.split(","))
                names.append(label)
                colours.append(red << 16 | green << 8 | blue)
    except ValueError:
        raise EditError(f"{files.where(name)}: wanted lines name:red,green,blue::") from None
    return names, np.array(colours, np.int64)


def _drawn(
    files: Files, name: str, names: list[str], colours: Int64[np.ndarray, " label"],
    image_hw: tuple[int, int],
) -> list[Drawn]:  # fmt: skip
    rgb = picture(files.content(name), image_hw, ("RGB",)).astype(np.int64)
    values = rgb[..., 0] << 16 | rgb[..., 1] << 8 | rgb[..., 2]
    found = []
    for value in np.unique(values).tolist():
        at = np.flatnonzero(colours == value)
        if not len(at):
            raise EditError(f"found the colour {value:06x}, which {_LABELS} does not name")
        if names[at[0]] != BACKGROUND:
            found.append(Drawn.of(names[at[0]], values == value))
    return found
