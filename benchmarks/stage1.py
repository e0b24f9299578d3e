"""Stage 1 of the miniature's images: ours against a plain program, and where ours spends its time.

The plain program puts the libraries together as their examples do: CLIP crop by crop,
segment-anything's predictor for the prompts of stage 1.1 and its generator for stage 1.2, each of
which encodes the image. One thread, processor seconds; both use this project's CLIP and labelling.
"""

import argparse
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pycocotools.mask
import torch
from segment_anything import SamAutomaticMaskGenerator, SamPredictor

from benchmarks.common import ROUNDS, Table, Timed, in_turn, pin_threads
from fmbseg.miniature import world
from fmbseg.models.build import FoundationModels
from fmbseg.models.protocols import ClipModel
from fmbseg.params import Params, load_params
from fmbseg.pseudo.labelling import label_masks
from fmbseg.pseudo.presence import count_votes, present_classes
from fmbseg.pseudo.prompts import top_points
from fmbseg.pseudo.settings import PseudoMasksParams
from fmbseg.pseudo.stage1 import pseudo_masks_of_image
from fmbseg.steps.foundation_models import models_of
from fmbseg.steps.workspace import Workspace
from fmbseg.types import Image, SamMask

NAMES = world.SEEN_CLASS_NAMES
PARTS = {
    "encode_dense": "CLIP", "embed": "SAM's encoder", "predict_points": "SAM's decoder",
    "upscale": "masks", "": "masks",
}  # fmt: skip
"""Method of a model to the part that it belongs to; what no model does is of the masks."""


def main() -> int:
    """Print two tables: an image's time both ways, and ours by part."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=ROUNDS)
    parser.add_argument("--images", type=int, default=8)
    arguments = parser.parse_args()
    pin_threads()
    file = Path(__file__).parents[1] / "params.yaml"
    models, options = _models(load_params(file)), load_params(file).pseudo_masks
    one_crop = _models(load_params(file, {"pseudo_masks.clip_batch_crops": 1})).clip
    images = [one.image for one in world.generate(0, arguments.images, "train")]
    texts = models.clip.encode_text(NAMES)
    parts = defaultdict[str, list[float]](list)

    def ours() -> list[tuple[list[int], set[str]]]:
        clock = Clock()
        clip, sam = Clocked(models.clip, clock), Clocked(models.sam, clock)
        found = [
            pseudo_masks_of_image(image, "x", clip, sam, texts, NAMES, options) for image in images
        ]
        clock.change("")
        for part in dict.fromkeys(PARTS.values()):
            parts[part].append(clock.seconds[part] / len(images))
        return [(one.present, _rles(mask.mask for mask in one.masks_11)) for one in found]

    def plain() -> list[tuple[list[int], set[str]]]:
        return [plain_program(image, one_crop, models.sam, texts, options) for image in images]

    timed = {
        way: Timed(tuple(s / len(images) for s in one.seconds), one.answer, one.added_bytes)
        for way, one in in_turn({"ours": ours, "plain": plain}, arguments.pairs).items()
    }
    table = Table()
    table.row(
        f"an image of 128 x 128 px, of {len(images)}; stock a plain program", timed["ours"],
        timed["plain"], times_stock=1.5, equal=timed["ours"].answer == timed["plain"].answer,
    )  # fmt: skip
    print("\n| part of ours | an image | share |\n|---|---|---|")
    for part, seconds in parts.items():
        one = Timed(tuple(seconds[1:]))  # the first round does not count
        print(f"| {part} | {one.words()} | {one.median / timed['ours'].median:.0%} |")
    return table.exit_code


def _models(params: Params) -> FoundationModels:
    return models_of(Workspace(Path(), params))


class Clock:
    """Processor seconds by part; exactly one part runs at a time."""

    def __init__(self) -> None:
        self.seconds = defaultdict[str, float](float)
        self._part, self._since = PARTS[""], time.process_time()

    def change(self, method: str) -> str:
        """From now on another part runs; gives the name of the part until now."""
        now, before = time.process_time(), self._part
        self.seconds[before] += now - self._since
        self._part, self._since = PARTS.get(method, method), now
        return before


class Clocked:
    """A model whose methods of `PARTS` are timed."""

    def __init__(self, model: Any, clock: Clock) -> None:
        self._model, self._clock = model, clock

    def __getattr__(self, name: str) -> Any:
        """The model's own attribute; a method of `PARTS` with the clock around it."""
        found = getattr(self._model, name)
        return self._timed(name, found) if name in PARTS else found

    def _timed(self, name: str, method: Callable[..., Any]) -> Callable[..., Any]:
        def call(*inputs: Any, **options: Any) -> Any:
            before = self._clock.change(name)
            try:
                return method(*inputs, **options)
            finally:
                self._clock.change(before)

        return call


@torch.inference_mode()
def plain_program(
    image: Image, clip: ClipModel, sam: Any, texts: torch.Tensor, p: PseudoMasksParams
) -> tuple[list[int], set[str]]:
    """Classes present, and stage 1.1's masks as run lengths; 1.2's are made and labelled too."""
    dense, predictor = clip.encode_dense(image), SamPredictor(sam.model)
    present = present_classes(count_votes(dense.cls, texts), p.presence_votes)
    predictor.set_image(image)
    prompted = set()
    for index in present:
        points = top_points(dense.patches, texts[index], p.prompt_points, image.shape[:2])
        masks, quality, _ = predictor.predict(points, np.ones(len(points), int))
        best = pycocotools.mask.encode(np.asfortranarray(masks[quality.argmax()]))
        if pycocotools.mask.area(best):
            prompted.add(best["counts"].decode())
    generator = SamAutomaticMaskGenerator(
        sam.model, points_per_side=sam.grid_side // 2, points_per_batch=64,
        pred_iou_thresh=p.min_predicted_iou, stability_score_thresh=p.min_stability,
        stability_score_offset=p.stability_offset, box_nms_thresh=p.nms_iou,
        output_mode="coco_rle",
    )  # fmt: skip
    found, size = [], image.shape[0] * image.shape[1]
    for one in generator.generate(image):
        if p.min_area_fraction * size <= one["area"] <= p.max_area_fraction * size:
            iou, stability = one["predicted_iou"], one["stability_score"]
            box = tuple(one["bbox"])
            found.append(SamMask(one["segmentation"], one["area"], box, iou, stability, ()))
    label_masks(found, dense, texts, present, NAMES, "x")
    return present, prompted


def _rles(masks: Any) -> set[str]:
    return {mask.rle["counts"] for mask in masks}


if __name__ == "__main__":
    sys.exit(main())
