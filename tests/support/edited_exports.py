"""Exports of the hard images as `fmbseg export` leaves them, and tools that edit them.

A tool is a function that writes the masks of some images into an export in its own format, by
code of its own: none of it is the writer's or the reader's.
"""

import base64
import io
import json
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import PIL.Image

from fmbseg.corrections.store import Correction, read_correction
from fmbseg.export.classes import class_map
from fmbseg.export.formats import write_dataset
from fmbseg.export.labelled import ExportPlan, LabelledImage
from fmbseg.export.record import ExportRecord, recording
from fmbseg.importing.files import Files
from fmbseg.importing.plan import Plan, Target, Wishes, plan_import
from fmbseg.importing.saving import save_all
from fmbseg.store import UnitKey, file_sha, run_unit
from tests.support.export_images import CLASSES, decoded, hard_images

Masks = list[tuple[str, np.ndarray]]
"""Class and pixels of an image's masks, the lowest one first."""


@dataclass(frozen=True)
class Exported:
    """An export, the images in it, and the workspace it is of."""

    kind: str
    out: Path
    images: dict[str, LabelledImage]
    target: Target
    classes: tuple[str, ...]
    rest: str | None

    @property
    def back(self) -> Path:
        """Where the tool writes: a file beside the export, or the export itself."""
        suffix = {
            "cvat-images": ".zip",
            "cvat-masks": ".zip",
            "label-studio": ".json",
            "coco": ".json",
        }
        found = suffix.get(self.kind)
        return self.out if found is None else self.out.parent / f"edited{found}"

    def masks(self, name: str) -> Masks:
        """What the tool shows of an image."""
        one = self.images[name]
        return [(self.classes[r.class_index], decoded(r.rle)) for r in reversed(one.regions)]

    def edit(self, edits: Mapping[str, Masks]) -> None:
        """Save all images in the tool, some with other masks."""
        content = {one.stem: (one, edits.get(name, self.masks(name)))
                   for name, one in self.images.items()}  # fmt: skip
        TOOLS[self.kind](self, content)

    def plan(self, path: Path | None = None, **wishes: object) -> Plan:
        """What an import of the export, or of a file, would do."""
        asked = Wishes("anna", self.kind, **wishes)
        record = ExportRecord(self.out)
        path = path or (self.back if self.back.exists() else self.out)
        return plan_import(Files(path), record, self.target, asked)

    def take(self, path: Path | None = None, **wishes: object) -> Plan:
        """Import it."""
        plan = self.plan(path, **wishes)
        assert not plan.refused
        if plan.corrections:
            sha = ExportRecord(self.out).sha
            assert save_all(self.target.folder, sha, list(plan.corrections.values())) == []
        return plan

    def saved(self, name: str) -> Correction | None:
        """The correction of an image."""
        return read_correction(self.target.folder, name)


def exported(
    kind: str, tmp_path: Path, merge: list[str] | None = None, unlabelled: str = "none",
    images: list[LabelledImage] | None = None, names: tuple[str, ...] = CLASSES,
) -> Exported:  # fmt: skip
    """The hard images exported, with the record of it."""
    found = hard_images(tmp_path / "photographs") if images is None else images
    classes = class_map(names, merge, unlabelled)
    found = [
        replace(
            one, own_classes=tuple(r.class_index for r in one.regions),
            regions=tuple(
                replace(r, class_index=classes.index_of[r.class_index]) for r in one.regions
            ),
            labels=np.where(
                one.labels < 0, classes.rest, np.array(classes.index_of, np.int32)[one.labels]
            ).astype(np.int32),
        )
        for one in found
    ]  # fmt: skip
    shas = {one.name: file_sha(one.file) for one in found}
    plan = ExportPlan(classes.names, has_val=any(one.split == "val" for one in found))

    def compute(out: Path) -> None:
        with recording(out, classes, shas) as record:
            write_dataset(kind, out, plan, record.over(found))

    run_unit(tmp_path / "out", UnitKey(), compute)
    target = Target(tmp_path / "corrections", shas, names)
    target.folder.mkdir()
    return Exported(
        kind,
        tmp_path / "out",
        {x.name: x for x in found},
        target,
        classes.names,
        None if classes.rest < 0 else classes.names[classes.rest],
    )


Content = Mapping[str, tuple[LabelledImage, Masks]]


def box_of(inside: np.ndarray) -> tuple[int, int, int, int]:
    rows, columns = np.nonzero(inside)
    return int(columns.min()), int(rows.min()), int(columns.max()), int(rows.max())


def png(values: np.ndarray) -> bytes:
    stream = io.BytesIO()
    PIL.Image.fromarray(values).save(stream, "PNG")
    return stream.getvalue()


def labelme_shape(label: str, inside: np.ndarray) -> dict[str, object]:
    """As LabelMe 6.3 saves a mask."""
    left, top, right, bottom = box_of(inside)
    part = inside[top : bottom + 1, left : right + 1]
    return {
        "label": label, "points": [[float(left), float(top)], [float(right), float(bottom)]],
        "group_id": None, "description": "", "shape_type": "mask", "flags": {},
        "mask": base64.b64encode(png(part.astype(np.uint8))).decode(),
    }  # fmt: skip


def _labelme(exported: Exported, content: Content) -> None:
    for one, masks in content.values():
        path = exported.out / one.split / f"{one.stem}.json"
        path = path if path.is_file() else exported.out / f"{one.stem}.json"
        found = json.loads(path.read_text())
        found["version"], found["imageData"] = "6.3.0", base64.b64encode(b"picture").decode()
        found["shapes"] = [labelme_shape(label, inside) for label, inside in masks]
        path.write_text(json.dumps(found, ensure_ascii=False, indent=2))


def rows_of(inside: np.ndarray) -> list[int]:
    """Runs of a mask row after row, the first one outside, counted pixel by pixel."""
    runs, value = [0], False
    for pixel in inside.ravel():
        if pixel != value:
            runs.append(0)
            value = not value
        runs[-1] += 1
    return runs


def _cvat_images(exported: Exported, content: Content) -> None:
    """As CVAT's server writes it: a ZIP beside the export, with its own order and attributes."""
    root = ElementTree.Element("annotations")
    ElementTree.SubElement(root, "version").text = "1.1"
    for number, (one, masks) in enumerate(content.values()):
        height, width = one.image_hw
        name = one.stem + one.file.suffix
        image = ElementTree.SubElement(
            root, "image", id=str(number), name=name, subset="default", task_id="1",
            width=str(width), height=str(height),
        )  # fmt: skip
        listed = list(enumerate(masks))
        for place, (label, inside) in reversed(listed):
            left, top, right, bottom = box_of(inside)
            ElementTree.SubElement(
                image, "mask", label=label, source="manual", occluded="0", z_order=str(place),
                rle=", ".join(map(str, rows_of(inside[top : bottom + 1, left : right + 1]))),
                left=str(left), top=str(top), width=str(right - left + 1),
                height=str(bottom - top + 1),
            )  # fmt: skip
        ElementTree.SubElement(image, "tag", label=exported.classes[0], source="manual")
    with zipfile.ZipFile(exported.back, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("annotations.xml", ElementTree.tostring(root, "utf-8"))
        archive.writestr("images/a.png", b"a picture")


def _cvat_masks(exported: Exported, content: Content) -> None:
    """As CVAT's server writes it: with colours and an order of its own."""
    colours = {name: (3 * place % 251 + 1, place // 251, 77) for place, name
               in enumerate(reversed(exported.classes))}  # fmt: skip
    with zipfile.ZipFile(exported.back, "w", zipfile.ZIP_DEFLATED) as archive:
        lines = [f"{name}:{r},{g},{b}::\n" for name, (r, g, b) in colours.items()]
        archive.writestr("labelmap.txt", "# label:color_rgb:parts:actions\nbackground:0,0,0::\n"
                         + "".join(lines))  # fmt: skip
        for one, masks in content.values():
            rgb = np.zeros((*one.image_hw, 3), np.uint8)
            for label, inside in masks_with_rest(exported, one, masks):
                rgb[inside] = colours[label]
            archive.writestr(f"SegmentationClass/{one.stem}.png", png(rgb))
            archive.writestr(f"SegmentationObject/{one.stem}.png", png(rgb))


def _label_studio(exported: Exported, content: Content) -> None:
    """As "Export, JSON" writes it; masks as pixels one by one, without runs."""
    tasks: list[dict[str, object]] = []
    for number, (one, masks) in enumerate(content.values()):
        height, width = one.image_hw
        results = [
            {"id": str(place), "type": "brushlabels", "from_name": "labels", "to_name": "image",
             "original_width": width, "original_height": height, "image_rotation": 0,
             "origin": "manual",
             "value": {"format": "rle", "rle": unpacked_brush(inside), "brushlabels": [label]}}
            for place, (label, inside) in enumerate(masks)
        ]  # fmt: skip
        annotation = {"id": 2, "result": results, "was_cancelled": False,
                      "updated_at": "2026-05-02T10:00:00Z"}  # fmt: skip
        older = {"id": 1, "result": [], "was_cancelled": False,
                 "updated_at": "2026-05-01T10:00:00Z"}  # fmt: skip
        skipped = {"id": 3, "result": [], "was_cancelled": True,
                   "updated_at": "2026-05-03T10:00:00Z"}  # fmt: skip
        tasks.append(
            {"id": number, "data": {"image": "/data/x", "name": one.name},
             "annotations": [annotation, older, skipped], "predictions": [1]}
        )  # fmt: skip
    exported.back.write_text(json.dumps(tasks))


def unpacked_brush(inside: np.ndarray) -> list[int]:
    """thi.ng's stream of values of 8 bits in chunks of up to 65536 that are not repeated."""
    values = np.repeat(np.where(inside, 255, 0).ravel(), 4).tolist()
    bits = f"{len(values):032b}" + f"{7:05b}" + "".join(f"{size - 1:04b}" for size in (3, 4, 8, 16))
    for first in range(0, len(values), 65536):
        chunk = values[first : first + 65536]
        bits += "0" + "11" + f"{len(chunk) - 1:016b}" + "".join(f"{value:08b}" for value in chunk)
    bits += "0" * (-len(bits) % 8)
    return [int(bits[place : place + 8], 2) for place in range(0, len(bits), 8)]


def _png(exported: Exported, content: Content) -> None:
    wide = len(exported.classes) > 255
    for one, masks in content.values():
        values = np.full(one.image_hw, 65535 if wide else 255, np.uint16 if wide else np.uint8)
        for label, inside in masks_with_rest(exported, one, masks):
            values[inside] = exported.classes.index(label)
        (exported.out / f"labels/{one.stem}.png").write_bytes(png(values))


def _coco(exported: Exported, content: Content) -> None:
    """One file, with other ids, annotations in another order, and runs that are not compressed."""
    ids = {name: 7 + 2 * place for place, name in enumerate(reversed(exported.classes))}
    images, lists = [], []
    for number, (one, masks) in enumerate(content.values()):
        height, width = one.image_hw
        images.append({"id": 100 - number, "file_name": one.stem + one.file.suffix,
                       "height": height, "width": width})  # fmt: skip
        lists.append([
            {"id": place, "image_id": 100 - number, "category_id": ids[label], "iscrowd": 1,
             "segmentation": {"size": [height, width], "counts": rows_of(inside.T)}}
            for place, (label, inside) in enumerate(masks)
        ])  # fmt: skip
    turns = max(map(len, lists), default=0)
    mixed = [each[turn] for turn in range(turns) for each in lists if turn < len(each)]
    categories = [{"id": number, "name": name} for name, number in ids.items()]
    content_of_file = {"annotations": mixed, "images": images, "categories": categories}
    exported.back.write_text(json.dumps(content_of_file))


def masks_with_rest(exported: Exported, one: LabelledImage, masks: Masks) -> Masks:
    """With what the export gave to pixels under no region, lowest of all."""
    if exported.rest is None:
        return masks
    return [(exported.rest, np.ones(one.image_hw, bool)), *masks]


TOOLS: dict[str, Callable[[Exported, Content], None]] = {
    "labelme": _labelme, "cvat-images": _cvat_images, "cvat-masks": _cvat_masks,
    "label-studio": _label_studio, "png": _png, "coco": _coco,
}  # fmt: skip
