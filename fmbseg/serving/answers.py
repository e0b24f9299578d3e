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
from fmbseg.methods.aligned import EncodedImage
from fmbseg.pictures.answers import (
    CONFIDENCE_SCALE,
    SIMILARITY_SCALE,
    fractions_png,
    overlay_png,
)
from fmbseg.pictures.colours import palette
from fmbseg.pictures.large import label_counts
from fmbseg.segmenter import Segmenter
from fmbseg.serving.asked import Asked
from fmbseg.types import IGNORE, Image, LabelMap

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


def answer_of(
    segmenter: Segmenter, encoded: EncodedImage, asked: Asked, image: Image | None
) -> Answer:
    """Label a picture.

    Args:
        segmenter: the model.
        encoded: the picture, by `segmenter.encode`.
        asked: by the client.
        image: the picture itself, for an overlay.
    """
    found = segmenter.predict(
        encoded, asked.classes, background=asked.background or (),
        min_similarity=asked.query.min_similarity, scores=asked.scores,
    )  # fmt: skip
    names = asked.classes.names
    headers = {"X-Classes": quote(json.dumps(names, ensure_ascii=False), safe="[], ")}
    pixels = encoded.image_hw[0] * encoded.image_hw[1]
    if asked.query.format == "coco":
        content = json.dumps(coco(found, asked.classes.groups)).encode()
        return Answer(content, "application/json", {}, pixels)
    if asked.query.format == "overlay":
        assert image is not None
        present = list(label_counts(found.labels))
        content = overlay_png(image, found.labels, names, palette(len(names)), present)
    elif asked.query.format == "confidence":
        assert found.confidence is not None
        content = fractions_png(found.confidence, CONFIDENCE_SCALE)
    elif asked.query.format == "similarity":
        assert found.best_similarity is not None
        content = fractions_png(found.best_similarity, SIMILARITY_SCALE, least=-1)
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
