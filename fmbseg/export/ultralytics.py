"""Ultralytics' semantic segmentation: a mask beside every image, for its -sem models."""

from collections.abc import Iterable
from pathlib import Path

from fmbseg.export.label_png import grey_png, label_values, require_8_bits
from fmbseg.export.labelled import ExportError, ExportPlan, Format, LabelledImage
from fmbseg.export.placing import ImagePlacer, escaped_folders, image_name
from fmbseg.export.yolo_seg import IMAGES, ultralytics_yaml
from fmbseg.store import write_bytes


def _write(out: Path, plan: ExportPlan, images: Iterable[LabelledImage]) -> dict[str, object]:
    count = len(plan.class_names)
    require_8_bits(count, "ultralytics")
    if count < 2:
        raise ExportError(
            "ultralytics reads masks of one class as 1 = the class, 0 = all else; found one class, "
            "wanted two or more. Give the pixels without a label a class with export.unlabelled, "
            "or export as yolo-seg"
        )
    placer = ImagePlacer(plan)
    for one in images:
        stem = escaped_folders(one.stem, IMAGES)
        mask = grey_png(label_values(one.labels, count))
        write_bytes(out / f"masks/{one.split}/{stem}.png", mask)
        name = escaped_folders(image_name(one), IMAGES)
        placer.place(one, out / IMAGES / one.split / name)
    write_bytes(out / "data.yaml", ultralytics_yaml(plan, masks_dir="masks"))
    return placer.notes()


FORMAT = Format("ultralytics", "masks for Ultralytics' -sem models", _write, overlaps=False)
