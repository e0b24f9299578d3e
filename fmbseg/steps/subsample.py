"""Step `subsample`: which of stage 1.2's masks are kept beside stage 1.1's. Paper: "balance".

Shard by shard, twice: first every mask draws its rank, then each shard's masks are written that
the ranks of all choose. So no more than a shard's masks are in memory, however many images.
"""

from collections import Counter
from collections.abc import Mapping
from itertools import accumulate, compress
from pathlib import Path

import numpy as np

from fmbseg.progress import tracked
from fmbseg.pseudo.subsample import choose, in_order, random_rank
from fmbseg.steps.running import run_unit
from fmbseg.steps.shards import shards
from fmbseg.steps.step import Step
from fmbseg.steps.workspace import Workspace
from fmbseg.store import CocoMasks, UnitKey, file_sha, read_coco, write_coco, write_json
from fmbseg.types import PseudoMask

FILES = ("stage11.json", "stage12.json")


def key(workspace: Workspace, unit: str = "") -> UnitKey:
    """Content key over all shards."""
    files = {
        f"{shard}/{name}": file_sha(workspace.pseudo_masks / shard / name)
        for shard in shards(workspace)
        for name in FILES
    }
    section = workspace.params.subsample.model_dump()
    return workspace.key("subsample", files, {**section, "seed": workspace.params.seed})


def run(workspace: Workspace, unit: str = "") -> bool:
    """Make `data/subsample/`; True when there was something to do.

    It holds `<shard>.json` (COCO) and `counts.json`: {"fraction": of stage 1.2 that was asked for,
    "found" and "kept": {stage: {class name: number of masks}}}.
    """
    seed, fraction = workspace.params.seed, workspace.params.subsample.keep_fraction
    names = list(shards(workspace))

    def compute(out: Path) -> None:
        found, kept, parts = Counter[_Counted](), Counter[_Counted](), []
        for shard in tracked(names, "subsample: ranks", unit="shard"):
            first, second = _stage1(workspace, shard)
            found.update(map(_counted, first.masks + second.masks))
            ranks = (random_rank(mask, seed) for mask in second.masks)
            parts.append(np.fromiter(ranks, np.uint64, len(second.masks)))
        number_11 = sum(number for (stage, *_), number in found.items() if stage == "1.1")
        choice = choose(np.concatenate(parts), number_11, fraction)
        ends = list(accumulate(map(len, parts)))
        chosen = np.split(choice.kept, ends[:-1])
        for shard, own in zip(tracked(names, "subsample", unit="shard"), chosen, strict=True):
            first, second = _stage1(workspace, shard)
            masks = in_order([*first.masks, *compress(second.masks, own)], seed)
            kept.update(map(_counted, masks))
            write_coco(out / f"{shard}.json", masks, first.image_sizes_hw, first.class_names)
        counts = {"found": _table(found), "kept": _table(kept)}
        write_json(out / "counts.json", {"fraction": choice.fraction, **counts})

    return run_unit(workspace, "subsample", workspace.subsample, key(workspace), compute)


def _stage1(workspace: Workspace, shard: str) -> list[CocoMasks]:
    return [read_coco(workspace.pseudo_masks / shard / file) for file in FILES]


_Counted = tuple[str, int, str]
"""Stage, class index and class name."""


def _counted(mask: PseudoMask) -> _Counted:
    return mask.stage, mask.class_index, mask.class_name


def _table(counts: Mapping[_Counted, int]) -> dict[str, dict[str, int]]:
    """Stage to class name to count, by class index; classes without a mask are left out."""
    table: dict[str, dict[str, int]] = {"1.1": {}, "1.2": {}}
    for (stage, _, name), number in sorted(counts.items()):
        table[stage][name] = number
    return table


STEP = Step(
    name="subsample",
    reads=("download", "pseudo_masks"),
    writes="data/subsample",
    key=key,
    run=run,
)
