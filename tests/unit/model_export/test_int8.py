"""Weights in 8 bits against those in 32."""

import pytest
from PIL import Image

from fmbseg.evaluate.metrics import ConfusionMatrix
from fmbseg.model_export.graph import labelling_graph, save_model
from fmbseg.model_export.int8 import quantize
from fmbseg.model_export.measure import drawn
from fmbseg.runtime import Runner
from tests.unit.model_export.conftest import TEXT_DIM, WORDS

pytestmark = pytest.mark.weights


@pytest.mark.parametrize("calibrated", [False, True])
def test_eight_bits_lose_little_and_save_half_the_bytes(
    exported, traced, runner, calibrated, tmp_path
):
    images = [drawn((120, 140 + 10 * k), k) for k in range(4)]
    paths = [tmp_path / f"{k}.png" for k in range(4)]
    for path, image in zip(paths, images, strict=True):
        Image.fromarray(image).save(path)
    whole, int8 = tmp_path / "whole.onnx", tmp_path / "int8.onnx"
    model = labelling_graph(traced, None, runner.metadata["temperature"], TEXT_DIM)
    save_model(whole, model, runner.metadata)
    quantize(whole, int8, runner, paths if calibrated else ())
    small = Runner(int8, exported / "words.npz", threads=1)
    assert small.metadata == {**runner.metadata, "precision": "int8"}
    assert int8.stat().st_size < 0.5 * (exported / "model.onnx").stat().st_size
    counts = ConfusionMatrix(len(WORDS))
    for image in images:
        counts.update(small(image).labels.astype(int), runner(image).labels.astype(int))
    assert counts.miou() > 0.85, "of float32's own labels"
