"""What a run still computes, and how long units like those took before."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from fmbseg.estimate.sample import DataSet
from fmbseg.params import Params
from fmbseg.steps import evaluate
from fmbseg.steps.plan import units_of
from fmbseg.steps.shards import shards
from fmbseg.steps.time_left import units_left
from fmbseg.steps.workspace import Workspace
from fmbseg.store import StoreError


@dataclass(frozen=True)
class ToDo:
    """What a run still computes.

    Attributes:
        shards: images of each, with the seconds that the journal knows; None where it knows none.
        units: `download`, `subsample`, `train` and the units of `evaluate`, with such seconds.
    """

    shards: Sequence[tuple[int, float | None]]
    units: Mapping[str, float | None]


def evaluations(params: Params, scored: Sequence[DataSet]) -> dict[str, DataSet]:
    """The units of the step `evaluate`: name to data set."""
    return {
        evaluate.unit_name(method, one.name): one
        for number, one in enumerate(scored)
        for method in ([] if number else [evaluate.FOUNDATION]) + [*params.evaluate.methods]
    }


def whole_run(params: Params, train: DataSet, scored: Sequence[DataSet]) -> ToDo:
    """A run of which nothing is computed yet."""
    size, count = params.data.shard_images, train.images
    shards = [(min(size, count - start), None) for start in range(0, count, size)]
    units = ["download", "subsample", "train", *evaluations(params, scored)]
    return ToDo(shards, dict.fromkeys(units))


def rest_of_run(workspace: Workspace) -> ToDo | None:
    """What is left in a workspace whose images are in place; None where they are not."""
    try:
        for unit in units_of(workspace, "download"):
            if unit.problem() is not None:
                return None
        left = list(units_left(workspace))
        images = shards(workspace)
    except (StoreError, OSError, ValueError):
        return None
    return ToDo(
        [(len(images[one.name]), s) for one, s in left if one.step == "pseudo_masks"],
        {one.name or one.step: s for one, s in left if one.step != "pseudo_masks"},
    )
