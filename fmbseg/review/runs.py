"""Masks as lists of run lengths, which is how the page reads, draws and sends them."""

from collections.abc import Sequence

import numpy as np
import pycocotools.mask

from fmbseg.store import foreground_runs
from fmbseg.types import Rle


def runs_of(rles: Sequence[Rle]) -> list[list[int]]:
    """Lengths of each mask's runs, counted column by column.

    Returns:
        Background and foreground in turn; the first run is background and may be 0 px long. They
        add up to the image's pixels.
    """
    found = []
    for rle, runs in zip(rles, foreground_runs(rles), strict=True):
        height, width = map(int, rle["size"])
        edges = np.concatenate([[0], runs.ravel(), [height * width]])
        found.append(np.diff(edges).tolist())
    return found


def rle_of(runs: Sequence[int], image_hw: tuple[int, int]) -> Rle:
    """The mask of a list of run lengths; the same pixels always give the same bytes.

    Args:
        runs: see `runs_of`; runs of 0 px may stand anywhere.
        image_hw: height and width of the image, px.

    Raises:
        ValueError: a negative run, or together they are not the image's pixels.
    """
    height, width = image_hw
    lengths = np.asarray(runs, np.int64)
    if (lengths < 0).any() or lengths.sum() != height * width:
        raise ValueError(
            f"found run lengths of {lengths.sum()} px in all, {(lengths < 0).sum()} of them "
            f"negative; wanted {height} x {width} px"
        )
    ends = np.cumsum(lengths)
    first, last = (ends - lengths)[1::2], ends[1::2]
    first, last = first[first < last], last[first < last]
    apart = first[1:] != last[:-1]
    first, last = (
        first[np.append(True, apart)[: len(first)]],
        last[np.append(apart, True)[: len(last)]],
    )
    edges = np.append(0, np.stack([first, last], 1).ravel())
    counts = np.diff(edges, append=height * width)
    counts = counts[: len(counts) - (counts[-1] == 0)]
    plain = {"size": [height, width], "counts": counts.tolist()}
    packed = pycocotools.mask.frPyObjects(plain, height, width)
    return {"size": [height, width], "counts": packed["counts"].decode("ascii")}
