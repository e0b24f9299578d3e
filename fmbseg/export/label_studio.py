"""Label Studio: tasks with predictions, every region a brush mask, and the labelling form."""

from collections.abc import Iterable
from pathlib import Path
from urllib.parse import quote
from xml.sax.saxutils import quoteattr

import numpy as np
from jaxtyping import Bool

from fmbseg.export.coco_files import json_list
from fmbseg.export.label_png import hex_colours
from fmbseg.export.labelled import ExportPlan, Format, LabelledImage, Region
from fmbseg.export.placing import ImagePlacer, image_name, named_image
from fmbseg.export.region_parts import known_score, painted_order, row_runs
from fmbseg.store import decode_rle, write_bytes

_CHANNELS = 4
_WORD_BITS = 8
_RUN_BITS = (3, 4, 8, 16)
"""A run's length is written in the first of these that holds it."""


def brush_rle(inside: Bool[np.ndarray, "height width"]) -> list[int]:
    """A mask as Label Studio's brush keeps it: a picture of four equal channels, packed in bits.

    First 32 bits with the number of values, 5 bits with a value's bits - 1 and 4 x 4 bits with the
    bits - 1 of the four kinds of run length. Then runs: 1, two bits for the kind, the length - 1,
    the value, which is 0 or 255. (thi.ng/rle-pack; label-studio-sdk, converter/brush.py.)

    Returns:
        Bytes, row after row of the image.
    """
    values = inside.size * _CHANNELS
    bits = [f"{values:032b}{_WORD_BITS - 1:05b}", *(f"{size - 1:04b}" for size in _RUN_BITS)]
    for place, run in enumerate(row_runs(inside)):
        value, left = 255 * (place % 2), run * _CHANNELS
        while left:
            length = min(left, 1 << _RUN_BITS[-1])
            kind = next(i for i, size in enumerate(_RUN_BITS) if length <= 1 << size)
            bits.append(f"1{kind:02b}{length - 1:0{_RUN_BITS[kind]}b}{value:08b}")
            left -= length
    text = "".join(bits)
    text += "0" * (-len(text) % 8)
    return list(int(text, 2).to_bytes(len(text) // 8, "big"))


def _write(out: Path, plan: ExportPlan, images: Iterable[LabelledImage]) -> dict[str, object]:
    placer = ImagePlacer(plan)
    folder = "" if plan.images == "leave" else "images/"
    with json_list(out / "tasks.json") as tasks:
        for number, one in enumerate(images, start=1):
            path = quote(folder + named_image(one, plan))
            results = [
                _result(region, plan, one.image_hw, f"{number}-{place}")
                for place, region in enumerate(painted_order(one))
            ]
            prediction = {"model_version": plan.about, **_mean_score(one), "result": results}
            data = {
                "image": f"/data/local-files/?d={path}", "name": one.name, "split": one.split,
            }  # fmt: skip
            tasks.add({"id": number, "data": data, "predictions": [prediction]})
            placer.place(one, out / "images" / image_name(one))
    write_bytes(out / "config.xml", _form(plan).encode())
    return placer.notes()


def _result(
    region: Region, plan: ExportPlan, image_hw: tuple[int, int], number: str
) -> dict[str, object]:
    return {
        "id": number,
        "type": "brushlabels",
        "from_name": "labels",
        "to_name": "image",
        "original_width": image_hw[1],
        "original_height": image_hw[0],
        "image_rotation": 0,
        "value": {
            "format": "rle",
            "rle": brush_rle(decode_rle(region.rle)),
            "brushlabels": [plan.class_names[region.class_index]],
        },
        **known_score(region),
        "meta": {"text": [region.origin]},
    }


def _mean_score(one: LabelledImage) -> dict[str, float]:
    """Of an image, by which Label Studio sorts: the mean over its regions' areas."""
    known = [(region.score, region.area_px) for region in one.regions if region.score is not None]
    if not known:
        return {}
    total = sum(score * area for score, area in known)
    return {"score": round(total / sum(area for _, area in known), 4)}


def _form(plan: ExportPlan) -> str:
    colours = hex_colours(len(plan.class_names))
    labels = [
        f'    <Label value={quoteattr(name)} background="{colour}"/>'
        for name, colour in zip(plan.class_names, colours, strict=True)
    ]
    lines = [
        "<View>",
        '  <Image name="image" value="$image" zoom="true" zoomControl="true"/>',
        '  <BrushLabels name="labels" toName="image">',
        *labels,
        "  </BrushLabels>",
        "</View>",
    ]
    return "".join(f"{line}\n" for line in lines)


FORMAT = Format(
    "label-studio", "Label Studio's tasks with brush masks", _write, overlaps=True, comes_back=True
)
