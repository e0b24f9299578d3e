"""The trained segmenter as an MLflow model: encoded pictures in, label maps out.

MLflow copies this file into the model and runs it wherever the model is loaded, so it imports
nothing of tasks/ or flows/: it needs the package `fmbseg` installed there, and the weights of the
foundation models that the model was trained with.
"""

import base64
import binascii
import tempfile
from pathlib import Path
from typing import Any

import pandas as pd  # type: ignore[import-untyped]
from mlflow.models import set_model
from mlflow.pyfunc import PythonModel

from fmbseg.segmenter import Segmenter
from fmbseg.store import read_image
from fmbseg.types import Image


class SegmenterModel(PythonModel):  # type: ignore[misc]
    """Column `image` of encoded pictures to one label map each."""

    def load_context(self, context: Any) -> None:
        """Build the models that the trained folder names."""
        self._segmenter = Segmenter.load(context.artifacts["segmenter"])

    def predict(
        self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None
    ) -> list[list[list[int]]]:
        """Label every pixel of every picture; sizes may differ.

        Args:
            context: MLflow's.
            model_input: column `image`: PNG or JPEG bytes, the same in base64 (as MLflow's JSON
                carries it), or the path of a file the server can read.
            params: `classes`: any class names; default those of the training.

        Returns:
            Per picture [height][width]: index into `classes`.

        Raises:
            ValueError: no column `image`, or no class.
            UnreadableImageError: a picture that cannot be decoded.
        """
        if "image" not in model_input:
            raise ValueError(f"found columns {list(model_input)}; wanted a column 'image'")
        named = (params or {}).get("classes")
        classes = self._segmenter.trained_classes if named is None else named
        found: list[list[list[int]]] = [
            self._segmenter.predict(_read(value), [str(name) for name in classes]).labels.tolist()
            for value in model_input["image"]
        ]
        return found


def _read(value: bytes | str) -> Image:
    if isinstance(value, str):
        if _is_file(value):
            return read_image(value)
        try:
            value = base64.b64decode("".join(value.split()), validate=True)
        except binascii.Error:
            raise ValueError(
                f"image: found the text {value[:40]!r}; wanted picture bytes, base64 or a file"
            ) from None
    with tempfile.NamedTemporaryFile() as file:
        file.write(value)
        file.flush()
        return read_image(file.name)


def _is_file(text: str) -> bool:
    try:
        return Path(text).is_file()
    except OSError:  # base64 is longer than a file's name may be
        return False


set_model(SegmenterModel())
