"""Cityscapes' tree with your own classes: for loaders that were written for that data set."""

from collections.abc import Iterable
from pathlib import Path

from fmbseg.export.label_png import grey_png, label_values, require_8_bits
from fmbseg.export.labelled import ExportPlan, Format, LabelledImage
from fmbseg.export.placing import ImagePlacer, image_name
from fmbseg.export.png import write_classes
from fmbseg.store import write_bytes

_IMAGE, _LABELS = "_leftImg8bit", "_gtFine"
_NO_FOLDER = "images"
"""The city of images that lie in no folder."""


def _write(out: Path, plan: ExportPlan, images: Iterable[LabelledImage]) -> dict[str, object]:
    require_8_bits(len(plan.class_names), "cityscapes")
    placer = ImagePlacer(plan)
    taken: set[str] = set()
    for one in images:
        name = _city_and_name(one.stem, taken)
        taken.add(name)
        labels = grey_png(label_values(one.labels, len(plan.class_names)))
        for ids in ("labelIds", "labelTrainIds"):
            write_bytes(out / f"gtFine/{one.split}/{name}{_LABELS}_{ids}.png", labels)
        suffix = image_name(one)[len(one.stem) :]
        placer.place(one, out / f"leftImg8bit/{one.split}/{name}{_IMAGE}{suffix}")
    write_classes(out / "classes.txt", plan.class_names)
    return placer.notes()


def _city_and_name(stem: str, taken: set[str]) -> str:
    """One folder and one name, which loaders cut at the tree's own endings."""
    *folders, last = stem.split("/")
    for ending in (_IMAGE, _LABELS):
        last = last.replace(ending, "")
    name = f"{'-'.join(folders) or _NO_FOLDER}/{last or _NO_FOLDER}"
    number, found = 1, name
    while found in taken:
        number += 1
        found = f"{name}-{number}"
    return found


FORMAT = Format("cityscapes", "Cityscapes' tree with your classes", _write, overlaps=False)
