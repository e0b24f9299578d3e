"""What a person changed on an image: what a tool's file has, held against what was exported."""

import difflib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pycocotools.mask
from jaxtyping import Bool

from fmbseg.corrections.store import CorrectedRegion
from fmbseg.export.labelled import NONE
from fmbseg.export.record import ExportRecord, ShownImage, ShownRegion
from fmbseg.importing.edited import Drawn, EditError
from fmbseg.store import decode_rle, encode_rles
from fmbseg.types import Rle

Mask = Bool[np.ndarray, "height width"]

_SAME = 0.5
"""A mask that shares so much of its area with an exported one (IoU) is that one, redrawn."""


@dataclass(frozen=True)
class Comparison:
    """An image of a tool's file against the exported one.

    Attributes:
        regions: what a person left standing, the most important first. Those that are equal to an
            exported one in class and pixels keep its origin and score; all others are a person's.
            In a label map that holds pixel by pixel.
        changes: how many masks were relabelled, redrawn, added, deleted or restacked (another
            one lies on top); empty where nothing was changed.
    """

    regions: tuple[CorrectedRegion, ...]
    changes: Counter[str]


def compare(
    shown: ShownImage, drawn: Sequence[Drawn], record: ExportRecord, overlaps: bool
) -> Comparison:
    """Hold the masks of a file against those that were exported.

    Args:
        shown: the image as it was exported.
        drawn: its masks in the file, the lowest one first.
        record: tells the export's classes.
        overlaps: False where the file is a label map, in which what lies below another region
            does not show: then only what can be seen of the exported regions is compared.

    Raises:
        EditError: a class is unknown, or could be one of several.
    """
    if not overlaps:
        return _compare_maps(shown, drawn, record)
    old = [replace(one, rle=_as_encoded(one.rle)) for one in shown.regions]
    new = _uncovered(list(reversed(drawn)), record)
    kept = _pairs(old, new)
    regions = _regions(new, {place: shown.regions[was] for was, place in kept}, record)
    left, unlike = {was for was, _ in kept}, {place for _, place in kept}
    changes = _changes(
        [one.rle for place, one in enumerate(old) if place not in left],
        [one.rle for place, one in enumerate(new) if place not in unlike],
    )
    order = [was for was, _ in kept]
    if not changes and order != sorted(order) and _painted(old, shown) != _painted(new, shown):
        changes["restacked"] = 1
    return Comparison(regions, changes)


def _as_encoded(rle: Rle) -> Rle:
    """The same pixels in the run lengths that masks of tools are encoded in."""
    return encode_rles(decode_rle(rle)[None])[0]


def _uncovered(tops: Sequence[Drawn], record: ExportRecord) -> list[Drawn]:
    """The masks without those of no class of the workspace, and without what these cover."""
    found: list[Drawn] = []
    erased: Mask | None = None
    for one in tops:
        if record.classes.get(one.label, ("",)) == ():
            inside = decode_rle(one.rle)
            erased = inside if erased is None else inside | erased
            continue
        if erased is not None:
            one = Drawn.of(one.label, decode_rle(one.rle) & ~erased)
        if pycocotools.mask.area(one.rle):
            found.append(one)
    return found


def _pairs(old: Sequence[ShownRegion], new: Sequence[Drawn]) -> list[tuple[int, int]]:
    """Places of masks that are equal in class and pixels, in the order of the new ones."""
    waiting: dict[tuple[str, object], list[int]] = {}
    for place, one in enumerate(old):
        waiting.setdefault((one.label, one.rle["counts"]), []).append(place)
    found = []
    for place, drawn in enumerate(new):
        same = waiting.get((drawn.label, drawn.rle["counts"]))
        if same:
            found.append((same.pop(0), place))
    return found


def _regions(
    new: Sequence[Drawn], kept: dict[int, ShownRegion], record: ExportRecord
) -> tuple[CorrectedRegion, ...]:
    found = []
    for place, one in enumerate(new):
        was = kept.get(place)
        if was is None:
            found.append(CorrectedRegion(_own_class(one.label, record), one.rle, "person"))
        else:
            found.append(CorrectedRegion(was.class_name, one.rle, was.origin, was.score))
    return tuple(found)


def _own_class(label: str, record: ExportRecord) -> str:
    """The workspace's class of a label.

    Raises:
        EditError: there is none, or the export merged several into it.
    """
    parts = record.classes.get(label)
    if parts is None:
        near = difflib.get_close_matches(label, record.classes, 1, 0.0)
        raise EditError(f"found the class {label!r}; wanted one of the export, such as {near[0]!r}")
    if len(parts) > 1:
        raise EditError(
            f"found a changed mask of {label!r}, which stands for {', '.join(parts)} in this "
            "export; wanted a class that is one of the workspace's. Export without merging"
        )
    return parts[0]


def _changes(old: Sequence[Rle], new: Sequence[Rle]) -> Counter[str]:
    """What became of masks that are no longer there as they were."""
    found: Counter[str] = Counter()
    shares = np.zeros((len(new), len(old)))
    if old and new:
        shares = pycocotools.mask.iou(list(new), list(old), [0] * len(old))
    for row in range(len(new)):
        best = int(shares[row].argmax()) if len(old) else -1
        if best < 0 or shares[row, best] < _SAME:
            found["added"] += 1
        else:
            found["relabelled" if shares[row, best] == 1 else "redrawn"] += 1
            shares[:, best] = -1
    found["deleted"] = int((shares[0] >= 0).sum()) if new else len(old)
    return +found


def _painted(tops: Sequence[ShownRegion | Drawn], shown: ShownImage) -> bytes:
    numbers = {label: number for number, label in enumerate(sorted({one.label for one in tops}))}
    labels = np.full(shown.image_hw, NONE, np.int32)
    for one in reversed(tops):
        labels[decode_rle(one.rle)] = numbers[one.label]
    return labels.tobytes()


def _compare_maps(shown: ShownImage, drawn: Sequence[Drawn], record: ExportRecord) -> Comparison:
    """What can be seen of each exported region and kept its class; what did not, in pieces."""
    places = {label: place for place, label in enumerate(record.classes)}
    after = np.full(shown.image_hw, NONE, np.int32)
    for one in drawn:
        if one.label not in places:
            _own_class(one.label, record)
        after[decode_rle(one.rle)] = places[one.label]
    numbers = np.full(shown.image_hw, NONE, np.int32)
    for number, region in reversed(list(enumerate(shown.regions))):
        numbers[decode_rle(region.rle)] = number
    left = after.copy()
    if record.rest is not None:
        bare = (numbers == NONE) | (not record.classes[record.rest])
        left[bare & (after == places[record.rest])] = NONE
    kept: list[CorrectedRegion] = []
    gone: list[Rle] = []
    redrawn = 0
    for number, region in enumerate(shown.regions):
        seen = numbers == number
        same = seen & (after == places[region.label])
        left[same] = NONE
        if same.any():
            redrawn += not np.array_equal(same, seen)
            rle = encode_rles(same[None])[0]
            kept.append(CorrectedRegion(region.class_name, rle, region.origin, region.score))
        elif seen.any():
            gone.append(encode_rles(seen[None])[0])
    new = [
        Drawn.of(label, piece)
        for label, place in places.items()
        for piece in _pieces(left == place)
    ]
    changes = _changes(gone, [one.rle for one in new])
    changes["redrawn"] += redrawn
    return Comparison((*_regions(new, {}, record), *kept), +changes)


def _pieces(inside: Mask) -> list[Mask]:
    """The parts of a mask that are connected by sides or corners of pixels."""
    from scipy import ndimage

    parts, count = ndimage.label(inside, structure=np.ones((3, 3)))
    return [parts == number for number in range(1, count + 1)]
