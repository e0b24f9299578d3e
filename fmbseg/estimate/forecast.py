"""From what was measured to the whole run, as a table: arithmetic over the units that are left."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from fmbseg.align.trainer import VALIDATIONS
from fmbseg.estimate.measure import Figures
from fmbseg.estimate.sample import IMAGE_BYTES, DataSet
from fmbseg.params import Params
from fmbseg.steps import evaluate
from fmbseg.steps.kept_masks import SHARDS_HELD
from fmbseg.steps.plan import STEPS, units_of
from fmbseg.steps.shards import shards
from fmbseg.steps.time_left import units_left
from fmbseg.steps.together import processes
from fmbseg.steps.workspace import Workspace
from fmbseg.store import StoreError, human_bytes

FLOW_BYTES, FLOW_S = 2e8, 25.0
"""What the flow's own libraries take, about: memory of a process, and time of a whole run."""
OBJECT_BYTES = 2.0
"""Memory of masks as objects, for each byte of their files, at most; large masks take half."""
_REST = "about, with start-up, Prefect, DVC and MLflow; `fmbseg run` takes less"
_UNITS = (("years", 365.25 * 86400), ("days", 86400.0), ("h", 3600.0), ("min", 60.0))


@dataclass(frozen=True)
class Row:
    """One step, or a unit of `evaluate`, for the whole run.

    Attributes:
        step: its name.
        basis: what the figures stand on.
        seconds: with one worker; None where nothing was measured.
        many_s: seconds with the workers asked for; None for a unit.
        disk_bytes: of what it writes.
        memory_bytes: most of all processes on this machine, with what runs beside; 0: not known.
    """

    step: str
    basis: str
    seconds: float | None = 0.0
    many_s: float | None = 0.0
    disk_bytes: float = 0.0
    memory_bytes: float = 0.0


def whole_run(params: Params, train: DataSet, scored: Sequence[DataSet]) -> dict[str, int]:
    """Steps, and the units of the step `evaluate`, to the images that they go through."""
    steps = dict.fromkeys(("download", "pseudo_masks", "subsample", "train"), train.images)
    return steps | {
        evaluate.unit_name(method, one.name): one.images
        for number, one in enumerate(scored)
        for method in ([] if number else [evaluate.FOUNDATION]) + [*params.evaluate.methods]
    }


def rest_of_run(workspace: Workspace, whole: Mapping[str, int]) -> dict[str, int]:
    """What is left of `whole_run` in a workspace; all of it where its images are not in place."""
    try:
        if any(unit.problem() is not None for unit in units_of(workspace, "download")):
            return dict(whole)
        images, left = shards(workspace), Counter[str]()
        for unit, _ in units_left(workspace):
            name = unit.name if unit.of.name == "evaluate" else unit.of.name
            left[name] += len(images.get(unit.name, ())) or whole.get(name, 0)
    except (StoreError, OSError, ValueError):
        return dict(whole)
    return {name: left[name] for name in whole if name in left}


def forecast(
    params: Params, train: DataSet, scored: Sequence[DataSet], figures: Figures,
    left: Mapping[str, int], workers: int,
) -> list[Row]:  # fmt: skip
    """A row a step, a row a unit of `evaluate` that is left, and the whole.

    Args:
        params: of the run.
        train: what is trained on.
        scored: what is scored.
        figures: of some of their images.
        left: what is not computed yet; see `whole_run`.
        workers: processes or threads, each as fast as the one measured.
    """
    each_s, sizes, count = figures.seconds, figures.sizes, train.images
    choosing_s = count * each_s["subsample"]
    scoring = {name: left[name] * each_s[name] for name in left if name not in STEPS}
    stage1, shard = left.get("pseudo_masks", 0), params.data.shard_images
    longest = min(math.ceil(stage1 / shard / workers) * shard, stage1)
    done = f"{count - stage1:,} of {count:,} images computed already; " if stage1 < count else ""
    alone = figures.idle_bytes + FLOW_BYTES
    working, where = workers * figures.work_bytes, ""
    if params.runner.kind == "dask":
        each = alone + figures.work_bytes
        working = each * (1 if params.runner.dask_address else workers)
        where = f"; each of {workers} processes holds the models and takes {_size(each)}"

    def measured(images: int) -> str:
        return f"{min(figures.images, images):,} of {images:,} images measured"

    rows = [
        Row(
            "pseudo_masks", f"{done}{measured(count)}; as much disk again while it runs{where}",
            stage1 * each_s["pseudo_masks"], longest * each_s["pseudo_masks"],
            stage1 * sizes["masks"],
        ),
        Row(
            "subsample", "one shard's masks are in memory at a time", choosing_s, choosing_s,
            count * sizes["kept"], OBJECT_BYTES * sizes["masks"] * min(count, shard),
        ),
        _training(params, train, scored, figures, workers),
        Row(
            "evaluate", f"a method on a data set is one unit of work{where}",
            sum(scoring.values()),
            max(sum(scoring.values()) / workers, max(scoring.values(), default=0.0)),
        ),
    ]  # fmt: skip
    steps, computed = {*left, *(["evaluate"] if scoring else [])}, "computed already"
    unscored = computed if scored else "no labels, so nothing to score"
    rows = [
        replace(one, memory_bytes=alone + working + one.memory_bytes) if one.step in steps
        else Row(one.step, unscored if one.step == "evaluate" else computed)
        for one in rows
    ]  # fmt: skip
    fetched = "download" in left
    placing = _download(train, scored, figures, workers) if fetched else Row("download", computed)
    rows.insert(0, placing)
    rows.append(Row("report", _REST, FLOW_S, FLOW_S))
    whole = Row(
        "all", "without what is to be fetched", sum(one.seconds or 0.0 for one in rows),
        sum(one.many_s or 0.0 for one in rows), sum(one.disk_bytes for one in rows),
        max(one.memory_bytes for one in rows),
    )  # fmt: skip
    parts = [Row(f"  {name}", measured(left[name]), scoring[name], None) for name in scoring]
    return [*rows, *parts, whole]


def _download(train: DataSet, scored: Sequence[DataSet], figures: Figures, workers: int) -> Row:
    archives = {file: size for one in (train, *scored) for file, size in one.archives.items()}
    absent = {
        file: size for one in (train, *scored) if not one.here
        for file, size in one.archives.items()
    }  # fmt: skip
    words, disk_bytes = f"{_size(sum(absent.values()))} to fetch", sum(archives.values())
    if absent:
        return Row("download", words, None, None, disk_bytes)
    took_s = (train.drawn or train.images) * figures.seconds["download"]
    many_s = took_s / workers if train.drawn else took_s
    return Row("download", words, took_s, many_s, disk_bytes + train.drawn * IMAGE_BYTES)


def _training(
    params: Params, train: DataSet, scored: Sequence[DataSet], figures: Figures, workers: int
) -> Row:
    p, each_s, sizes, count = params.train, figures.seconds, figures.sizes, train.images
    on_disk, trainers = p.feature_cache == "disk", processes(Workspace(Path(), params))
    image_bytes = max(sizes["features"], 1) / (2 if on_disk else 1)  # float16
    budget_bytes = 0.0 if p.feature_cache == "off" else trainers * p.feature_cache_gb * 1e9
    cached = min(count, int(budget_bytes // image_bytes))
    cache_bytes = cached * image_bytes
    kept_bytes = 0.0 if on_disk else min(2 * cache_bytes, budget_bytes)  # their norms, too
    encodings = cached + p.epochs * (count - cached)
    many = max(trainers, workers if cached == count else 1)  # else as they are asked for
    steps = p.epochs * math.ceil(count / p.batch_images)
    checked = min(p.validation_images, scored[0].images) if scored else 0
    checks = math.ceil(steps / math.ceil(steps / VALIDATIONS))
    encode_s = encodings * each_s["features"]
    checking_s = checked * (each_s["features"] + checks * each_s["validation"])
    rest_s = steps * each_s["step"] + checking_s
    by = f" by {trainers} processes" if trainers > 1 else ""
    words = (
        f"{encodings:,} encodings{by} at {each_s['features']:.3g} s ({cached / count:.0%} of them "
        f"fit train.feature_cache_gb), {steps:,} steps at {each_s['step']:.3g} s, {checks} "
        f"validations on {checked} images in {checking_s:.3g} s"
    )
    masks_of = min(count, SHARDS_HELD * params.data.shard_images)
    return Row(
        "train", words, encode_s / trainers + rest_s, encode_s / many + rest_s,
        sizes["model"] + (cache_bytes if on_disk else 0.0),
        kept_bytes + checked * sizes["features"] + masks_of * OBJECT_BYTES * sizes["kept"]
        + (trainers - 1) * (figures.idle_bytes + FLOW_BYTES),
    )  # fmt: skip


def _size(count: float) -> str:
    return human_bytes(round(count))


def human_time(seconds: float | None) -> str:
    """A duration as people read it: "35 s", "12 min", "3.4 h", "2.1 days", "1.2 years"."""
    if seconds is None:
        return "-"
    for unit, size in _UNITS:
        if seconds >= 2 * size or (unit == "years" and seconds >= size):
            digits = int(seconds < (10 if unit == "min" else 100) * size)
            return f"{seconds / size:.{digits}f} {unit}"
    return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s"


def lines(rows: Sequence[Row], workers: int) -> list[str]:
    """A table, then what each row stands on."""
    cells = [["step", "1 worker", f"{workers} workers", "disk", "memory"]]
    for row in rows:
        room = [_size(size) if size else "-" for size in (row.disk_bytes, row.memory_bytes)]
        cells.append([row.step, human_time(row.seconds), human_time(row.many_s), *room])
    if workers == 1:
        cells = [[*line[:2], *line[3:]] for line in cells]
    first, *others = (max(map(len, column)) for column in zip(*cells, strict=True))
    table = ["  ".join([line[0].ljust(first), *map(str.rjust, line[1:], others)]) for line in cells]
    return [*table, "", *(f"{row.step.strip()}: {row.basis}" for row in rows)]
