"""`fmbseg miniature`: train one of the small models, or draw images of the world."""

import argparse
import time
from collections.abc import Callable
from pathlib import Path

from PIL import Image


def miniature(arguments: argparse.Namespace) -> int:
    """Train one of the small models from its shipped recipe, or draw images of the world."""
    if arguments.action == "draw":
        return _draw(arguments)
    import torch

    from fmbseg.miniature.train_clip import train_clip
    from fmbseg.miniature.train_sam import train_sam
    from fmbseg.miniature.train_vision import train_vision

    recipes: dict[str, Callable[..., dict[str, float]]] = {
        "clip": train_clip, "sam": train_sam, "vision": train_vision
    }  # fmt: skip
    folder = arguments.folder or Path("work/train") / arguments.model
    weights = arguments.weights or Path("work/weights") / arguments.model
    torch.set_num_threads(1)  # the recipes were run so; more threads give other last bits
    began = time.perf_counter()
    steps = {} if arguments.steps is None else {"steps": arguments.steps}
    scores = recipes[arguments.model](folder, weights, seed=arguments.seed, **steps)
    for name, value in scores.items():
        print(f"{name:<32}{value:.4f}")
    print(f"weights in {weights}, {time.perf_counter() - began:.0f} s; log in {folder}/log.jsonl")
    return 0


def _draw(arguments: argparse.Namespace) -> int:
    from fmbseg.miniature.world import CLASS_NAMES, generate

    for folder in ("images", "labels"):
        (arguments.out / folder).mkdir(parents=True, exist_ok=True)
    for item in generate(arguments.seed, arguments.count, "train", look=arguments.look):
        Image.fromarray(item.image).save(arguments.out / "images" / f"{item.name}.png")
        Image.fromarray(item.labels).save(arguments.out / "labels" / f"{item.name}.png")
    (arguments.out / "classes.txt").write_text("\n".join(CLASS_NAMES) + "\n")
    print(f"wrote {arguments.count} images with labels to {arguments.out}/")
    return 0
