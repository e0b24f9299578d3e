"""The tests run the library with the shapes of its signatures checked."""

import numpy as np
import pytest
import torch
from jaxtyping import TypeCheckError

from fmbseg.align.loss import prototype_supcon_loss
from fmbseg.evaluate.metrics import ConfusionMatrix
from tests.support.shape_checks import modules_with_shapes


def test_the_modules_that_state_shapes_are_found():
    found = modules_with_shapes()
    assert {"fmbseg.align.loss", "fmbseg.evaluate.metrics", "fmbseg.models.clip"} <= set(found)
    assert "fmbseg.errors" not in found


def test_a_tensor_of_a_wrong_shape_is_an_error():
    with pytest.raises(TypeCheckError, match="labels"):
        prototype_supcon_loss(torch.ones(3, 4), torch.zeros(2).long(), torch.ones(2, 4), 0.1)


def test_an_array_of_a_wrong_kind_is_an_error():
    with pytest.raises(TypeCheckError, match="matrix"):
        ConfusionMatrix.of(np.zeros((2, 3), dtype=np.float32))
