"""`fmbseg estimate`: what is metered, how it is extrapolated, what is said about it."""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image as PilImage
from torch import nn

from fmbseg.cli import main
from fmbseg.datasets import DatasetError
from fmbseg.estimate.figures import Figures
from fmbseg.estimate.memory import peak_bytes, reset_peak
from fmbseg.estimate.meter import Meter, Phase, Rate, Work
from fmbseg.estimate.models import DECODER, OBJECTS, PASSING, MeteredSam, meter_blocks
from fmbseg.estimate.project import Row, project, total
from fmbseg.estimate.sample import Sample, sample_of
from fmbseg.estimate.table import human_time, lines
from fmbseg.models.protocols import SamEmbedding, SamPrediction
from fmbseg.params import ParamsError, load_params
from fmbseg.vocabulary import Vocabulary
from tests import official_trees as trees

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
    block = np.ones(300_000_000, np.uint8)
    del block
    reset_peak()
    low = peak_bytes()
    block = np.ones(200_000_000, np.uint8)
    assert 190_000_000 < peak_bytes() - low < 260_000_000
    del block


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


@pytest.mark.weights
def test_within_the_budget_metering_changes_no_answer():
    from fmbseg.estimate.models import build_metered
    from fmbseg.estimate.steps import stage1_options
    from fmbseg.miniature.world import generate
    from fmbseg.models.build import build_clip, build_sam, build_vision
    from fmbseg.pseudo.stage1 import pseudo_masks_of_image

    params = load_params(REPOSITORY / "params.yaml", {"pseudo_masks.points_per_side": 6})
    metered = build_metered(params, torch.device("cpu"), Meter(1e9))
    assert metered.random == ()
    clip = build_clip("miniature", None, params.models.projection, short_side_px="auto")
    plain = clip, build_sam("miniature")
    image, names = next(iter(generate(3, 1, "test"))).image[:100], ["sky", "grass", "boat"]
    options = stage1_options(params, plain[1].grid_side)
    texts = clip.encode_text(names)
    wanted = pseudo_masks_of_image(image, "a", *plain, texts, names, options)
    models = metered.models
    found = pseudo_masks_of_image(image, "a", models.clip, models.sam, texts, names, options)
    assert found == wanted
    features = build_vision("miniature", short_side_px="auto").encode(image)
    assert torch.equal(models.vision.encode(image), features)


def rate(seconds: float, units: int = 2, peak: int = 10) -> Rate:
    return Rate(seconds, units, {}, peak)


FIGURES = Figures(
    base_bytes=1000, texts_s=7.0, stage1=rate(3.0, peak=5000), stage1_bytes=11.0,
    subsample=rate(0.5), kept_bytes=4.0, masks_memory_bytes=20.0, kept_memory_bytes=6.0,
    encode=rate(2.0, peak=3000), feature_bytes=100.0, labels=rate(0.25), label_bytes=8.0,
    step=rate(10.0, units=3, peak=2000), model_bytes=500,
    methods={"foundation": rate(1.0), "maskclip": rate(2.0), "stage1": rate(4.0, peak=9)},
    unknown_methods=(), guessed_labels=False,
)  # fmt: skip
SAMPLE = Sample("t", ("a",), lambda name: None, 10, 5, Vocabulary(("x",), ((),)), 1234, 99)


def test_the_steps_are_scaled_as_the_pipeline_runs_them():
    params = load_params(
        REPOSITORY / "params.yaml",
        {"data.shard_images": 4, "train.epochs": 6, "train.batch_images": 4,
         "train.feature_cache_gb": 350 / 1e9},
    )  # fmt: skip
    rows = project(params, SAMPLE, FIGURES, workers=2, clip_bytes=777)
    by = {row.step.strip(): row for row in rows}
    assert (by["download"].seconds, by["download"].disk_bytes) == (None, 1234)
    stage1 = by["pseudo_masks"]
    assert stage1.seconds == 10 * 3 + 7
    assert stage1.seconds_many == 8 * 3 + 7, "three shards of 4, 4 and 2 images by two workers"
    assert (stage1.disk_bytes, stage1.memory_bytes) == (110, 5000)
    assert by["subsample"].seconds == 5
    assert by["subsample"].memory_bytes == 1000 + 200
    # 3 of 10 features fit the cache: each image once, the other 7 again in all 6 epochs.
    train = by["train"]
    assert train.seconds == 7 + (10 + 6 * 7) * 2 + 10 * 0.25 + 6 * 3 * 10
    assert train.seconds_many == train.seconds
    assert train.memory_bytes == 3000 + 3 * 100 + 10 * (6 + 8)
    assert "52 encodings" in train.basis
    assert "18 steps" in train.basis
    times = {"foundation": 5 + 7, "maskclip": 10 + 7, "stage1": 20 + 7}
    assert {m: by[m].seconds for m in times} == times
    assert by["evaluate"].seconds == sum(times.values())
    assert by["evaluate"].seconds_many == 12 + 17, "the longest method is one unit"
    assert by["maskclip"].memory_bytes == 10 + 777, "its projection is not the profile's"
    assert by["stage1"].memory_bytes == 9
    whole = total(rows)
    assert whole.seconds == 37 + 5 + train.seconds + 56
    assert whole.disk_bytes == 1234 + 110 + 40 + 500


def test_without_labels_nothing_is_scored():
    params = load_params(REPOSITORY / "params.yaml")
    rows = project(
        params, replace(SAMPLE, scored_images=0), replace(FIGURES, methods={}), workers=1,
        clip_bytes=0,
    )  # fmt: skip
    assert rows[-1].seconds is None
    assert "no labels" in rows[-1].basis


def test_a_rate_joins_its_phases_and_says_what_was_left_out():
    phases = [Phase(2.0, {"a": Work(4, 4)}, 7), Phase(4.0, {"a": Work(4, 1), "b": Work(2, 2)}, 9)]
    joined = Rate.of(phases)
    assert (joined.seconds, joined.units, joined.peak_bytes) == (3.0, 2, 9)
    assert joined.left_out == {"a": Work(8, 5)}


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.04, "0.0 s"), (9.96, "10.0 s"), (35, "35 s"), (119, "119 s"), (600, "10 min"),
     (7200, "2.0 h"), (36 * 3600, "36.0 h"), (10 * 86400, "10.0 days"), (200 * 86400, "200 days"),
     (800 * 86400, "2.2 years")],
)  # fmt: skip
def test_durations_are_written_as_people_say_them(seconds: float, words: str):
    assert human_time(seconds) == words


def test_the_table_has_a_line_a_step_and_one_for_its_basis():
    rows = [Row("train", 60.0, 60.0, 5e6, 2e9, "why"), Row("  part", 5.0, None, 0, None, "how")]
    found = lines(rows, 8)
    assert found[0].split() == ["step", "1", "worker", "8", "workers", "disk", "memory"]
    assert found[1].split() == ["train", "60", "s", "60", "s", "5.0", "MB", "2.0", "GB"]
    assert found[2].split() == ["part", "5.0", "s", "-", "-", "-"]
    assert len({len(line) for line in found[:3]}) == 1
    assert found[-2:] == ["train: why", "part: how"]


def test_a_public_data_set_stands_for_itself_where_it_is_and_for_its_usual_size_where_not(
    tmp_path: Path,
):
    params = load_params(REPOSITORY / "params.yaml")
    (tmp_path / "drawn").mkdir()
    absent = sample_of(params, "coco_stuff171", 2, tmp_path, tmp_path / "drawn")
    assert (absent.images, absent.scored_images, len(absent.vocabulary)) == (118_287, 5_000, 171)
    assert absent.read(absent.names[1]).shape == (480, 640, 3)
    assert "640 x 480" in absent.note
    assert absent.fetch_bytes == absent.disk_bytes > 20e9
    trees.voc2012(tmp_path)
    present = sample_of(params, "voc21", 3, tmp_path, tmp_path / "drawn")
    assert (present.images, present.note, len(present.vocabulary)) == (1464, "", 20)
    assert present.names == ("2007_000000.jpg",)
    assert present.read("2007_000000.jpg").shape == (13, 17, 3)


@pytest.fixture
def folder_params(tmp_path: Path) -> dict[str, str]:
    (tmp_path / "images").mkdir()
    for index in range(9):
        picture = PilImage.fromarray(np.full((20, 30, 3), index, np.uint8))
        picture.save(tmp_path / f"images/{index}.png")
    (tmp_path / "classes.txt").write_text("sky\ngrass\n")
    return {"data.images": str(tmp_path / "images"), "data.classes": str(tmp_path / "classes.txt")}


def test_a_folder_is_sampled_evenly_and_a_number_stands_for_more_of_it(
    folder_params: dict[str, str], tmp_path: Path
):
    params = load_params(REPOSITORY / "params.yaml", folder_params)
    found = sample_of(params, None, 3, tmp_path, tmp_path)
    assert found.names == ("0.png", "4.png", "8.png")
    assert (found.images, found.scored_images, found.disk_bytes) == (9, 0, 0)
    assert sample_of(params, "1000", 3, tmp_path, tmp_path).images == 1000
    labelled = load_params(
        REPOSITORY / "params.yaml", {**folder_params, "data.labels": str(tmp_path)}
    )
    assert sample_of(labelled, None, 20, tmp_path, tmp_path).scored_images == 9
    assert len(sample_of(labelled, None, 20, tmp_path, tmp_path).names) == 9


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--images", "voc99"], "wanted a number, or one of voc21"),
        (["--images", "0"], "wanted at least 1"),
        (["--sample", "0"], "--sample: wanted at least 1"),
        (["--workers", "0"], "--workers: wanted at least 1"),
        (["--params", "nothing.yaml"], "no such file"),
    ],
)
def test_a_mistake_is_one_line_and_exit_2(
    arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
):
    assert main(["estimate", "--params", str(REPOSITORY / "params.yaml"), *arguments]) == 2
    error = capsys.readouterr().err
    assert words in error
    assert error.count("\n") == 1


def test_a_folder_that_is_not_there_is_told(tmp_path: Path):
    params = load_params(REPOSITORY / "params.yaml", {"data.images": str(tmp_path / "none")})
    with pytest.raises((ParamsError, DatasetError), match="found no image"):
        sample_of(params, None, 1, tmp_path, tmp_path)


@pytest.mark.weights
def test_the_command_prints_a_table_for_as_many_images_as_asked_for(
    small_workspace: Path, capsys: pytest.CaptureFixture[str]
):
    params = str(small_workspace / "params.yaml")
    assert main(["estimate", "--params", params, "--images", "118287", "--sample", "1",
                 "--workers", "3", "--budget-seconds", "30"]) == 0  # fmt: skip
    out = capsys.readouterr().out
    assert "118,287 images, 14 classes" in out
    assert "all figures of the table are extrapolated" in out
    assert "3 workers" in out
    for step in ("download", "pseudo_masks", "subsample", "train", "evaluate", "stage1", "all"):
        assert any(line.split()[:1] == [step] for line in out.splitlines())
    assert "pseudo_masks: 1 of 118,287 images measured whole" in out
    assert "random" not in out


@pytest.mark.weights
def test_missing_weights_are_said_and_random_ones_are_timed_within_the_budget(
    small_workspace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):  # fmt: skip
    import json

    from fmbseg.miniature.sam_architecture import build_sam_from_config
    from fmbseg.models.weights import MINIATURE_FOLDER

    monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    config = json.loads((MINIATURE_FOLDER / "sam/sam_config.json").read_text())
    registry = {"vit_b": lambda: build_sam_from_config(config)}
    monkeypatch.setattr("fmbseg.models.sam.sam_model_registry", registry)
    file = small_workspace / "params.yaml"
    tree = yaml.safe_load(file.read_text())
    tree["models"] |= {"sam": {"name": "vit_b"}, "vision": {"name": "vit_tiny_patch16_224"}}
    file.write_text(yaml.safe_dump(tree))
    assert main(["estimate", "--params", str(file), "--images", "voc20", "--sample", "2",
                 "--budget-seconds", "1", "--root", str(tmp_path)]) == 0  # fmt: skip
    out = capsys.readouterr().out
    assert "weights of sam, vision are not here: random ones" in out
    assert "drawn pictures of 500 x 375 px stand for it" in out
    assert "discs an image" in out
    assert "measured in part" in out
    assert "what was left out counts at the mean" in out
