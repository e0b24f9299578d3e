"""Balance: keep a random part of stage 1.2, so that it does not drown stage 1.1."""

import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from fmbseg.types import PseudoMask


@dataclass(frozen=True)
class Subsample:
    """What was kept.

    Attributes:
        kept: all of stage 1.1 and a part of 1.2, in an order that depends on the masks alone.
        fraction: of stage 1.2 that was asked for, 0 to 1 ("balance" resolved).
        counts: stage ("1.1", "1.2") to class name to number of kept masks.
    """

    kept: list[PseudoMask]
    fraction: float
    counts: dict[str, dict[str, int]]


def random_rank(mask: PseudoMask, seed: int) -> int:
    """A random number of 64 bits that belongs to the mask: the same in any order and shard."""
    record = [
        seed,
        mask.image,
        mask.class_index,
        mask.stage,
        mask.mask.rle,
        mask.mask.predicted_iou,
        mask.mask.points_xy_px,
    ]
    digest = hashlib.sha256(json.dumps(record, sort_keys=True).encode()).digest()
    return int.from_bytes(digest[:8], "big")


def subsample(
    masks_11: Sequence[PseudoMask],
    masks_12: Sequence[PseudoMask],
    keep_fraction: float | Literal["balance"],
    seed: int,
) -> Subsample:
    """Keep stage 1.1 and a random fraction of stage 1.2.

    Each mask draws its random number from the seed and its own content, and the lowest are kept.
    So the choice depends neither on the order of the masks nor on how they were sharded, and
    with more images most masks keep their fate.

    Args:
        masks_11: all of stage 1.1.
        masks_12: all of stage 1.2.
        keep_fraction: 0 to 1, or "balance": as many of 1.2 as there are of 1.1, or all.
        seed: of the draw.

    Returns:
        The kept masks and their counts. Their number from 1.2 is the fraction of it, rounded.

    Raises:
        ValueError: a fraction outside 0 to 1.

    Paper: section 3.1; the fraction is not published, "balance" is its stated purpose.
    """
    if keep_fraction == "balance":
        wanted = min(len(masks_11), len(masks_12))
        fraction = wanted / len(masks_12) if masks_12 else 1.0
    elif isinstance(keep_fraction, str) or not 0 <= keep_fraction <= 1:
        raise ValueError(f"keep_fraction: found {keep_fraction!r}; wanted 'balance' or 0 to 1")
    else:
        fraction = float(keep_fraction)
        wanted = int(fraction * len(masks_12) + 0.5)
    drawn = sorted(masks_12, key=lambda mask: random_rank(mask, seed))[:wanted]
    kept = sorted(
        [*masks_11, *drawn],
        key=lambda mask: (mask.image, mask.stage, mask.class_index, random_rank(mask, seed)),
    )
    return Subsample(
        kept=kept,
        fraction=fraction,
        counts={stage: _per_class(kept, stage) for stage in ("1.1", "1.2")},
    )


def _per_class(masks: Sequence[PseudoMask], stage: str) -> dict[str, int]:
    """Class name to count, by class index; classes without a mask are left out."""
    counted = Counter((m.class_index, m.class_name) for m in masks if m.stage == stage)
    return {name: number for (_, name), number in sorted(counted.items())}
