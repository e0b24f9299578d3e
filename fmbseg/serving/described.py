"""What the OpenAPI document says of the picture that is sent and of the answers."""

from typing import Any

_FILE = {"schema": {"type": "string", "format": "binary"}}
_KINDS = ("image/jpeg", "image/png", "image/webp", "image/tiff", "image/bmp")

BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "description": "The bytes of the picture.",
        "content": dict.fromkeys((*_KINDS, "application/octet-stream"), _FILE),
    }
}
_COCO = {
    "images": [{"id": 1, "width": 4, "height": 3}],
    "annotations": [{
        "id": 1, "image_id": 1, "category_id": 2, "iscrowd": 0, "area": 6, "bbox": [2, 0, 2, 3],
        "segmentation": {"size": [3, 4], "counts": "66"}, "score": 0.97,
    }],
    "categories": [
        {"id": 1, "name": "road", "synonyms": ["street"]},
        {"id": 2, "name": "sky", "synonyms": []},
    ],
}  # fmt: skip
_PROBLEM = {
    "problem": "image",
    "found": "empty file",
    "wanted": "a png, jpg, bmp, tif or webp file",
}
_WORDS = {
    408: "The body did not arrive in time.",
    413: "The body is too large.",
    415: "The Content-Type is not that of a picture.",
    422: "No picture, too many pixels, or bad class names.",
    503: "All places are taken; the header Retry-After says when to come again.",
    504: "The answer took too long.",
}
RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "png, overlay and confidence: a PNG, with the class names (JSON, "
        "percent-encoded) in the header X-Classes; coco: JSON, an annotation a class.",
        "content": {"image/png": _FILE, "application/json": {"example": _COCO}},
    },
    **{
        status: {"description": words, "content": {"application/json": {"example": _PROBLEM}}}
        for status, words in _WORDS.items()
    },
}
"""Of `POST /segment`, by status."""
