"""Weights in 8 bits: a quarter of the bytes, and faster where the processor has such products."""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto
from onnxruntime.quantization import (
    CalibrationDataReader,
    QuantType,
    quantize_dynamic,
    quantize_static,
)

from fmbseg.model_export.graph import COMPARE, save_model
from fmbseg.runtime import Runner
from fmbseg.store import read_image

MAX_CALIBRATION = 64
"""So many images are enough to see the range of every activation."""
_OPTIONS: dict[str, Any] = {
    "op_types_to_quantize": ["MatMul"], "per_channel": True, "weight_type": QuantType.QInt8,
    "reduce_range": True, "nodes_to_exclude": [COMPARE],
    "extra_options": {"MatMulConstBOnly": True, "DefaultTensorType": TensorProto.FLOAT},
}  # fmt: skip
"""Weights take 7 of their 8 bits (`reduce_range`): a processor with AVX2 but without VNNI adds two
products in 16 bits, and those of 8-bit weights overflow there. What follows onnxruntime's own
attention has no type that the quantizer knows: all of it is float32."""


def quantize(float32: Path, out: Path, runner: Runner, images: Sequence[Path] = ()) -> None:
    """Write an int8 file: the linear layers of encoder and head; all else stays float32.

    Args:
        float32: the file that it is made of.
        out: the new file.
        runner: of the float32 file; it resizes the images.
        images: that the activations' ranges are measured on, at most `MAX_CALIBRATION` of them;
            none: every image's are measured while it is labelled.
    """
    with _quiet():
        if images:
            quantize_static(
                float32, out, _Images(runner, images[:MAX_CALIBRATION]),
                activation_type=QuantType.QUInt8, **_OPTIONS,
            )  # fmt: skip
        else:
            quantize_dynamic(float32, out, **_OPTIONS)
    save_model(out, onnx.load(out), {**runner.metadata, "precision": "int8"})


class _Images(CalibrationDataReader):  # type: ignore[misc]
    """Images as the graph takes them, one at a time."""

    def __init__(self, runner: Runner, images: Sequence[Path]) -> None:
        self._runner, self._images = runner, iter(images)

    def get_next(self) -> dict[str, np.ndarray] | None:
        """The next one's inputs; None after the last."""
        path = next(self._images, None)
        if path is None:
            return None
        image = self._runner.resized(read_image(path))[None]
        return self._runner.inputs(image, (1, 1))


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the quantizer's advice on preprocessing, which this graph has had."""
    root = logging.getLogger()
    kept = root.level
    root.setLevel(logging.ERROR)
    try:
        yield
    finally:
        root.setLevel(kept)
