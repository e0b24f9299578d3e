"""CVAT for images 1.1: an XML file with a mask a region, to be uploaded as annotations."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, TextIO, cast
from xml.sax.saxutils import XMLGenerator

from fmbseg.export.label_png import hex_colours
from fmbseg.export.labelled import ExportPlan, Format, LabelledImage, Region
from fmbseg.export.placing import ImagePlacer, image_name, named_image
from fmbseg.export.region_parts import (
    in_box,
    known_score,
    painted_order,
    row_runs,
    split_folder,
    splits,
)
from fmbseg.store import write_json
from fmbseg.store.growing import growing_file

ATTRIBUTES = ("score", "origin")
"""Texts that CVAT shows beside a mask."""


class _Xml:
    """Elements, a line each."""

    def __init__(self, stream: TextIO) -> None:
        self._xml: Any = XMLGenerator(cast(Any, stream), "utf-8", short_empty_elements=True)
        self._xml.startDocument()

    @contextmanager
    def within(self, tag: str, attributes: Mapping[str, object] | None = None) -> Iterator[None]:
        """What is written meanwhile lies inside."""
        self._xml.startElement(tag, {k: str(v) for k, v in (attributes or {}).items()})
        self._xml.characters("\n")
        yield
        self._xml.endElement(tag)
        self._xml.characters("\n")

    def text(self, tag: str, text: str, **attributes: str) -> None:
        """An element that holds nothing but text."""
        self._xml.startElement(tag, attributes)
        self._xml.characters(text)
        self._xml.endElement(tag)
        self._xml.characters("\n")


def label_specification(plan: ExportPlan) -> list[dict[str, object]]:
    """The labels as CVAT's form for a new task takes them under "Raw"."""
    attributes = [
        {"name": name, "mutable": False, "input_type": "text", "default_value": "", "values": [""]}
        for name in ATTRIBUTES
    ]
    colours = hex_colours(len(plan.class_names))
    return [
        {
            "name": name,
            "color": colour,
            "type": "any",
            "attributes": attributes,
        }
        for name, colour in zip(plan.class_names, colours, strict=True)
    ]


def _write(out: Path, plan: ExportPlan, images: Iterable[LabelledImage]) -> dict[str, object]:
    placer = ImagePlacer(plan)
    with ExitStack() as stack:
        files = {}
        for split in splits(plan):
            name = f"{split}.xml" if plan.has_val else "annotations.xml"
            xml = _Xml(stack.enter_context(growing_file(out / name)))
            stack.enter_context(xml.within("annotations"))
            _head(xml, plan)
            files[split] = xml
        for number, one in enumerate(images):
            height, width = one.image_hw
            about = {
                "id": number, "name": named_image(one, plan), "width": width, "height": height,
            }  # fmt: skip
            with files[one.split].within("image", about):
                for place, region in enumerate(painted_order(one)):
                    _mask(files[one.split], region, plan.class_names[region.class_index], place)
            placer.place(one, out / f"images/{split_folder(plan, one)}{image_name(one)}")
    write_json(out / "labels.json", label_specification(plan))
    return placer.notes()


def _head(xml: _Xml, plan: ExportPlan) -> None:
    xml.text("version", "1.1")
    with xml.within("meta"), xml.within("task"):
        xml.text("name", plan.about)
        xml.text("mode", "annotation")
        with xml.within("labels"):
            for label in label_specification(plan):
                with xml.within("label"):
                    for key in ("name", "color", "type"):
                        xml.text(key, str(label[key]))
                    with xml.within("attributes"):
                        for name in ATTRIBUTES:
                            with xml.within("attribute"):
                                xml.text("name", name)
                                xml.text("mutable", "False")
                                xml.text("input_type", "text")
                                xml.text("default_value", "")
                                xml.text("values", "")


def _mask(xml: _Xml, region: Region, label: str, z_order: int) -> None:
    left, top, width, height = region.box_xywh_px
    about = {
        "label": label,
        "source": "manual" if region.origin == "person" else "auto",
        "occluded": 0,
        "rle": ", ".join(map(str, row_runs(in_box(region)))),
        "left": left,
        "top": top,
        "width": width,
        "height": height,
        "z_order": z_order,
    }
    with xml.within("mask", about):
        for name, value in {**known_score(region), "origin": region.origin}.items():
            xml.text("attribute", str(value), name=name)


FORMAT = Format(
    "cvat-images", "CVAT for images 1.1 (masks)", _write, overlaps=True, comes_back=True
)
