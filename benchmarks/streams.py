"""What the steps between the models cost with very many masks: `subsample`, the training's set-up.

Made-up masks of stage 1 for as many images as COCO has, 50 each: blobs of all sizes at 640 x 480
px, in shards as the pipeline writes them. Measured, each part in a process of its own: the step
`subsample`; what the step `train` does before its first step but for the models (key, label maps,
the patch labels of all images); the numbers of masks that the report and MLflow ask for.

With `--folder` everything is kept as it is made, and the same command goes on with the parts that
are left.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from benchmarks.common import BROKEN, pin_threads
from fmbseg.align.batches import labelled_images
from fmbseg.estimate.memory import peak_bytes
from fmbseg.progress import lines_to_stderr
from fmbseg.steps import figures, subsample, train
from fmbseg.steps.label_maps import label_maps
from fmbseg.steps.shards import shards
from fmbseg.steps.training_set import Features
from fmbseg.steps.workspace import Workspace
from fmbseg.store import encode_rles, read_json, write_coco, write_json
from fmbseg.types import PseudoMask, SamMask

REPOSITORY = Path(__file__).parents[1]
COCO_IMAGES, CLASSES, SIZE_HW, GRID_HW = 118_287, 171, (480, 640), (37, 49)
COCO_MASKS, STAGE_11 = 50, 0.3
"""Masks of an image, and the share of stage 1.1."""
SECONDS, GIGABYTES = 900.0, 2.0
"""Promises: of all parts together, and of each."""


def main() -> int:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=COCO_IMAGES)
    parser.add_argument("--masks", type=int, default=COCO_MASKS, help="of an image")
    parser.add_argument("--folder", type=Path, help="kept; it holds 45 kB an image")
    parser.add_argument("--part", choices=list(_PARTS), help="measure no more than this one")
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.here:
        _measure(arguments.folder, arguments.part)
        return 0
    with tempfile.TemporaryDirectory() as temporary:
        root = (arguments.folder or Path(temporary)).resolve()
        make(root, arguments.images, arguments.masks)
        for part in [arguments.part] if arguments.part else _PARTS:
            if not _figures(root, part).is_file():
                command = ["-m", "benchmarks.streams", "--here", "--folder", str(root)]
                subprocess.run(
                    [sys.executable, *command, "--part", part], cwd=REPOSITORY, check=True,
                    stdout=sys.stderr,
                )  # fmt: skip
        return _show(root, arguments.images, arguments.masks)


def make(root: Path, images: int, masks: int) -> None:
    """Write a workspace with stage 1's output, or what is missing of it."""
    root.mkdir(parents=True, exist_ok=True)
    names = [f"{index // 10_000:02d}/{index:012d}.jpg" for index in range(images)]
    classes = [f"class {index}" for index in range(CLASSES)]
    (root / "classes.txt").write_text("".join(f"{name}\n" for name in classes))
    listing = {"images": {name: f"{name:>64}" for name in names}, "refused": []}
    write_json(root / "data/download/folder/listing.json", listing)
    params = yaml.safe_load((REPOSITORY / "params.yaml").read_text())
    params["data"] |= {"images": str(root / "images"), "classes": str(root / "classes.txt")}
    (root / "params.yaml").write_text(yaml.safe_dump(params))
    workspace = Workspace.open(root)
    of_stage = {"1.1": round(STAGE_11 * masks), "1.2": masks - round(STAGE_11 * masks)}
    pool = _blobs(np.random.default_rng(0), 1500)
    for number, (shard, members) in enumerate(shards(workspace).items()):
        folder, rng = workspace.pseudo_masks / shard, np.random.default_rng([1, number])
        if (folder / "quarantine.json").is_file():
            continue
        sizes = dict.fromkeys(members, SIZE_HW)
        for stage, count in of_stage.items():
            found = [mask for name in members for mask in _masks(rng, pool, name, stage, count)]
            write_coco(folder / f"stage{stage.replace('.', '')}.json", found, sizes, classes)
        write_json(folder / "quarantine.json", [])


def _blobs(rng: np.random.Generator, count: int) -> list[SamMask]:
    """Masks with wavy outlines, from some hundred pixels to a quarter of the image."""
    rows, cols = np.indices(SIZE_HW)
    found = []
    for _ in range(count):
        y, x = rng.integers(0, SIZE_HW[0]), rng.integers(0, SIZE_HW[1])
        radius = np.exp(rng.uniform(np.log(12), np.log(190)))
        angle = np.arctan2(rows - y, cols - x)
        edge = sum(rng.uniform(0, 0.15) * np.sin(k * angle + rng.uniform(0, 6)) for k in (2, 5, 19))
        pixels = np.hypot(rows - y, 1.4 * (cols - x)) < radius * (1 + edge)
        box = (float(x), float(y), radius, radius)
        (rle,) = encode_rles(pixels[None])
        found.append(SamMask(rle, int(pixels.sum()), box, 0.0, 0.95, ()))
    return found


def _masks(
    rng: np.random.Generator, pool: list[SamMask], image: str, stage: Any, count: int
) -> list[PseudoMask]:
    """Some masks of the pool, with scores, points and similarities of their own."""
    found = []
    picked, of = rng.integers(0, len(pool), count), rng.integers(0, CLASSES, count)
    scores, cosines = rng.uniform(0.7, 1.0, (2, count)).round(8)
    for place, index, score, cosine in zip(picked, of.tolist(), scores, cosines, strict=True):
        blob, points = pool[place], ((float(place), float(index)),)
        sam = SamMask(
            blob.rle, blob.area_px, blob.box_xywh_px, float(score), blob.stability, points
        )
        found.append(PseudoMask(image, index, f"class {index}", stage, float(cosine), sam))
    return found


class _Encoder:
    """Stands for a vision encoder that nobody asks for features."""

    dim = 1024

    def grid_hw(self, image_hw: tuple[int, int]) -> tuple[int, int]:
        return GRID_HW


def _training_set_up(workspace: Workspace) -> int:
    train.key(workspace)
    maps = label_maps(workspace)
    encoder: Any = _Encoder()
    return len(labelled_images(Features(workspace, maps.names, encoder).patch_labels(maps)))


def _counts(workspace: Workspace) -> int:
    return figures.mask_total(figures.mask_counts(workspace)).kept


_PARTS: dict[str, Callable[[Workspace], int]] = {
    "subsample": subsample.run,
    "training set-up": _training_set_up,
    "numbers of masks": _counts,
}


def _measure(root: Path, part: str) -> None:
    """Measure a part in this process and write its figures."""
    pin_threads()
    lines_to_stderr()
    began, used = time.perf_counter(), time.process_time()
    answer = _PARTS[part](Workspace.open(root))
    found = {
        "seconds": time.perf_counter() - began, "processor": time.process_time() - used,
        "gigabytes": peak_bytes() / 1e9, "answer": answer,
    }  # fmt: skip
    write_json(_figures(root, part), found)


def _figures(root: Path, part: str) -> Path:
    return root / "figures" / f"{part}.json"


def _show(root: Path, images: int, masks: int) -> int:
    found = {
        part: read_json(_figures(root, part)) for part in _PARTS if _figures(root, part).is_file()
    }
    print(f"{images:,} images of {masks} masks\n")
    print("| part | s | processor s | peak memory, GB |")
    print("|---|---|---|---|")
    for part, one in found.items():
        print(
            f"| {part} | {one['seconds']:.0f} | {one['processor']:.0f} | {one['gigabytes']:.2f} |"
        )
    seconds = sum(one["seconds"] for one in found.values())
    kept = seconds <= SECONDS and all(one["gigabytes"] <= GIGABYTES for one in found.values())
    words = "kept" if kept else "BROKEN"
    print(f"\npromise: {SECONDS:.0f} s in all, {GIGABYTES:g} GB each: {words} ({seconds:.0f} s)")
    return 0 if kept else BROKEN


if __name__ == "__main__":
    sys.exit(main())
