"""Training by two processes of one thread each against one process, where the encoder is the work.

A ViT-B of random weights encodes every image anew, as with `train.feature_cache: off`. The second
process waits, idle, while the first one trains alone. Wall clock.
"""

import argparse
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor, distributed

from benchmarks.common import ROUNDS, Table, in_turn, pin_threads
from fmbseg.align.ranks import ALONE, Ranks
from fmbseg.align.settings import WEIGHTS
from fmbseg.align.trainer import train_alignment
from fmbseg.models.vision import build_vision
from fmbseg.params import load_params

REPOSITORY = Path(__file__).parents[1]
IMAGES, BATCH, SIDE_PX, CLASSES, TEXT_DIM = 32, 8, 224, 14, 512
FASTER = 1 / 0.6
"""Two processes take at most 0.6 of the time of one."""


def main() -> int:
    """Print a table; as the second process, train with the first one."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--joins", type=int, metavar="PORT", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    pin_threads()
    if arguments.joins:
        with TemporaryDirectory() as folder:
            in_turn(_ways(1, arguments.joins, Path(folder)), arguments.rounds, time.perf_counter)
        return 0
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    rest = ["--rounds", str(arguments.rounds), "--joins", str(port)]
    with (
        TemporaryDirectory() as folder,
        subprocess.Popen([sys.executable, "-m", "benchmarks.ddp", *rest], cwd=REPOSITORY) as other,
    ):
        ways = _ways(0, port, Path(folder))
        timed = in_turn(ways, arguments.rounds, time.perf_counter)
        other.wait()
    two, one = timed["two"], timed["one"]
    equal = all(torch.allclose(two.answer[k], one.answer[k], atol=1e-5) for k in one.answer)
    table = Table()
    table.row(
        f"{IMAGES} images of {SIDE_PX} px in batches of {BATCH}, ViT-B; ours 2 processes, stock 1",
        two, one, times_stock=FASTER, equal=equal,
    )  # fmt: skip
    return table.exit_code


def _ways(rank: int, port: int, folder: Path) -> dict[str, Callable[[], dict[str, Tensor]]]:
    """Training with the other process, and the first one's training alone."""
    address = f"tcp://127.0.0.1:{port}"
    distributed.init_process_group("gloo", init_method=address, rank=rank, world_size=2)
    torch.manual_seed(0)
    vision = build_vision("vit_base_patch16_224", False)
    drawn = np.random.default_rng(0)
    images = drawn.integers(0, 256, (IMAGES, SIDE_PX, SIDE_PX, 3), np.uint8)
    rows, cols = vision.grid_hw((SIDE_PX, SIDE_PX))
    labels = [torch.from_numpy(drawn.integers(0, CLASSES, (rows, cols))) for _ in images]
    texts = torch.nn.functional.normalize(torch.randn(CLASSES, TEXT_DIM), dim=1)
    settings = load_params(REPOSITORY / "params.yaml").train.changed(
        epochs=1, batch_images=BATCH, save_every_seconds=1e9, feature_cache="off"
    )

    def train(ranks: Ranks) -> dict[str, Tensor]:
        distributed.barrier()
        if ranks.count > 1 or rank == 0:
            shutil.rmtree(folder / "resume", ignore_errors=True)
            train_alignment(
                lambda index: vision.encode(images[index]), labels, texts, settings, folder,
                folder / "resume", progress=False, vision_dim=vision.dim, ranks=ranks,
            )  # fmt: skip
        distributed.barrier()
        found: dict[str, Tensor] = load_file(folder / WEIGHTS) if rank == 0 else {}
        return found

    return {"two": lambda: train(Ranks(rank, 2)), "one": lambda: train(ALONE)}


if __name__ == "__main__":
    sys.exit(main())
