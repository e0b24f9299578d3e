"""The trained segmenter as an MLflow model: encoded pictures in, label maps out.

MLflow copies this file into the model and runs it wherever the model is loaded, so it imports
nothing of tasks/ or flows/: it needs the package `fmbseg` installed there, and the weights of the
foundation models that the model was trained with.

A server hands it whatever any client sends. So it opens no file, knows limits, and says what is
wrong in one line without a trace; docs/predict.md describes both.
"""

import base64
import binascii
import json
import logging
import os
import re
from collections.abc import Sequence
from typing import Any

import pandas as pd  # type: ignore[import-untyped]
from mlflow.exceptions import MlflowException
from mlflow.models import set_model
from mlflow.protos.databricks_pb2 import INTERNAL_ERROR, INVALID_PARAMETER_VALUE
from mlflow.pyfunc import PythonModel

from fmbseg.segmenter import Segmenter
from fmbseg.serving.answers import annotations, label_png
from fmbseg.store import UnreadableImageError, decode_image
from fmbseg.types import Image
from fmbseg.vocabulary import Vocabulary, VocabularyError, joined, names_of_line

LIMITS = {
    "FMBSEG_SERVE_MAX_IMAGES": 64,
    "FMBSEG_SERVE_MAX_MEGABYTES": 64,
    "FMBSEG_SERVE_MAX_MEGAPIXELS": 32,
    "FMBSEG_SERVE_MAX_CLASSES": 255,
}
"""Most of a request, all its pictures together; the environment variables of these names change
them where the model is served. Classes and background names count together."""

FORMATS = ("png", "rle", "labels")
"""How a label map is answered, the first by default; `labels`, nested lists, is a number a pixel
and slow."""
_LETTERS = re.compile(rb"[A-Za-z0-9+/=\s]+")
_log = logging.getLogger(__name__)


class RequestError(MlflowException):  # type: ignore[misc]
    """What a client is told: one line, and the status 400 (500 where the fault is ours).

    MLflow's server puts a dump of the request before the message and sends `serialize_as_json`.
    """

    def __init__(self, line: str, error_code: int = INVALID_PARAMETER_VALUE) -> None:
        super().__init__(line, error_code=error_code)
        self._line = line

    def serialize_as_json(self) -> str:
        """The answer's body."""
        return json.dumps({"error_code": self.error_code, "message": self._line})


class SegmenterModel(PythonModel):  # type: ignore[misc]
    """Column `image` of encoded pictures to one label map each."""

    def load_context(self, context: Any) -> None:
        """Build the models that the trained folder names."""
        self._segmenter = Segmenter.load(context.artifacts["segmenter"])

    def predict(
        self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None
    ) -> list[Any]:
        """Label every pixel of every picture; sizes may differ.

        Args:
            context: MLflow's.
            model_input: column `image`: PNG, JPEG, BMP, TIFF or WebP bytes, or the same in base64
                (as MLflow's JSON carries it). A path is refused whether or not it exists.
            params: `classes`: any class names, each entry like a line of a class file ("road,
                street": two names of one class); default those of the training. `background`:
                names in the same form; where one wins, the pixel is none of the classes.
                `min_similarity`: a cosine; a pixel whose best class is below is none. `format`:
                one of `FORMATS`.

        Returns:
            Per picture, by `format`. png: a palette PNG in base64, index into `classes`, 255 for
            none of them. rle: a list of COCO annotations, one a class that occurs, `category_id`
            = index + 1. labels: the numbers of the PNG as [height][width].

        Raises:
            RequestError: no column `image`, something that is no picture, bad names, or more than
                `LIMITS` allows.
        """
        try:
            return self._predict(model_input, params or {})
        except RequestError:
            raise
        except Exception:  # its text may name files of this machine: it goes to the log alone
            _log.exception("the segmenter failed")
            raise RequestError(
                "the segmenter failed; see the server's log", INTERNAL_ERROR
            ) from None

    def _predict(self, model_input: pd.DataFrame, params: dict[str, Any]) -> list[Any]:
        if not isinstance(model_input, pd.DataFrame) or "image" not in model_input:
            raise RequestError("found no column 'image'; wanted one, with an encoded picture a row")
        limits = {name: _limit(name) for name in LIMITS}
        classes, background = self._names(params, limits["FMBSEG_SERVE_MAX_CLASSES"])
        least = params.get("min_similarity")
        if least is not None and not -1 <= least <= 1:
            raise RequestError(f"min_similarity: found {least:g}; wanted a cosine, -1 to 1")
        wanted = params.get("format") or FORMATS[0]
        if wanted not in FORMATS:
            raise RequestError(f"format: found {wanted[:60]!r}; wanted one of {', '.join(FORMATS)}")
        values = list(model_input["image"])
        if len(values) > limits["FMBSEG_SERVE_MAX_IMAGES"]:
            raise RequestError(
                f"found {len(values)} pictures; wanted at most "
                f"{limits['FMBSEG_SERVE_MAX_IMAGES']:.0f} in a request"
            )
        pictures = _pictures(
            values, limits["FMBSEG_SERVE_MAX_MEGABYTES"], limits["FMBSEG_SERVE_MAX_MEGAPIXELS"]
        )
        made = (
            self._segmenter.predict(
                picture, classes, background=background or (),
                min_similarity=None if least is None or least <= -1 else least,
            ).labels
            for picture in pictures
        )  # fmt: skip
        if wanted == "png":
            return [base64.b64encode(label_png(labels, len(classes))).decode() for labels in made]
        return [annotations(labels) if wanted == "rle" else labels.tolist() for labels in made]

    def _names(self, params: dict[str, Any], most: float) -> tuple[Vocabulary, Vocabulary | None]:
        """Classes and background names of a request."""
        given = {key: params.get(key) for key in ("classes", "background")}
        lines = {key: [] if value is None else list(value) for key, value in given.items()}
        if sum(map(len, lines.values())) > most:
            raise RequestError(f"classes: found more than {most:.0f} names; wanted fewer")
        try:
            classes = self._segmenter.trained_vocabulary
            if given["classes"] is not None or classes is None:
                classes = _vocabulary(lines["classes"])
            background = _vocabulary(lines["background"]) if lines["background"] else None
            if background is not None:
                joined(classes, background)
        except VocabularyError as error:
            raise RequestError(f"classes: {error}") from None
        return classes, background


def _vocabulary(lines: Sequence[Any]) -> Vocabulary:
    return Vocabulary.of([names_of_line(str(line)) for line in lines])


def _pictures(values: Sequence[Any], megabytes: float, megapixels: float) -> list[Image]:
    """Decode a request's pictures, all of them within the limits."""
    left_bytes, left_pixels = int(megabytes * 1e6), int(megapixels * 1e6)
    pictures = []
    for number, value in enumerate(values, start=1):
        content = _bytes_of(value, number)
        left_bytes -= len(content)
        if left_bytes < 0:
            raise RequestError(
                f"picture {number}: found more than {megabytes:g} MB of pictures; wanted less in a "
                "request"
            )
        try:
            picture = decode_image(content, max_pixels=left_pixels)
        except UnreadableImageError as error:
            raise RequestError(f"picture {number}: {error.reason}") from None
        left_pixels -= picture.shape[0] * picture.shape[1]
        pictures.append(picture)
    return pictures


def _bytes_of(value: Any, number: int) -> bytes:
    """The bytes of a cell; text is base64 and nothing else.

    MLflow hands on the text of `inputs` and `instances` as bytes; no picture is all letters.
    """
    if isinstance(value, bytes | bytearray) and _LETTERS.fullmatch(value):
        value = value.decode("ascii")
    if isinstance(value, str):
        try:
            return base64.b64decode("".join(value.split()), validate=True)
        except (binascii.Error, ValueError):
            raise RequestError(
                f"picture {number}: found text that is no base64; wanted the bytes of a picture "
                "or base64 of them; paths and addresses are never opened"
            ) from None
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value)
    raise RequestError(f"picture {number}: found {type(value).__name__}; wanted bytes or base64")


def _limit(name: str) -> float:
    """A limit: the environment's, where it is set to a number."""
    text = os.environ.get(name, "")
    try:
        return float(text) if text else LIMITS[name]
    except ValueError:
        raise RequestError(f"{name}: found {text!r}; wanted a number", INTERNAL_ERROR) from None


set_model(SegmenterModel())
