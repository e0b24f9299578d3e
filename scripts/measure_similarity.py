"""Measure how similar right, wrong and nonsense words are on the miniature; into docs/predict.md.

Run `python -m scripts.measure_similarity [WORKSPACE]` where `models/train` holds the trained model.
Only images of the validation split are used.
"""

import sys
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from fmbseg.datasets.miniature import MiniatureDataset
from fmbseg.methods.upsampling import resize_similarities
from fmbseg.miniature.world import SEEN_CLASS_NAMES, STUFF
from fmbseg.segmenter import Segmenter
from fmbseg.steps.workspace import Workspace
from studies.page import put_block

PAGE = Path("docs/predict.md")
NONSENSE = ("quux", "zorb", "brillig", "mimsy", "frabjous")
IMAGES, EVERY_PX = 100, 5
LEAST = (0.2, 0.3, 0.4, 0.5, 0.6, 0.7)
SHARES = (0.0, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8)


def cosines_and_labels(
    segmenter: Segmenter, names: tuple[str, ...]
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Cosine of every name [name pixel] and the true class at every fifth pixel, both ways."""
    texts = segmenter.segmentation.encode_names(names)
    cosines, labels = [], []
    data = MiniatureDataset("val", count=IMAGES)
    for index in range(len(data)):
        sample = data[index]
        assert sample.target is not None
        grid = segmenter.segmentation.similarity_grid(sample.image, texts)
        full = resize_similarities(grid.float(), sample.image.shape[:2])
        cosines.append(full[:, ::EVERY_PX, ::EVERY_PX].flatten(1).numpy())
        labels.append(sample.target[::EVERY_PX, ::EVERY_PX].ravel().astype(np.int64))
    return np.concatenate(cosines, axis=1), np.concatenate(labels)


def tables(
    cosines: NDArray[np.float32], labels: NDArray[np.int64], temperature: float
) -> list[str]:
    """The lines between the markers."""
    classes = len(SEEN_CLASS_NAMES)
    seen, nonsense = cosines[:classes], cosines[classes:]
    best, won = seen.max(0), seen.argmax(0)
    others = seen.copy()
    others[labels, np.arange(len(labels))] = -1  # as if the pixel's own class were not asked for
    groups = {
        "right class wins": best[won == labels],
        "wrong class wins, the right one being in the list": best[won != labels],
        "wrong class wins, the right one not in the list": others.max(0),
        f"nonsense wins ({', '.join(NONSENSE)})": nonsense.max(0),
    }
    lines = [
        "| best similarity where | 5 % | 25 % | median | 75 % | 95 % |",
        "|---|---|---|---|---|---|",
    ]
    for name, values in groups.items():
        quantiles = np.quantile(values, (0.05, 0.25, 0.5, 0.75, 0.95))
        lines.append(f"| {name} | " + " | ".join(f"{q:.2f}" for q in quantiles) + " |")
    lines += ["", "| `--min-similarity` | " + " | ".join(f"{t:.1f}" for t in LEAST) + " |"]
    lines += ["|---|" + "---|" * len(LEAST)]
    for name, values in groups.items():
        shares = " | ".join(f"{(values < least).mean():.0%}" for least in LEAST)
        lines.append(f"| becomes none, where {name} | {shares} |")
    lines += ["", *_with_background(seen, labels), "", *_confidence(seen, labels, temperature)]
    return lines


def _with_background(seen: NDArray[np.float32], labels: NDArray[np.int64]) -> list[str]:
    """Asking for the things alone: what becomes of the stuff."""
    stuff = len(STUFF)
    things, is_stuff = seen[stuff:], labels < stuff
    right = things.argmax(0) + stuff == labels
    rows = {"neither": np.zeros(len(labels), bool), f'`--background "{", ".join(STUFF)}"`':
            seen[:stuff].max(0) >= things.max(0)}  # fmt: skip
    rows |= {f"`--min-similarity {least}`": things.max(0) < least for least in LEAST}
    lines = [
        "| only the things asked for, with | stuff is none | things are right |",
        "|---|---|---|",
    ]
    for name, none in rows.items():
        lines.append(f"| {name} | {none[is_stuff].mean():.0%} | "
                     f"{(right & ~none)[~is_stuff].mean():.0%} |")  # fmt: skip
    return lines


def _confidence(
    seen: NDArray[np.float32], labels: NDArray[np.int64], temperature: float
) -> list[str]:
    """How often the winner is right, by confidence."""
    share = 1 / np.exp((seen - seen.max(0)) / temperature).sum(0)
    right = seen.argmax(0) == labels
    lines = ["| confidence | pixels | of them right |", "|---|---|---|"]
    for low, high in zip(SHARES, (*SHARES[1:], 1.01), strict=True):
        inside = (share >= low) & (share < high)
        if inside.any():
            lines.append(f"| {low:.1f} to {min(high, 1):.1f} | {inside.mean():.0%} | "
                         f"{right[inside].mean():.0%} |")  # fmt: skip
    return lines


def main() -> None:
    """Measure and write."""
    torch.set_num_threads(1)
    workspace = Workspace.open(sys.argv[1] if len(sys.argv) > 1 else ".")
    segmenter = Segmenter.load(workspace.train, device="cpu")
    found = cosines_and_labels(segmenter, SEEN_CLASS_NAMES + NONSENSE)
    lines = tables(*found, segmenter.temperature or workspace.params.train.temperature)
    put_block(PAGE, "similarities", "\n".join(lines))
    print("\n".join(lines))


if __name__ == "__main__":
    main()
