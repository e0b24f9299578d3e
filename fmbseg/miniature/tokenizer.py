"""What the miniature CLIP reads: captioned crops of the world, and a short vocabulary.

The vocabulary is open_clip's own list of merges, cut to what a list of words needs.

The words of `words.txt` are split exactly as by CLIP's full vocabulary, since every merge that
they need is kept, in its original order. Any other text falls back to shorter pieces or bytes.
"""

import gzip
from collections.abc import Iterable
from functools import cache
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import UInt8
from open_clip.tokenizer import SimpleTokenizer, get_pairs

from fmbseg.miniature.pool import Pool
from fmbseg.miniature.things import PALETTE
from fmbseg.miniature.world import CLASS_NAMES, SIZE_PX, STUFF

CROP_PX = 64
CONTEXT_TOKENS = 24
_COLOURS = tuple(PALETTE)
_HEADER = "#fmbseg miniature: a subset of the merges of open_clip's bpe_simple_vocab_16e6"
_WORDS = Path(__file__).with_name("words.txt")


def load_tokenizer(weights: Path) -> SimpleTokenizer:
    """Open the tokenizer of a miniature CLIP folder; it gives `[text, 24]` token numbers."""
    return SimpleTokenizer(bpe_path=str(weights / "bpe.txt.gz"), context_length=CONTEXT_TOKENS)


def write_merges(path: Path, words: Iterable[str] | None = None) -> int:
    """Write the merges that `words` need as a file for `SimpleTokenizer(bpe_path=...)`.

    Args:
        path: a `.txt.gz` file; the same words give the same bytes.
        words: in lower case; the miniature's own list (`words.txt`) when left out.

    Returns:
        The size of the vocabulary: 512 bytes, the merges, start and end of text.
    """
    full = _full_tokenizer()
    chosen = _WORDS.read_text().split() if words is None else words
    needed = {merge for word in chosen for merge in _merges_of(word, full)}
    ordered = sorted(needed, key=lambda merge: full.bpe_ranks[merge])
    lines = [_HEADER, *(" ".join(merge) for merge in ordered)]
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".tmp")
    # No newline at the end: SimpleTokenizer would read an empty merge.
    temporary.write_bytes(gzip.compress("\n".join(lines).encode(), mtime=0))
    temporary.replace(path)
    return 512 + len(needed) + 2


@cache
def _full_tokenizer() -> SimpleTokenizer:
    return SimpleTokenizer()


def _merges_of(word: str, full: SimpleTokenizer) -> list[tuple[str, str]]:
    """The merges that byte pair encoding applies to a word, in the order of use."""
    letters = [full.byte_encoder[byte] for byte in word.encode()]
    pieces = [*letters[:-1], letters[-1] + "</w>"]
    used = []
    while len(pieces) > 1:
        best = min(get_pairs(pieces), key=lambda pair: full.bpe_ranks.get(pair, float("inf")))
        if best not in full.bpe_ranks:
            break
        used.append(best)
        merged: list[str] = []
        for piece in pieces:
            # A piece that was just merged is longer than best[0], so it is never merged twice.
            if merged and (merged[-1], piece) == best:
                merged[-1] += piece
            else:
                merged.append(piece)
        pieces = merged
    return used


def captioned_crops(
    pool: Pool, rng: np.random.Generator, count: int
) -> tuple[UInt8[np.ndarray, "crop 64 64 3"], list[str]]:
    """Draw crops of 36 to 128 px, resized to 64: half about a thing, a fifth of stuff alone.

    The rest lies anywhere. The bare captions of a batch share one template.
    """
    template = str(rng.choice(('a photo of a "{}"', "a photo of a {}", "a {}"), p=(0.5, 0.4, 0.1)))
    boxes, captions, chosen = [], [], np.sort(rng.integers(len(pool.images), size=count))
    for image in chosen:
        kind = rng.choice(("thing", "stuff", "any"), p=(0.5, 0.2, 0.3))
        instances = np.asarray(pool.instances[image])
        for _ in range(8):
            box = thing_box(instances, rng) if kind == "thing" else any_box(rng)
            left, top, side = box
            if kind != "stuff" or not instances[top : top + side, left : left + side].any():
                break
        boxes.append(box)
        captions.append(caption(pool, int(image), box, template, rng))
    pixels = torch.from_numpy(np.asarray(pool.images[chosen])).permute(0, 3, 1, 2).float()
    left, top, side = torch.tensor(boxes, dtype=torch.float32).T
    theta = torch.zeros(count, 2, 3)
    theta[:, 0, 0] = theta[:, 1, 1] = side / SIZE_PX
    theta[:, 0, 2] = (2 * left + side) / SIZE_PX - 1
    theta[:, 1, 2] = (2 * top + side) / SIZE_PX - 1
    grid = F.affine_grid(theta, [count, 3, CROP_PX, CROP_PX], align_corners=False)
    crops = F.grid_sample(pixels, grid, padding_mode="border", align_corners=False)
    return crops.round().byte().permute(0, 2, 3, 1).numpy(), captions


def caption(
    pool: Pool,
    image: int,
    box_xys_px: tuple[int, int, int],
    template: str,
    rng: np.random.Generator,
) -> str:
    """Say what a crop (left, top, side) shows: its leading thing or two, or else its stuff."""
    left, top, side = box_xys_px
    where = np.s_[image, top : top + side, left : left + side]
    labels = np.asarray(pool.labels[where])
    areas = np.bincount(np.asarray(pool.instances[where]).ravel(), minlength=4)[:4]
    whole = np.bincount(np.asarray(pool.instances[image]).ravel(), minlength=4)[:4]
    share, visible = areas / side**2, areas / np.maximum(whole, 1)
    shown = [
        i
        for i in np.argsort(-share)
        if i and ((share[i] > 0.1 and visible[i] > 0.35) or share[i] > 0.3)
    ]
    stuff_areas = np.bincount(labels.ravel(), minlength=len(CLASS_NAMES))[: len(STUFF)]
    stuff = [STUFF[i] for i in np.argsort(-stuff_areas) if stuff_areas[i] > 0.15 * side**2]
    if not shown and not stuff:
        stuff = [STUFF[int(stuff_areas.argmax())]]
    if not shown:
        glimpsed = int(share[1:].argmax()) + 1
        if share[glimpsed] > 0.04:
            name = CLASS_NAMES[pool.thing_classes[image, glimpsed - 1]]
            return f"a photo of {stuff[0]} and a part of a {name}"
        clear = len(stuff) == 1 or rng.random() < 0.5
        return template.format(stuff[0]) if clear else f"a photo of {stuff[0]} and {stuff[1]}"
    names = [CLASS_NAMES[pool.thing_classes[image, i - 1]] for i in shown]
    if len(shown) > 1 and share[shown[1]] > 0.5 * share[shown[0]] and names[0] != names[1]:
        return f"a photo of a {names[0]} and a {names[1]}"
    way = rng.random()
    if way < 0.15:
        colour = _COLOURS[pool.thing_colours[image, shown[0] - 1]]
        return f"a photo of a {colour} {names[0]}"
    if way < 0.3 and stuff:
        return f"a photo of a {names[0]} on {stuff[0]}"
    return template.format(names[0])


def any_box(rng: np.random.Generator) -> tuple[int, int, int]:
    """A square anywhere: left, top, side; small ones as often as large ones."""
    side = int(np.exp(rng.uniform(np.log(36), np.log(SIZE_PX))))
    left, top = rng.integers(SIZE_PX - side + 1, size=2)
    return int(left), int(top), side


def thing_box(
    instances: UInt8[np.ndarray, "height width"], rng: np.random.Generator
) -> tuple[int, int, int]:
    """A square about one of the image's things, 0.75 to 1.8 times as long as the thing."""
    present = np.unique(instances)
    present = present[present > 0]
    if not len(present):
        return any_box(rng)
    ys, xs = np.nonzero(instances == rng.choice(present))
    length = max(np.ptp(xs), np.ptp(ys)) + 1
    side = int(np.clip(length * rng.uniform(0.75, 1.8), 36, SIZE_PX))
    shift_x, shift_y = rng.uniform(-0.3, 0.3, 2) * side
    left = int(np.clip((xs.min() + xs.max() - side) / 2 + shift_x, 0, SIZE_PX - side))
    top = int(np.clip((ys.min() + ys.max() - side) / 2 + shift_y, 0, SIZE_PX - side))
    return left, top, side
