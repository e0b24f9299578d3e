"""FiftyOne's ImageSegmentationDirectory: data/ and labels/ of one stem, 0 for no class."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from fmbseg.export.label_png import grey_png, none_value
from fmbseg.export.labelled import ExportPlan, Format, LabelledImage
from fmbseg.export.placing import ImagePlacer, image_name
from fmbseg.export.region_parts import split_folder
from fmbseg.store import write_bytes, write_json


def _write(out: Path, plan: ExportPlan, images: Iterable[LabelledImage]) -> dict[str, object]:
    placer = ImagePlacer(plan)
    kind = np.uint8 if none_value(len(plan.class_names)) == 255 else np.uint16
    for one in images:
        folder = split_folder(plan, one)
        values = (one.labels + 1).astype(kind)
        write_bytes(out / f"labels/{folder}{one.stem}.png", grey_png(values))
        placer.place(one, out / f"data/{folder}{image_name(one)}")
    names = {str(index): name for index, name in enumerate(plan.class_names, start=1)}
    write_json(out / "mask_targets.json", names)
    return placer.notes()


FORMAT = Format("fiftyone", "FiftyOne's ImageSegmentationDirectory", _write, overlaps=False)
