"""Step `subsample`: which of stage 1.2's masks are kept beside stage 1.1's. Paper: "balance"."""

from pathlib import Path

from fmbseg.pseudo.subsample import subsample
from fmbseg.steps.running import run_unit
from fmbseg.steps.shards import shards
from fmbseg.steps.step import Step
from fmbseg.steps.workspace import Workspace
from fmbseg.store import UnitKey, file_sha, read_coco, write_coco, write_json


def key(workspace: Workspace, unit: str = "") -> UnitKey:
    """Content key over all shards."""
    files = {
        f"{shard}/{name}": file_sha(workspace.pseudo_masks / shard / name)
        for shard in shards(workspace)
        for name in ("stage11.json", "stage12.json")
    }
    section = workspace.params.subsample.model_dump()
    return workspace.key("subsample", files, {**section, "seed": workspace.params.seed})


def run(workspace: Workspace, unit: str = "") -> bool:
    """Make `data/subsample/` (`kept.json`, `counts.json`); True when there was something to do."""

    def compute(out: Path) -> None:
        folders = [workspace.pseudo_masks / shard for shard in shards(workspace)]
        first = [read_coco(folder / "stage11.json") for folder in folders]
        second = [read_coco(folder / "stage12.json") for folder in folders]
        chosen = subsample(
            [mask for part in first for mask in part.masks],
            [mask for part in second for mask in part.masks],
            workspace.params.subsample.keep_fraction,
            workspace.params.seed,
        )
        sizes = {name: hw for part in first for name, hw in part.image_sizes_hw.items()}
        write_coco(out / "kept.json", chosen.kept, sizes, first[0].class_names)
        write_json(out / "counts.json", {"fraction": chosen.fraction, "counts": chosen.counts})

    return run_unit(workspace, "subsample", workspace.subsample, key(workspace), compute)


STEP = Step(
    name="subsample",
    reads=("download", "pseudo_masks"),
    writes="data/subsample",
    key=key,
    run=run,
)
