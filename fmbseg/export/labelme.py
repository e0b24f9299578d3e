"""LabelMe: a JSON file beside every image, each region a mask in it."""

import base64
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from PIL import Image as PilImage

from fmbseg.export.labelled import ExportError, ExportPlan, Format, LabelledImage, Region
from fmbseg.export.placing import ImagePlacer, image_name, named_image
from fmbseg.export.png import write_classes
from fmbseg.export.region_parts import in_box, known_score, painted_order, split_folder
from fmbseg.store import encode_image, write_json

_VERSION = "5.5.0"
"""Of LabelMe's files: the first with masks was 5.2."""


def _write(out: Path, plan: ExportPlan, images: Iterable[LabelledImage]) -> dict[str, object]:
    placer = ImagePlacer(plan)
    for one in images:
        name = named_image(one, plan).rpartition("/")[2]
        if "\\" in name:
            raise ExportError(
                f"{one.name!r}: LabelMe takes a backslash in a name for a folder; rename the image"
            )
        height, width = one.image_hw
        content: dict[str, object] = {
            "version": _VERSION,
            "flags": {},
            "shapes": [_shape(region, plan) for region in painted_order(one)],
            "imagePath": name,
            "imageData": None,
            "imageHeight": height,
            "imageWidth": width,
        }
        folder = split_folder(plan, one)
        write_json(out / f"{folder}{one.stem}.json", content)
        placer.place(one, out / f"{folder}{image_name(one)}")
    write_classes(out / "labels.txt", plan.class_names)
    return placer.notes()


def _shape(region: Region, plan: ExportPlan) -> dict[str, object]:
    left, top, width, height = region.box_xywh_px
    mask = encode_image(PilImage.fromarray(in_box(region).astype(np.uint8)))
    score = known_score(region)
    return {
        "label": plan.class_names[region.class_index],
        "points": [[left, top], [left + width - 1, top + height - 1]],
        "group_id": None,
        "description": " ".join([region.origin, *(f"{value:.2f}" for value in score.values())]),
        "shape_type": "mask",
        "flags": {},
        "mask": base64.b64encode(mask).decode("ascii"),
        **score,
        "origin": region.origin,
    }


FORMAT = Format("labelme", "LabelMe's JSON with masks", _write, overlaps=True, comes_back=True)
