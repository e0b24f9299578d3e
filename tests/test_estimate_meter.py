"""What is really computed, what is only counted, and what a random SAM answers."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from fmbseg.estimate.meter import Meter, Phase, Rate, Work
from fmbseg.estimate.models import DECODER, OBJECTS, PASSING, MeteredSam, meter_blocks
from fmbseg.models.protocols import SamEmbedding, SamPrediction
from fmbseg.params import load_params

REPOSITORY = Path(__file__).parents[1]


class Clock:
    """Time passes only when somebody says so."""

    def __init__(self) -> None:
        self.time = 0.0

    def __call__(self) -> float:
        return self.time

    def spend(self, seconds: float) -> None:
        self.time += seconds


class Block(nn.Module):
    """Adds 1; takes a second an image."""

    def __init__(self, clock: Clock, window_size: int | None = None) -> None:
        super().__init__()
        self.clock = clock
        if window_size is not None:
            self.window_size = window_size

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        self.clock.spend(len(tokens) * (3.0 if getattr(self, "window_size", None) == 0 else 1.0))
        return tokens + 1


def test_the_first_of_each_kind_is_computed_and_more_until_the_share_is_spent():
    clock = Clock()
    meter, computed = Meter(2.0, clock=clock), []
    for kind in ["a"] * 5 + ["b"]:
        if meter.wants(kind):
            meter.compute(kind, 1, lambda: clock.spend(1.5))
            computed.append(kind)
        else:
            meter.count(kind, 1)
    assert computed == ["a", "a", "b"]


@pytest.mark.parametrize("share", [0.0, 7.0, 1e9])
def test_what_is_left_out_counts_at_the_rate_of_what_was_done(share: float):
    clock = Clock()
    meter = Meter(share, clock=clock)
    encoder = nn.Module()
    encoder.blocks = nn.ModuleList(Block(clock, window) for window in (14, 14, 0, 14, 0))
    encoder.neck = nn.Sequential(*[nn.ReLU(), nn.Identity()] * 5)
    meter_blocks(encoder, "blocks", meter)
    seconds = []
    for batch in (2, 5):
        with meter.phase() as phase:
            clock.spend(0.25)
            tokens = torch.zeros(batch, 3)
            for block in encoder.blocks:
                tokens = block(tokens)
        seconds.append(phase.seconds)
        assert phase.work["blocks (window 14)"].asked == 3 * batch
        assert phase.work["blocks (global)"].asked == 2 * batch
    assert seconds == [2 * 9 + 0.25, 5 * 9 + 0.25]
    assert (clock.time < 7 * 9 + 0.5) == (share < 1e9)
    if share == 1e9:
        assert (tokens == 5).all()


def test_a_phase_leaves_out_what_a_run_would_not_do_there():
    clock = Clock()
    meter = Meter(1e9, clock=clock)
    with meter.phase(without="names") as phase:
        meter.compute("names", 3, lambda: clock.spend(10))
        meter.compute("images", 1, lambda: clock.spend(2))
        with meter.unpaid():
            clock.spend(100)
        clock.spend(0.5)
    assert phase.seconds == 2.5
    assert set(phase.work) == {"images"}


def test_the_device_is_waited_for_before_the_clock_is_read():
    waits: list[float] = []
    clock = Clock()
    meter = Meter(1.0, clock=clock, synchronise=lambda: waits.append(clock.time))
    meter.compute("a", 1, lambda: clock.spend(1))
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


def test_work_that_is_only_counted_takes_the_memory_of_its_kind_done_before(
    monkeypatch: pytest.MonkeyPatch,
):
    """A later step's share is spent by an earlier one: SAM's encoder in `foundation`, say."""
    now, peak = [100], [100]

    def use(size: int) -> None:
        peak[0] = max(peak[0], size)

    def reset() -> None:
        peak[0] = now[0]

    monkeypatch.setattr("fmbseg.estimate.meter.peak_bytes", lambda: peak[0])
    monkeypatch.setattr("fmbseg.estimate.meter.reset_peak", reset)
    clock = Clock()
    meter = Meter(1.0, clock=clock)
    with meter.phase() as first:
        use(250)
        meter.compute("small", 1, lambda: use(150))
        meter.compute("large", 1, lambda: use(900))
        reset()
        meter.compute("large", 64, lambda: use(1900))
        use(300)
    assert first.peak_bytes == 1900
    now[0] = 400
    assert meter.rest() == 400
    with meter.phase() as small:
        meter.count("small", 5)
        use(420)
    with meter.phase() as large:
        meter.count("small", 5)
        meter.count("large", 1)
    with meter.phase() as larger:
        meter.count("large", 5)
    peaks = small.peak_bytes, large.peak_bytes, larger.peak_bytes
    assert peaks == (450, 400 + 800, 400 + 1800)


class NoiseSam:
    """A random SAM: noise for masks; takes a second a prompt."""

    grid_side = 16

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.prompts = 0

    def embed(self, image: np.ndarray) -> SamEmbedding:
        return SamEmbedding(torch.zeros(1, 4, 16, 16), image.shape[:2], (48, 64))

    def predict_points(self, embedding: SamEmbedding, points: np.ndarray) -> SamPrediction:
        self.clock.spend(len(points))
        self.prompts += len(points)
        rng = torch.Generator().manual_seed(0)
        logits = torch.randn(len(points), 3, 64, 64, generator=rng)
        return SamPrediction(logits, torch.full((len(points), 3), 0.1))

    def upscale(self, embedding: SamEmbedding, logits: torch.Tensor) -> torch.Tensor:
        height, width = embedding.image_hw
        inside = logits[None, :, :48, :]
        return nn.functional.interpolate(inside, (height, width), mode="bilinear")[0]


def test_a_random_sams_masks_are_replaced_by_different_discs_all_over_the_image():
    from fmbseg.pseudo.automatic import AutomaticOptions, automatic_masks

    clock = Clock()
    noise = NoiseSam(clock)
    sam = MeteredSam(noise, Meter(200.0, clock=clock), plausible=True)
    options = AutomaticOptions(32, 0.7, 0.7, 1.0, 0.7, 0.002, 0.95)
    image = np.zeros((96, 128, 3), np.uint8)
    masks = automatic_masks(sam, image, options)
    objects = sum(side**2 for side, _ in OBJECTS)
    assert 0.6 * objects < len(masks) <= objects
    assert 192 <= noise.prompts <= 320, "the others were left out"
    boxes = np.array([mask.box_xywh_px for mask in masks])
    assert boxes[:, 0].min() < 16
    assert (boxes[:, 0] + boxes[:, 2]).max() > 112
    assert (boxes[:, 1] + boxes[:, 3]).max() > 84
    prediction = sam.predict_points(sam.embed(image), np.full((50, 1, 2), 40.0))
    assert (prediction.predicted_iou > 0.7).float().mean() == PASSING


def test_prompts_beyond_the_share_get_the_last_answers_again_and_are_counted():
    clock = Clock()
    meter = Meter(4.0, clock=clock)
    sam = MeteredSam(NoiseSam(clock), meter, plausible=False)
    embedding = sam.embed(np.zeros((48, 64, 3), np.uint8))
    with meter.phase() as phase:
        first = sam.predict_points(embedding, np.zeros((5, 1, 2)))
        again = sam.predict_points(embedding, np.zeros((7, 1, 2)))
    assert torch.equal(again.logits, first.logits[[0, 1, 2, 3, 4, 0, 1]])
    assert phase.work[DECODER] == Work(12, 5, 5.0)
    assert phase.seconds == 12


def test_a_rate_joins_its_phases_and_says_what_was_left_out():
    phases = [Phase(2.0, {"a": Work(4, 4)}, 7), Phase(4.0, {"a": Work(4, 1), "b": Work(2, 2)}, 9)]
    joined = Rate.of(phases)
    assert (joined.seconds, joined.units, joined.peak_bytes) == (3.0, 2, 9)
    assert joined.left_out == {"a": Work(8, 5)}


@pytest.mark.weights
def test_within_the_budget_metering_changes_no_answer(tmp_path: Path):
    from fmbseg.estimate.models import MeteredModels, MeteredWorkspace
    from fmbseg.miniature.world import generate
    from fmbseg.pseudo.stage1 import pseudo_masks_of_image
    from fmbseg.steps import pseudo_masks
    from fmbseg.steps.workspace import Workspace

    params = load_params(REPOSITORY / "params.yaml", {"pseudo_masks.points_per_side": 6})
    models = MeteredModels(params, torch.device("cpu"), Meter(1e9))
    assert models.random == ()
    image, names = next(iter(generate(3, 1, "test"))).image[:100], ["sky", "grass", "boat"]
    found = []
    plain = Workspace(tmp_path, params)
    for workspace in (plain, MeteredWorkspace(tmp_path, params, models)):
        three = workspace.models()
        texts, options = three.clip.encode_text(names), pseudo_masks.options(workspace)
        masks = pseudo_masks_of_image(image, "a", three.clip, three.sam, texts, names, options)
        dense = workspace.clip("maskclip", whole_crops=True).encode_dense(image)
        found.append((masks, three.vision.encode(image).tolist(), dense.patches.tolist()))
    assert found[0] == found[1]
