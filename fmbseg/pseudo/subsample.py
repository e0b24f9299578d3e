"""Balance: keep a random part of stage 1.2, so that it does not drown stage 1.1."""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Bool, UInt64

from fmbseg.types import PseudoMask

_RECORD = json.JSONEncoder(sort_keys=True)


@dataclass(frozen=True)
class Choice:
    """Which of stage 1.2's masks are kept.

    Attributes:
        fraction: of stage 1.2 that was asked for, 0 to 1 ("balance" resolved).
        kept: whether each mask of stage 1.2 is kept, in the order of its ranks.
    """

    fraction: float
    kept: Bool[np.ndarray, " mask"]


def random_rank(mask: PseudoMask, seed: int) -> int:
    """A random number of 64 bits that belongs to the mask: the same in any order and shard.

    Scores take no part: their last digits hang on the machine, and the draw shall not.
    """
    points, rle = mask.mask.points_xy_px, mask.mask.rle
    record = [seed, mask.image, mask.class_index, mask.stage, rle, points]
    digest = hashlib.sha256(_RECORD.encode(record).encode()).digest()
    return int.from_bytes(digest[:8], "big")


def choose(
    ranks: UInt64[np.ndarray, " mask"],
    number_11: int,
    keep_fraction: float | Literal["balance"],
) -> Choice:
    """Keep stage 1.1 and a random fraction of stage 1.2.

    Each mask draws its random number from the seed and its own content, and the lowest are kept.
    So the choice depends neither on the order of the masks nor on how they were sharded, and
    with more images most masks keep their fate.

    Args:
        ranks: `random_rank` of every mask of stage 1.2.
        number_11: number of masks of stage 1.1.
        keep_fraction: 0 to 1, or "balance": as many of 1.2 as there are of 1.1, or all.

    Returns:
        The masks to keep. Their number is the fraction of all, rounded.

    Raises:
        ValueError: a fraction outside 0 to 1.

    Paper: section 3.1; the fraction is not published, "balance" is its stated purpose.
    """
    if keep_fraction == "balance":
        wanted = min(number_11, len(ranks))
        fraction = wanted / len(ranks) if len(ranks) else 1.0
    elif isinstance(keep_fraction, str) or not 0 <= keep_fraction <= 1:
        raise ValueError(f"keep_fraction: found {keep_fraction!r}; wanted 'balance' or 0 to 1")
    else:
        fraction = float(keep_fraction)
        wanted = int(fraction * len(ranks) + 0.5)
    kept = np.zeros(len(ranks), bool)
    kept[np.argsort(ranks, kind="stable")[:wanted]] = True
    return Choice(fraction, kept)


def in_order(masks: Iterable[PseudoMask], seed: int) -> list[PseudoMask]:
    """Masks by image, stage and class: an order that depends on the masks alone."""
    return sorted(
        masks, key=lambda mask: (mask.image, mask.stage, mask.class_index, random_rank(mask, seed))
    )
