"""What `benchmarks.gpu` measures: a pass of every stage with a profile's models, and answers."""

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image as PilImage

from fmbseg.align.head import AlignmentHead
from fmbseg.align.trainer import train_alignment
from fmbseg.datasets.coco import CLASSES
from fmbseg.evaluate.metrics import ConfusionMatrix
from fmbseg.methods.aligned import AlignedSegmentation
from fmbseg.methods.maskclip import DenseClipSegmentation
from fmbseg.methods.segmentation import Segmentation
from fmbseg.methods.stage1 import Stage1Segmentation
from fmbseg.miniature import world
from fmbseg.models.build import FoundationModels, build_clip, build_sam, build_vision
from fmbseg.models.encoder import encoder_of
from fmbseg.models.precision import Precision
from fmbseg.models.profiles import PROFILES
from fmbseg.models.protocols import SamModel
from fmbseg.models.status import missing_weights
from fmbseg.params import Params, load_params
from fmbseg.pseudo.automatic import point_grid
from fmbseg.pseudo.settings import PseudoMasksParams
from fmbseg.pseudo.teacher import ClipSamTeacher
from fmbseg.types import Image

ALWAYS_FLOAT32 = ("training, steps",)
"""Stages that the encoders' precision does not touch."""
_SURVIVING = 0.15
"""Share of the prompts that pass SAM's filter where its weights, and so its scores, are random."""
_TRAINED_IMAGES = 20


@dataclass(frozen=True)
class Bench:
    """A profile's models in a precision, and a picture for them.

    Attributes:
        params: of the profile.
        models: on the device.
        device: where they are.
        random: its weights are not on this machine, random ones stand in.
        image: a picture.
        class_names: that it is asked for.
        options: of stage 1.
    """

    params: Params
    models: FoundationModels
    device: torch.device
    random: bool
    image: Image
    class_names: tuple[str, ...]
    options: PseudoMasksParams

    @property
    def method(self) -> AlignedSegmentation:
        """The paper's own, with a head that is not trained."""
        vision, clip = self.models.vision, self.models.clip
        head = AlignmentHead(vision.dim, clip.dim, generator=torch.Generator().manual_seed(0))
        return AlignedSegmentation(vision, head.to(self.device), clip)


def bench_of(profile: str, device: torch.device, precision: Precision) -> Bench:
    """Build a profile's models; random weights are the same in every precision."""
    params = load_params(Path(__file__).parents[1] / "params.yaml", {"models.profile": profile})
    spec, options = PROFILES[profile], params.pseudo_masks
    random = missing_weights(profile, {}) is not None
    torch.manual_seed(0)
    clip = build_clip(
        spec.clip.name, None if random else spec.clip.pretrained, params.models.projection, device,
        short_side_px=options.clip_short_side_px, stride_fraction=options.clip_stride_fraction,
        batch_crops=options.clip_batch_crops, precision=precision,
    )  # fmt: skip
    sam = build_sam(
        spec.sam.name, None if random else spec.sam.checkpoint, device, precision=precision
    )
    vision = build_vision(
        spec.vision.name, not random, device, short_side_px="auto", precision=precision
    )
    image, names = next(iter(world.generate(0, 1, "train"))).image, world.SEEN_CLASS_NAMES
    if profile != "miniature":
        image = np.asarray(PilImage.fromarray(image).resize((640, 480)))
        names = CLASSES["coco_stuff171"].names
    if random:
        options = _let_some_through(sam, image, options)
    models = FoundationModels(clip, sam, vision)
    return Bench(params, models, device, random, image, tuple(names), options)


def stages(bench: Bench) -> dict[str, Callable[[], int]]:
    """Name of each stage and its unit, to a pass of it that says how many units it did."""
    clip, sam, vision = bench.models.clip, bench.models.sam, bench.models.vision
    texts, method = clip.encode_text(bench.class_names), bench.method
    teacher = ClipSamTeacher(clip, sam, texts, bench.class_names, bench.options)
    together = teacher.images_at_once
    for_teacher = [teacher.prepare(bench.image)] * together
    embedding, points = sam.embed(bench.image), _prompts(sam, bench.image)
    truth = np.zeros(bench.image.shape[:2], np.uint8)

    def encoder(model: Any, one: Callable[[Image], Any]) -> Callable[[], list[Any]]:
        parts = encoder_of(model, one)
        prepared = [parts.prepare(bench.image)] * parts.images_at_once
        return lambda: parts.encode(prepared)

    crops = encoder(clip, clip.encode_dense)
    embed, encode = encoder(sam, sam.embed), encoder(vision, vision.encode)

    def prompted() -> int:
        sam.predict_points(embedding, points, lambda iou: iou > bench.options.min_predicted_iou)
        return len(points)

    def evaluated() -> int:
        labels = method.segment(bench.image, bench.class_names).labels
        ConfusionMatrix(len(bench.class_names)).update(labels, truth)
        return 1

    return {
        "CLIP, crops": lambda: sum(len(one.cls) for one in crops()),
        "SAM's encoder, images": lambda: len(embed()),
        "SAM's decoder, prompts": prompted,
        "stage 1, images": lambda: len(list(teacher.pseudo_masks(for_teacher, ["x"] * together))),
        "vision encoder, images": lambda: len(encode()),
        "training, steps": lambda: _trained(bench),
        f"evaluation, {len(bench.class_names)} classes, images": evaluated,
    }


def _trained(bench: Bench, epochs: int = 5) -> int:
    """Train a head on made-up features and labels; how many steps that took."""
    settings = bench.params.train.changed(epochs=epochs, save_every_seconds=1e9)
    vision, classes = bench.models.vision, len(bench.class_names)
    rows, cols = vision.grid_hw((bench.image.shape[0], bench.image.shape[1]))
    draw = torch.Generator().manual_seed(0)
    features = [torch.randn(rows, cols, vision.dim, generator=draw)] * _TRAINED_IMAGES
    labels = [torch.randint(classes, (rows, cols), generator=draw)] * _TRAINED_IMAGES
    texts = torch.randn(classes, bench.models.clip.dim, generator=draw)
    texts = torch.nn.functional.normalize(texts, dim=1)
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder)
        train_alignment(
            features, labels, texts, settings, out, out / "resume", progress=False,
            device=str(bench.device),
        )  # fmt: skip
    return epochs * -(-_TRAINED_IMAGES // settings.batch_images)


def _prompts(sam: SamModel, image: Image) -> Float[np.ndarray, "point 1 2"]:
    """Stage 1.2's grid, a point a prompt."""
    return point_grid(sam.grid_side // 2, (image.shape[0], image.shape[1]))[:, None, :]


def _let_some_through(sam: SamModel, image: Image, options: PseudoMasksParams) -> PseudoMasksParams:
    """Thresholds that random weights pass about as often as trained ones pass theirs."""
    best = sam.predict_points(sam.embed(image), _prompts(sam, image)).predicted_iou.amax(1)
    passing = float(best.float().cpu().quantile(1 - _SURVIVING))
    return options.model_copy(
        update={"min_predicted_iou": passing, "min_stability": 0.0, "min_area_fraction": 0.0,
                "max_area_fraction": 1.0, "nms_iou": 1.0}
    )  # fmt: skip


@dataclass(frozen=True)
class Answers:
    """What the models say of the picture in one precision.

    Attributes:
        numbers: name to an array of float32.
        labels: name of a method to its label map; none where weights are random, since their
            classes are all but tied.
    """

    numbers: dict[str, np.ndarray]
    labels: dict[str, np.ndarray]

    def against(self, other: "Answers", what: str) -> str:
        """How far a named answer is from another precision's."""
        if what in self.labels:
            return f"{np.mean(self.labels[what] == other.labels[what]):.2%} of pixels equal"
        ours, theirs = self.numbers[what], other.numbers[what]
        return f"differs by {np.abs(ours - theirs).max():.2g} of {np.abs(theirs).max():.2g}"


def answers(bench: Bench) -> Answers:
    """Ask every model, and three methods."""
    clip, sam, vision = bench.models.clip, bench.models.sam, bench.models.vision
    prediction = sam.predict_points(sam.embed(bench.image), _prompts(sam, bench.image)[:64])
    numbers = {
        "CLIP's patches": clip.encode_dense(bench.image).patches,
        "vision features": vision.encode(bench.image),
        "predicted IoU": prediction.predicted_iou,
    }
    methods: dict[str, Segmentation] = {
        "label map, `maskclip`": DenseClipSegmentation(clip),
        "label map, `stage1`": Stage1Segmentation(clip, sam, bench.options),
        "label map, `fmbseg`, head not trained": bench.method,
    }
    return Answers(
        {name: one.float().cpu().numpy() for name, one in numbers.items()},
        {name: one.segment(bench.image, bench.class_names).labels for name, one in methods.items()}
        if not bench.random else {},
    )  # fmt: skip
