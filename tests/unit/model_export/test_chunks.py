"""Patches that go through the layers some at a time."""

from collections import Counter

import numpy as np
import onnx
import onnxruntime
import pytest

from fmbseg.model_export.chunks import run_in_chunks
from fmbseg.model_export.measure import drawn
from tests.unit.model_export.conftest import BLOCKS

pytestmark = pytest.mark.weights


def test_every_layer_runs_in_chunks_of_patches(exported):
    """Before, between and after the attentions; and where the prefix goes, before the head's."""
    model = onnx.load(exported / "model.onnx")
    loops = [node.attribute[0].g for node in model.graph.node if node.op_type == "Scan"]
    inside = Counter(node.op_type for loop in loops for node in loop.node)
    assert len(loops) == BLOCKS + 3
    assert inside["MatMul"] == 4 * BLOCKS + 6
    assert inside["Gelu"] == BLOCKS + 1


@pytest.mark.parametrize("most", [7, 50, 10_000])
def test_chunks_of_any_length_change_no_feature(traced, most):
    """Two images at once, whose patches are no multiple of the chunk."""
    images = np.stack([drawn((96, 128), seed) for seed in range(2)])
    parted = onnx.ModelProto()
    parted.CopyFrom(traced)
    run_in_chunks(parted, most)
    wanted, found = (
        onnxruntime.InferenceSession(model.SerializeToString()).run(None, {"image": images})[0]
        for model in (traced, parted)
    )
    assert found.shape == wanted.shape
    assert np.allclose(found, wanted, atol=1e-5)
