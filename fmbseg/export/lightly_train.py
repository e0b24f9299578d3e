"""LightlyTrain's semantic segmentation: images and masks of one stem, a folder a split."""

from collections.abc import Iterable
from pathlib import Path

import yaml

from fmbseg.export.label_png import grey_png, label_values
from fmbseg.export.labelled import ExportPlan, Format, LabelledImage
from fmbseg.export.placing import ImagePlacer, image_name
from fmbseg.export.region_parts import splits
from fmbseg.store import write_bytes


def _write(out: Path, plan: ExportPlan, images: Iterable[LabelledImage]) -> dict[str, object]:
    placer = ImagePlacer(plan)
    for one in images:
        mask = grey_png(label_values(one.labels, len(plan.class_names)))
        write_bytes(out / one.split / "masks" / f"{one.stem}.png", mask)
        placer.place(one, out / one.split / "images" / image_name(one))
    # It ignores the values that no class has, and wants a val; without a split it is train again.
    content = {
        **{
            name: {"images": f"{split}/images", "masks": f"{split}/masks"}
            for name, split in zip(("train", "val"), ("train", splits(plan)[-1]), strict=True)
        },
        "classes": dict(enumerate(plan.class_names)),
    }
    text = yaml.safe_dump(content, allow_unicode=True, sort_keys=False, width=10_000)
    write_bytes(out / "data.yaml", text.encode())
    return placer.notes()


FORMAT = Format("lightly-train", "masks for LightlyTrain", _write, overlaps=False)
