"""Several items at once: as many as a budget of memory holds, half of them where it lied."""

import numpy as np
import pytest
import torch

from fmbseg.models import clip, sam, vision
from fmbseg.models.batches import IMAGES_AT_ONCE, Batches
from fmbseg.models.build import build_model
from fmbseg.models.encoder import encoder_of


class FakeMeter:
    """A device on which every element of an item takes ten bytes."""

    def __init__(self, free_bytes: float = 4e9):
        self.free, self.worked, self.released = free_bytes, 0, 0

    def free_bytes(self):
        return int(self.free)

    def peak_bytes(self, work):
        found = work()
        return found, 10 * self.worked

    def release(self):
        self.released += 1


class FakeModel:
    """Runs out of memory over more than so many items of 100 elements."""

    def __init__(self, meter, most):
        self.meter, self.most, self.sizes = meter, most, []

    def __call__(self, some):
        self.sizes.append(len(some))
        if len(some) > self.most:
            raise torch.OutOfMemoryError
        if self.meter is not None:
            self.meter.worked = 100 * len(some)
        return [2 * item for item in some]

    def answers(self, batches, items):
        parts = list(batches.over(items, self, 100))
        assert [item for some, _ in parts for item in some] == list(items)
        return [answer for _, answers in parts for answer in answers]


@pytest.mark.parametrize(
    ("budget_gb", "free_bytes", "at_once"), [(8e-6, 1e9, 8), ("auto", 20_000, 5), (1e-9, 1e9, 1)]
)
def test_the_first_item_is_measured_and_then_a_budget_of_memory_goes_at_once(
    budget_gb, free_bytes, at_once
):
    meter = FakeMeter(free_bytes)
    batches, model = Batches("it", meter, budget_gb), FakeModel(meter, 99)
    assert model.answers(batches, range(17)) == [2 * item for item in range(17)]
    assert model.sizes[0] == 1
    assert set(model.sizes[1:-1]) == {at_once}
    assert batches.images == IMAGES_AT_ONCE


def test_a_device_that_runs_out_of_memory_gets_half_as_many_from_then_on_and_the_log_says_so(
    caplog,
):
    meter = FakeMeter()
    batches, model = Batches("SAM", meter, 32e-6), FakeModel(meter, 5)
    assert model.answers(batches, range(40)) == [2 * item for item in range(40)]
    assert model.sizes[:6] == [1, 32, 16, 8, 4, 4]
    assert meter.released == 3
    assert [line.getMessage() for line in caplog.records][:1] == [
        "SAM: the device ran out of memory over 32 at once; goes on with 16 "
        "(runtime.batch_memory_gb sets a budget)"
    ]
    model.sizes.clear()
    model.answers(batches, range(8))
    assert model.sizes == [4, 4], "it remembers"


def test_without_a_meter_the_number_is_fixed_and_one_item_that_does_not_fit_is_an_error():
    batches, model = Batches("CLIP", None, unmeasured=8), FakeModel(None, 3)
    assert model.answers(batches, range(10)) == [2 * item for item in range(10)]
    assert model.sizes == [8, 4, 2, 2, 2, 2, 2]
    assert batches.images == 1
    with pytest.raises(torch.OutOfMemoryError):
        FakeModel(None, 0).answers(batches, range(10))


def test_larger_items_go_in_smaller_batches():
    meter = FakeMeter()
    batches, model = Batches("it", meter, 8e-6), FakeModel(meter, 99)
    model.answers(batches, range(9))
    sizes = [len(some) for some, _ in batches.over(range(9), lambda some: some, 400)]
    assert sizes == [2, 2, 2, 2, 1]


SIZES_HW = [(128, 128), (96, 150), (128, 128), (96, 150), (60, 60)]
IMAGES = [
    np.random.default_rng(seed).integers(0, 256, (*size_hw, 3)).astype(np.uint8)
    for seed, size_hw in enumerate(SIZES_HW)
]


@pytest.mark.weights
def test_batches_of_images_answer_what_single_images_do(monkeypatch):
    def answers(role, **options):
        model = build_model(role, "miniature", {}, device="cpu", **options)
        one = {"clip": "encode_dense", "sam": "embed", "vision": "encode"}[role]
        encoder = encoder_of(model, getattr(model, one))
        found = [tensors(one) for _, one in encoder.over(range(len(IMAGES)), IMAGES.__getitem__)]
        assert encoder.images_at_once == (1 if alone else IMAGES_AT_ONCE)
        return [torch.cat([each.flatten() for each in one]) for one in found]

    def tensors(answer):
        if isinstance(answer, torch.Tensor):
            return [answer]
        if hasattr(answer, "cls"):
            return [answer.patches, answer.cls]
        return [answer.encoded.side.tokens, answer.encoded.side.keys]

    options = [("clip", {"short_side_px": "auto"}), ("sam", {}), ("vision", {})]
    alone = True
    singles = [answers(role, **more) for role, more in options]
    alone = False
    for module in (clip, sam, vision):
        monkeypatch.setattr(module, "meter_of", lambda device: FakeMeter())
    for (role, more), expected in zip(options, singles, strict=True):
        for found, wanted in zip(answers(role, **more), expected, strict=True):
            torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-5)
