"""Training by two processes of one thread each against one process, where the encoder is the work.

A ViT-S of random weights encodes every image anew (`train.feature_cache: off`); torchrun starts the
processes, and their first step does not count. Wall clock.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from safetensors.torch import load_file
from torch import distributed

from benchmarks.common import ROUNDS, Table, Timed, pin_threads
from fmbseg.align.ranks import Ranks
from fmbseg.align.trainer import train_alignment
from fmbseg.models.vision import build_vision
from fmbseg.params import load_params

REPOSITORY = Path(__file__).parents[1]
IMAGES, BATCH, SIDE_PX, CLASSES, TEXT_DIM = 32, 4, 224, 14, 512
FASTER = 1 / 0.6
"""Two processes take at most 0.6 of the time of one."""


def main() -> int:
    """Print a table; as one of torchrun's processes, train and leave the seconds in a folder."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--inside", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.inside:
        return _train(arguments.inside)
    table = Table()
    with TemporaryDirectory() as folder:
        seconds: dict[int, list[float]] = {1: [], 2: []}
        for turn in range(arguments.rounds):
            for count in (1, 2)[:: -1 if turn % 2 else 1]:
                seconds[count].append(_run(count, Path(folder) / str(count)))
        heads = [load_file(Path(folder) / str(n) / "alignment.safetensors") for n in seconds]
    one, two = (Timed(tuple(seconds[count])) for count in (1, 2))
    equal = all(torch.allclose(heads[1][k], one_of, atol=1e-5) for k, one_of in heads[0].items())
    table.row(
        f"{IMAGES} images of {SIDE_PX} px in batches of {BATCH}, ViT-S, loss over all patches of a "
        "batch; ours 2 processes, stock 1", two, one, times_stock=FASTER, equal=equal,
    )  # fmt: skip
    return table.exit_code


def _run(count: int, folder: Path) -> float:
    """Seconds of a training by so many processes."""
    subprocess.run(
        [
            sys.executable, "-m", "torch.distributed.run", "--standalone",
            "--nproc-per-node", str(count), "-m", "benchmarks.ddp", "--inside", str(folder),
        ],
        cwd=REPOSITORY, check=True,
    )  # fmt: skip
    return float(json.loads((folder / "seconds.json").read_text()))


def _train(folder: Path) -> int:
    pin_threads()
    distributed.init_process_group("gloo")
    ranks = Ranks(int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"]))
    torch.manual_seed(0)
    vision = build_vision("vit_small_patch16_224", False)
    drawn = np.random.default_rng(0)
    images = drawn.integers(0, 256, (IMAGES, SIDE_PX, SIDE_PX, 3), np.uint8)
    rows, cols = vision.grid_hw((SIDE_PX, SIDE_PX))
    labels = [torch.from_numpy(drawn.integers(0, CLASSES, (rows, cols))) for _ in images]
    texts = torch.nn.functional.normalize(torch.randn(CLASSES, TEXT_DIM), dim=1)
    settings = load_params(REPOSITORY / "params.yaml").train.changed(
        epochs=1, batch_images=BATCH, patches_per_image=None, save_every_seconds=1e9,
        feature_cache="off",
    )  # fmt: skip

    def train(count: int) -> float:
        shutil.rmtree(folder / "resume", ignore_errors=True)
        distributed.barrier()
        began = time.perf_counter()
        train_alignment(
            lambda index: vision.encode(images[index]), labels[:count], texts, settings, folder,
            folder / "resume", progress=False, vision_dim=vision.dim, ranks=ranks,
        )  # fmt: skip
        distributed.barrier()
        return time.perf_counter() - began

    train(BATCH)
    seconds = train(IMAGES)
    if ranks.writes:
        (folder / "seconds.json").write_text(json.dumps(seconds))
    distributed.destroy_process_group()
    return 0


if __name__ == "__main__":
    sys.exit(main())
