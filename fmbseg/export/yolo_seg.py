"""YOLO segmentation: a polygon a line, as fractions of width and height, for instance models."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import yaml

from fmbseg.export.labelled import ExportPlan, Format, LabelledImage, Region
from fmbseg.export.placing import ImagePlacer, escaped_folders, image_name
from fmbseg.export.polygons import Polygon, fill, polygons
from fmbseg.export.region_parts import in_box, painted_order
from fmbseg.store import write_bytes

IMAGES = "images"
"""Ultralytics finds labels by putting another name for the last folder of this name."""


def ultralytics_yaml(plan: ExportPlan, **more: object) -> bytes:
    """The data set's YAML; paths in it are relative to its own folder.

    Without a split `val` names the training images, as Ultralytics wants some.
    """
    content = {
        "train": f"{IMAGES}/train",
        "val": f"{IMAGES}/{'val' if plan.has_val else 'train'}",
        **more,
        "names": dict(enumerate(plan.class_names)),
    }
    return yaml.safe_dump(content, allow_unicode=True, sort_keys=False, width=10_000).encode()


def _write(out: Path, plan: ExportPlan, images: Iterable[LabelledImage]) -> dict[str, object]:
    placer = ImagePlacer(plan)
    area_px = wrong_px = 0
    for one in images:
        stem = escaped_folders(one.stem, IMAGES)
        lines = []
        for region in painted_order(one):
            found, wrong = _polygons(region, plan.tolerance_px)
            area_px, wrong_px = area_px + region.area_px, wrong_px + wrong
            lines += [_line(region.class_index, polygon, one.image_hw) for polygon in found]
        write_bytes(out / f"labels/{one.split}/{stem}.txt", "".join(lines).encode())
        name = escaped_folders(image_name(one), IMAGES)
        placer.place(one, out / IMAGES / one.split / name)
    write_bytes(out / "data.yaml", ultralytics_yaml(plan))
    lost = wrong_px / area_px if area_px else 0.0
    return {"polygon_pixels_wrong_fraction": round(lost, 6), **placer.notes()}


def _polygons(region: Region, tolerance_px: float) -> tuple[list[Polygon], int]:
    """A region's polygons in the image, and how many pixels they cover wrongly, px."""
    inside = in_box(region)
    found = polygons(inside, tolerance_px)
    covered = np.zeros_like(inside)
    for polygon in found:
        covered |= fill(polygon, inside.shape)
    left, top, _, _ = region.box_xywh_px
    return [polygon + np.array([left, top]) for polygon in found], int((covered != inside).sum())


def _line(index: int, polygon: Polygon, image_hw: tuple[int, int]) -> str:
    """A class and its corners: the centres of pixels, so that cutting off decimals gives them."""
    fractions = (polygon + 0.5) / (image_hw[1], image_hw[0])
    return f"{index} " + " ".join(f"{value:.7f}" for value in fractions.ravel()) + "\n"


FORMAT = Format("yolo-seg", "polygons for Ultralytics' -seg models", _write, overlaps=True)
