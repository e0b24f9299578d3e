"""COCO instances: one annotation a region, with all of its parts and holes, as run lengths."""

from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path

from fmbseg.export.coco_files import coco_file
from fmbseg.export.labelled import ExportPlan, Format, LabelledImage
from fmbseg.export.placing import ImagePlacer, image_name, named_image
from fmbseg.export.region_parts import known_score, painted_order, splits


def image_entry(one: LabelledImage, number: int, plan: ExportPlan) -> dict[str, object]:
    """An image as COCO's list has it."""
    height, width = one.image_hw
    return {"id": number, "file_name": named_image(one, plan), "height": height, "width": width}


def _write(out: Path, plan: ExportPlan, images: Iterable[LabelledImage]) -> dict[str, object]:
    placer = ImagePlacer(plan)
    written = 0
    with ExitStack() as stack:
        files = {
            split: stack.enter_context(
                coco_file(out / f"annotations/instances_{split}.json", plan, {})
            )
            for split in splits(plan)
        }
        for number, one in enumerate(images, start=1):
            listed, annotations = files[one.split]
            listed.add(image_entry(one, number, plan))
            for region in painted_order(one):
                written += 1
                annotations.add(
                    {
                        "id": written,
                        "image_id": number,
                        "category_id": region.class_index + 1,
                        "iscrowd": 0,
                        "segmentation": region.rle,
                        "area": region.area_px,
                        "bbox": list(region.box_xywh_px),
                        **known_score(region),
                        "origin": region.origin,
                    }
                )
            placer.place(one, out / "images" / one.split / image_name(one))
    return placer.notes()


FORMAT = Format(
    "coco",
    "COCO instances; pycocotools, Detectron2, Datumaro",
    _write,
    overlaps=True,
    comes_back=True,
)
