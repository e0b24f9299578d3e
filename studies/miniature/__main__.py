"""`python -m studies.miniature clip|sam|vision`: train one of the miniature's models anew."""

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch

from studies.miniature.train_clip import train_clip
from studies.miniature.train_sam import train_sam
from studies.miniature.train_vision import train_vision

RECIPES: dict[str, Callable[..., dict[str, float]]] = {
    "clip": train_clip, "sam": train_sam, "vision": train_vision
}  # fmt: skip


def main(argv: list[str] | None = None) -> int:
    """Train a model from its recipe; an interrupted training resumes with the same command."""
    parser = argparse.ArgumentParser(prog="python -m studies.miniature", description=__doc__)
    parser.add_argument("model", choices=tuple(RECIPES))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, help="default: the recipe's")
    parser.add_argument("--folder", type=Path, help="checkpoints; default work/train/<model>")
    parser.add_argument("--weights", type=Path, help="export folder; default work/weights/<model>")
    arguments = parser.parse_args(argv)
    folder = arguments.folder or Path("work/train") / arguments.model
    weights = arguments.weights or Path("work/weights") / arguments.model
    torch.set_num_threads(1)  # the recipes were run so; more threads give other last bits
    began = time.perf_counter()
    steps = {} if arguments.steps is None else {"steps": arguments.steps}
    scores = RECIPES[arguments.model](folder, weights, seed=arguments.seed, **steps)
    for name, value in scores.items():
        print(f"{name:<32}{value:.4f}")
    print(f"weights in {weights}, {time.perf_counter() - began:.0f} s; log in {folder}/log.jsonl")
    return 0


if __name__ == "__main__":
    sys.exit(main())
