"""An exported model in onnxruntime against the same model in torch, one thread each.

The whole way of a photograph of 640 x 480 px: resizing, encoder, head, comparison with 20 names,
labels at the photograph's size. The encoders have random weights; the stock way is
`Segmenter.predict`. The rows of int8 (dynamic) promise no equal labels.
"""

import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from benchmarks.common import Table, in_turn, pin_threads
from benchmarks.sliding import TEXT_DIM, RandomTexts
from fmbseg.align.head import AlignmentHead
from fmbseg.methods.aligned import AlignedSegmentation
from fmbseg.model_export.describe import runner_facts
from fmbseg.model_export.graph import features_graph, labelling_graph, save_model
from fmbseg.model_export.int8 import quantize
from fmbseg.model_export.measure import drawn
from fmbseg.models.images import ShortSide
from fmbseg.models.vision import TimmVision, build_vision
from fmbseg.runtime import Runner
from fmbseg.segmenter import Segmenter
from fmbseg.types import Image

NAMES = [f"class {k}" for k in range(20)]
TEMPERATURE, ROUNDS = 0.1, 5
ENCODERS = {
    "ViT-S/16 at its own 224 px": "vit_small_patch16_224",
    "ViT-B/14 (DINOv2) at its own 518 px": "vit_base_patch14_dinov2",
}


def main() -> int:
    """Print two rows an encoder: float32 and int8."""
    pin_threads()
    table, image = Table(), drawn((480, 640), 0)
    for title, name in ENCODERS.items():
        segmenter = random_segmenter(name)
        with tempfile.TemporaryDirectory() as folder:
            found = in_turn(_ways(segmenter, Path(folder), image), ROUNDS)
        wanted = found["torch"].answer
        equal = bool((found["float32"].answer == wanted).mean() >= 0.999)
        table.row(
            f"{title}, float32", found["float32"], found["torch"], times_stock=1.0, equal=equal
        )
        agrees = float((found["int8"].answer == wanted).mean())
        table.row(f"{title}, int8, {agrees:.1%} of the labels", found["int8"], found["torch"])
    return table.exit_code


def _ways(segmenter: Segmenter, folder: Path, image: Image) -> dict[str, Callable[[], Any]]:
    float32, int8, unparted = (folder / f"{name}.onnx" for name in ("float32", "int8", "unparted"))
    save_random(segmenter, NAMES, float32, unparted=unparted)
    whole = Runner(float32, threads=1)
    quantize(unparted, int8, Runner(unparted, threads=1))
    small = Runner(int8, threads=1)
    return {
        "torch": lambda: segmenter.predict(image, NAMES).labels,
        "float32": lambda: whole(image).labels,
        "int8": lambda: small(image).labels,
    }


def random_segmenter(name: str, short_side_px: ShortSide = "auto") -> Segmenter:
    """A segmenter of a ViT's shape; the same weights each time."""
    torch.manual_seed(0)
    vision = build_vision(name, False, short_side_px=short_side_px)
    head = AlignmentHead(vision.dim, TEXT_DIM)
    return Segmenter(AlignedSegmentation(vision, head, RandomTexts()), temperature=TEMPERATURE)


def save_random(
    segmenter: Segmenter,
    names: list[str],
    path: Path,
    *,
    half: bool = False,
    unparted: Path | None = None,
) -> None:
    """Its export with names that are built in.

    Args:
        segmenter: of `random_segmenter`.
        names: of the classes.
        path: of the file.
        half: the encoder in float16.
        unparted: where the file goes too that int8 is made of, without chunks of patches.
    """
    segmentation = segmenter.segmentation
    assert isinstance(segmentation.vision, TimmVision)
    texts = segmentation.encode_names(names)
    features = features_graph(segmentation.vision, segmentation.head, half=half)
    facts = runner_facts(segmentation, names, temperature=TEMPERATURE)
    for file, chunks in ((path, not half), (unparted, False)):
        if file is not None:
            model = labelling_graph(features, texts, TEMPERATURE, TEXT_DIM, chunks=chunks)
            save_model(file, model, facts)


if __name__ == "__main__":
    sys.exit(main())
