"""A picture and what was asked of it become the answer's bytes."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import numpy as np
from jaxtyping import Float32, Integer

from fmbseg.export.label_png import coloured_png
from fmbseg.export.regions import region_of
from fmbseg.pictures.answers import CONFIDENCE_SCALE, fractions_png, overlay_png
from fmbseg.pictures.colours import palette
from fmbseg.pictures.large import label_counts
from fmbseg.segmenter import Segmenter
from fmbseg.serving.asked import Asked
from fmbseg.serving.refused import RefusedError
from fmbseg.store import UnreadableImageError, decode_image
from fmbseg.types import IGNORE, LabelMap

Labels = Integer[np.ndarray, "height width"]


@dataclass(frozen=True)
class Answer:
    """What is sent back.

    Attributes:
        content: its body.
        media_type: of the body.
        headers: `X-Classes`: the class names in order, JSON, percent-encoded.
        pixels: of the picture.
    """

    content: bytes
    media_type: str
    headers: dict[str, str]
    pixels: int


def answered(segmenter: Segmenter, body: bytes, asked: Asked, max_pixels: int) -> Answer:
    """Label a picture.

    Args:
        segmenter: the model.
        body: a PNG, JPEG, BMP, TIFF or WebP file.
        asked: by the client.
        max_pixels: a larger picture is refused before it is decoded.

    Raises:
        RefusedError: no picture, too large a one, or confidence of a model that knows none.
    """
    if asked.scores and segmenter.temperature is None:
        raise RefusedError(
            422, "confidence", "a model that does not say the temperature of its training",
            "one that does: train again, or do not ask for confidence",
        )  # fmt: skip
    try:
        image = decode_image(body, max_pixels=max_pixels)
    except UnreadableImageError as error:
        wanted = f"a png, jpg, bmp, tif or webp file of at most {max_pixels} pixels"
        raise RefusedError(422, "image", error.reason, wanted) from None
    found = segmenter.predict(
        image, asked.classes, background=asked.background or (),
        min_similarity=asked.query.min_similarity, scores=asked.scores,
    )  # fmt: skip
    names = asked.classes.names
    headers = {"X-Classes": quote(json.dumps(names, ensure_ascii=False), safe="[], ")}
    pixels = image.shape[0] * image.shape[1]
    if asked.query.format == "coco":
        content = json.dumps(coco(found, asked.classes.groups)).encode()
        return Answer(content, "application/json", {}, pixels)
    if asked.query.format == "overlay":
        present = list(label_counts(found.labels))
        content = overlay_png(image, found.labels, names, palette(len(names)), present)
    elif asked.query.format == "confidence":
        assert found.confidence is not None
        content = fractions_png(found.confidence, CONFIDENCE_SCALE)
    else:
        content = label_png(found.labels, len(names))
    return Answer(content, "image/png", headers, pixels)


def label_png(labels: Labels, count: int) -> bytes:
    """A palette PNG of at most 255 classes: its values are class indices, 255 for none."""
    return coloured_png(labels.astype(np.int32), count)


def coco(found: LabelMap, groups: Sequence[Sequence[str]]) -> dict[str, Any]:
    """A label map in COCO's words: one annotation for all pixels of a class in the picture.

    Args:
        found: the labels; with confidence, annotations have a `score`.
        groups: all names of each class.
    """
    height, width = found.labels.shape
    return {
        "images": [{"id": 1, "width": width, "height": height}],
        "annotations": annotations(found.labels, found.confidence),
        "categories": [
            {"id": index + 1, "name": names[0], "synonyms": list(names[1:])}
            for index, names in enumerate(groups)
        ],
    }


def annotations(
    labels: Labels, confidence: Float32[np.ndarray, "height width"] | None = None
) -> list[dict[str, Any]]:
    """COCO annotations of a label map: one a class that occurs; `category_id` is its index + 1.

    Args:
        labels: class index per pixel, IGNORE for none.
        confidence: of each pixel; the mean of a class's pixels is its `score`.
    """
    made: list[dict[str, Any]] = []
    for index in label_counts(labels):
        if index == IGNORE:
            continue
        inside = labels == index
        score = None if confidence is None else float(confidence[inside].mean(dtype=np.float64))
        region = region_of(inside, index, score, "prediction")
        made.append({
            "id": len(made) + 1, "image_id": 1, "category_id": index + 1, "iscrowd": 0,
            "segmentation": region.rle, "area": region.area_px, "bbox": list(region.box_xywh_px),
            **({} if score is None else {"score": score}),
        })  # fmt: skip
    return made
