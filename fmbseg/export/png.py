"""Label maps as PNG files: one a picture, the value of a pixel is the index of its class."""

import csv
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from fmbseg.export.label_png import coloured_png, grey_png, none_value
from fmbseg.export.labelled import ExportPlan, Format, LabelledImage
from fmbseg.export.placing import ImagePlacer, image_name, named_image
from fmbseg.pictures.colours import palette
from fmbseg.pictures.drawing import legend, save_png
from fmbseg.store import write_bytes
from fmbseg.store.growing import growing_file


def write_classes(path: Path, class_names: Iterable[str]) -> None:
    """A text file with a class a line, in the order of the indices."""
    write_bytes(path, "".join(f"{name}\n" for name in class_names).encode())


def _write(out: Path, plan: ExportPlan, images: Iterable[LabelledImage]) -> dict[str, object]:
    count = len(plan.class_names)
    none_value(count)
    placer = ImagePlacer(plan)
    with growing_file(out / "images.csv") as table:
        rows = csv.writer(table, lineterminator="\n")
        rows.writerow(["image", "labels", "split"])
        for one in images:
            labels = f"labels/{one.stem}.png"
            write_bytes(out / labels, coloured_png(one.labels, count))
            if one.confidence is not None:
                scaled = np.rint(one.confidence.clip(0, 1) * np.float32(65_535))
                write_bytes(out / f"confidence/{one.stem}.png", grey_png(scaled.astype(np.uint16)))
            placer.place(one, out / "images" / image_name(one))
            rows.writerow([named_image(one, plan), labels, one.split])
    write_classes(out / "classes.txt", plan.class_names)
    colours = palette(count)
    save_png(out / "legend.png", legend(plan.class_names, colours, range(count)))
    return placer.notes()


FORMAT = Format("png", "label maps as PNG; any program", _write, overlaps=False, comes_back=True)
