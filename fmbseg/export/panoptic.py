"""COCO panoptic: a PNG of segment numbers an image, and a JSON file that says what they are."""

from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path

import numpy as np
from PIL import Image as PilImage

from fmbseg.export.coco import image_entry
from fmbseg.export.coco_files import coco_file
from fmbseg.export.labelled import ExportPlan, Format, LabelledImage
from fmbseg.export.placing import ImagePlacer, image_name
from fmbseg.export.region_parts import known_score, segments, splits
from fmbseg.store import encode_image, write_bytes


def _write(out: Path, plan: ExportPlan, images: Iterable[LabelledImage]) -> dict[str, object]:
    placer = ImagePlacer(plan)
    with ExitStack() as stack:
        files = {
            split: stack.enter_context(
                coco_file(out / f"annotations/panoptic_{split}.json", plan, {"isthing": 1})
            )
            for split in splits(plan)
        }
        for number, one in enumerate(images, start=1):
            listed, annotations = files[one.split]
            listed.add(image_entry(one, number, plan))
            png, infos = _segments(one)
            name = f"{one.stem}.png"
            write_bytes(out / f"annotations/panoptic_{one.split}" / name, png)
            annotations.add({"image_id": number, "file_name": name, "segments_info": infos})
            placer.place(one, out / "images" / one.split / image_name(one))
    return placer.notes()


def _segments(one: LabelledImage) -> tuple[bytes, list[dict[str, object]]]:
    from scipy.ndimage import find_objects

    numbers, found = segments(one)
    areas_px = np.bincount(numbers.ravel(), minlength=len(found) + 1)[1:].tolist()
    infos: list[dict[str, object]] = []
    boxes = find_objects(numbers, len(found)) if found else []
    for number, (index, region) in enumerate(found, start=1):
        if areas_px[number - 1] == 0:
            continue
        rows, columns = boxes[number - 1]
        infos.append(
            {
                "id": number,
                "category_id": index + 1,
                "iscrowd": 0,
                "area": areas_px[number - 1],
                "bbox": [
                    columns.start,
                    rows.start,
                    columns.stop - columns.start,
                    rows.stop - rows.start,
                ],
                **({**known_score(region), "origin": region.origin} if region else {}),
            }
        )
    bytes_of_numbers = np.stack([numbers >> shift & 255 for shift in (0, 8, 16)], -1)
    return encode_image(PilImage.fromarray(bytes_of_numbers.astype(np.uint8))), infos


FORMAT = Format(
    "coco-panoptic", "COCO panoptic; panopticapi, Detectron2, MMDetection", _write, overlaps=False
)
