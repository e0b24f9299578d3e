"""What is measured, what is only counted, and how much memory runs at once."""

import random
import subprocess
import sys

import numpy as np
import pytest
import torch

from fmbseg.estimate.layout import Layout
from fmbseg.estimate.meter import ENLARGED, TEXTS, Cost, Meter
from fmbseg.models.protocols import SamEmbedding


class Clock:
    """Time passes only when somebody says so."""

    def __init__(self) -> None:
        self.time = 0.0

    def __call__(self) -> float:
        return self.time


class Model:
    """Takes a second for an image or a prompt, and two for a name."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock

    def encode(self, image: np.ndarray) -> float:
        self.clock.time += 1
        return float(image.mean())

    def prompt(self, embedding: SamEmbedding, points: np.ndarray) -> int:
        self.clock.time += len(points)
        return len(points)

    def enlarge(self, embedding: SamEmbedding, logits: torch.Tensor) -> torch.Tensor:
        self.clock.time += len(logits)
        return torch.ones(len(logits), *embedding.image_hw)

    def read(self, names: list[str], templates: list[str] | None = None) -> torch.Tensor:
        self.clock.time += 2 * len(names) * len(templates or ["{}"])
        return torch.arange(len(names))[:, None]


def metered() -> tuple[Meter, Model]:
    clock = Clock()
    meter, model = Meter(clock), Model(clock)
    kinds = {"encode": "images", "prompt": "prompts", "enlarge": ENLARGED, "read": TEXTS}
    meter.wrap(model, kinds)
    return meter, model


def an_embedding() -> SamEmbedding:
    return SamEmbedding((3, 4), None)


def test_within_the_budget_all_is_computed_and_answers_are_the_models_own():
    meter, model = metered()
    cost = Cost()
    for value in (1, 2, 3):
        with meter.measured(cost):
            assert model.encode(np.full((3, 4, 3), value)) == value
    assert (cost.units, cost.each_s) == (3, 1.0)
    assert cost.basis(5) == "3 of 5 images measured whole"


def test_beyond_the_budget_what_was_seen_is_counted_and_what_is_new_is_computed():
    meter, model = metered()
    meter.until = 5.0
    cost = Cost()
    embedding = an_embedding()
    with meter.measured(cost):
        for _ in range(4):
            model.prompt(embedding, np.zeros((3, 1, 2)))
        assert (model.enlarge(embedding, torch.zeros(2, 1, 1)) == 1).all()
        assert (model.enlarge(embedding, torch.zeros(2, 1, 1)) == -1).all(), "no mask at all"
        assert model.prompt(embedding, np.zeros((2, 1, 2))) == 2, "another number of prompts"
    assert cost.seconds == 4 * 3 + 2 * 2 + 2
    assert model.clock.time == 2 * 3 + 2 + 2
    assert cost.basis(5) == (
        "1 of 5 images measured in part (8 of 14 prompts, 2 of 4 masks enlarged)"
    )
    later = Cost()
    with meter.measured(later):
        model.prompt(embedding, np.zeros((3, 1, 2)))
    assert later.seconds == 3
    assert (
        later.basis(9) == "1 of 9 images measured in part (3 prompts at the pace of earlier ones)"
    )


def test_class_names_are_no_part_of_an_images_time_and_of_a_long_list_some_are_read():
    meter, model = metered()
    cost = Cost()
    with meter.measured(cost):
        model.clock.time += 0.5
        assert model.read(["a", "b"]).flatten().tolist() == [0, 1]
    assert (cost.seconds, cost.texts_s) == (0.5, 4.0)
    with meter.measured(cost):
        assert model.read([str(k) for k in range(5)], ["{}"] * 64).flatten().tolist() == [
            0, 1, 0, 1, 0
        ]  # fmt: skip
    assert (cost.seconds, cost.texts_s) == (0.5, 2 * 5 * 64)
    assert model.clock.time == 0.5 + 4 + 2 * 2 * 64
    model.read(["a"])
    assert cost.seconds == 0.5, "what is read between two measurements belongs to neither"


def test_work_that_is_only_counted_takes_the_memory_that_it_took_when_it_was_done(
    monkeypatch: pytest.MonkeyPatch,
):
    now, peak = [100], [100]

    def reset() -> None:
        peak[0] = now[0]

    monkeypatch.setattr("fmbseg.estimate.meter.peak_bytes", lambda: peak[0])
    monkeypatch.setattr("fmbseg.estimate.meter.reset_peak", reset)
    meter, model = metered()
    answer = model.clock

    class Hungry:
        def embed(self, image: np.ndarray) -> int:
            answer.time += 1
            peak[0] = max(peak[0], 100 + image.shape[0])
            return 0

    sam = Hungry()
    meter.wrap(sam, {"embed": "images"})
    first, second, other = Cost(), Cost(), Cost()
    for size in (400, 900):
        with meter.measured(first):
            sam.embed(np.zeros((size, 1)))
    meter.until = 0.0
    now[0] = peak[0] = 300  # what the process holds meanwhile is no part of it
    with meter.measured(second):
        sam.embed(np.zeros((400, 1)))
    with meter.measured(other):
        peak[0] = 1500
    assert (first.more_bytes, second.more_bytes, other.more_bytes) == (900, 400, 1200)


def test_the_device_is_waited_for_before_the_clock_is_read():
    waits: list[float] = []
    clock = Clock()
    meter = Meter(clock, lambda: waits.append(clock.time))
    with meter.measured(Cost()):
        clock.time += 1
    assert waits == [0.0, 1.0]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the peak can be reset there")
def test_the_peak_of_memory_is_that_since_the_reset():
    script = (
        "import numpy as np\n"
        "from fmbseg.estimate.memory import peak_bytes, reset_peak\n"
        "block = np.ones(300_000_000, np.uint8)\n"
        "del block\n"
        "reset_peak()\n"
        "low = peak_bytes()\n"
        "block = np.ones(200_000_000, np.uint8)\n"
        "print(peak_bytes() - low)\n"
    )  # in a process of its own: here, memory that other tests left would be used again
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert 190_000_000 < int(run.stdout) < 260_000_000


@pytest.mark.parametrize("seed", range(30))
def test_the_memory_of_a_step_is_the_most_of_all_that_runs_beside_it(seed: int):
    draw = random.Random(seed)
    layout = Layout(draw.randrange(1, 4), 2.0)
    for _ in range(draw.randrange(2, 14)):
        after = draw.choice([0.0, layout.end("a")])
        layout.put(draw.choice("ab"), draw.randrange(1, 9), draw.randrange(1, 50), after)
    layout.add("train", layout.end("a"), 5, 30)
    found = layout.most_bytes(together=True)
    for step in {job.step for job in layout.jobs}:  # slow and obvious: at every moment
        most = 0.0
        for moment in {one.begins for one in layout.jobs}:
            running = [one for one in layout.jobs if one.begins <= moment < one.ends]
            if any(one.step == step for one in running):
                most = max(most, sum(one.more_bytes for one in running))
        assert found[step] == most


@pytest.mark.timeout(20)
def test_a_hundred_thousand_units_are_laid_out_in_seconds():
    layout = Layout(3, 0.0)
    for _ in range(100_000):
        layout.put("pseudo_masks", 1.0, 1.0)
    assert layout.most_bytes(together=True) == {"pseudo_masks": 3.0}
    assert layout.most_bytes(together=False) == {"pseudo_masks": 1.0}
