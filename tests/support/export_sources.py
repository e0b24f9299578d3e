"""What is exported for other people's tools to read: hard cases, masks of a run, photographs."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from fmbseg.datasets.label_files import read_label_file
from fmbseg.export.formats import write_dataset
from fmbseg.export.labelled import NONE, ExportPlan, LabelledImage
from fmbseg.export.regions import paint, regions_of_map
from fmbseg.params import load_params
from fmbseg.steps.export_source import labels_of
from fmbseg.steps.workspace import Workspace
from fmbseg.vocabulary import read_classes
from tests.conftest import REPOSITORY
from tests.support.export_images import CLASSES, hard_images

CAMVID = REPOSITORY.parent / "shared" / "data" / "camvid"
CAMVID_CLASSES = 11
"""Higher numbers in its labels mean none of them."""
SOURCES = ("hard", "miniature", "camvid")
"""Images that are hard to export, the kept masks of a run, and photographs with true labels."""


@dataclass(frozen=True)
class Exported:
    out: Path
    images: list[LabelledImage]
    names: tuple[str, ...]

    def size(self) -> str:
        """Height and width of the images, as JSON."""
        return json.dumps(self.images[0].image_hw)


def export_of(kind: str, source: str, tmp_path: Path, small_run: Callable[[], Path]) -> Exported:
    """The images of a source in a format.

    Args:
        kind: the format.
        source: one of `SOURCES`.
        tmp_path: the export comes below it.
        small_run: gives the folder of a finished run.
    """
    if source == "miniature":
        root = small_run()
        settings = {"export.source": "kept", "export.val_fraction": 0.4}
        labels = labels_of(Workspace(root, load_params(root / "params.yaml", settings)))
        names, images = labels.classes.names, list(labels.images())
        assert any(region.origin == "1.1" for one in images for region in one.regions)
    elif source == "camvid":
        names, images = read_classes(CAMVID / "classes.txt").names, camvid_images()
    else:
        names, images = CLASSES, hard_images(tmp_path / "photographs")
    plan = ExportPlan(names, tolerance_px=0.0, has_val=True, about="labels of a test")
    write_dataset(kind, tmp_path / "out", plan, iter(images))
    return Exported(tmp_path / "out", images, names)


def camvid_images() -> list[LabelledImage]:
    """Some of its photographs with their true labels, a region for each connected part."""
    if not CAMVID.is_dir():
        pytest.skip("the photographs are not here")
    found: list[LabelledImage] = []
    for split in ("train", "val"):
        for path in sorted((CAMVID / "images" / split).iterdir())[:2]:
            stem = f"{split}/{path.stem}"
            numbers = read_label_file((CAMVID / "labels" / stem).with_suffix(".png"))
            numbers = numbers.astype(np.int32)
            labels = np.where(numbers < CAMVID_CLASSES, numbers, NONE)
            hw = labels.shape[0], labels.shape[1]
            regions = regions_of_map(labels, None, "person")
            assert np.array_equal(paint(regions, hw)[0], labels)
            name = f"{stem}{path.suffix}"
            found.append(LabelledImage(name, stem, path, hw, regions, labels, split=split))
    return found
