"""From what was measured to the whole run, as a table: arithmetic over the units that are left."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from fmbseg.align.trainer import VALIDATIONS
from fmbseg.estimate.measure import Figures
from fmbseg.estimate.sample import DataSet
from fmbseg.params import Params
from fmbseg.steps import evaluate
from fmbseg.steps.plan import STEPS, units_of
from fmbseg.steps.shards import shards
from fmbseg.steps.time_left import units_left
from fmbseg.steps.workspace import Workspace
from fmbseg.store import StoreError, human_bytes

FLOW_BYTES = 2e8
"""What the flow's own libraries add to the process that computes (Prefect, MLflow), about."""
OBJECT_BYTES = 2.0
"""Memory of masks as objects, for each byte of their files, at most; large masks take half."""
_UNITS = (("years", 365.25 * 86400), ("days", 86400.0), ("h", 3600.0), ("min", 60.0))


@dataclass(frozen=True)
class Row:
    """One step, or a unit of `evaluate`, for the whole run.

    Attributes:
        step: its name.
        seconds: with one worker; None where nothing was measured.
        many_s: seconds with the workers asked for; None for a unit.
        disk_bytes: of what it writes.
        memory_bytes: most of one process, with what runs beside the step in it; 0: not known.
        basis: what the figures stand on.
    """

    step: str
    seconds: float | None
    many_s: float | None
    disk_bytes: float
    memory_bytes: float
    basis: str


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
        train: the data set that is trained on.
        scored: those that are scored.
        figures: of some of their images.
        left: what is not computed yet; see `whole_run`.
        workers: processes or threads, each as fast as the one measured.
    """
    each_s, sizes, count = figures.seconds, figures.sizes, train.images
    at_once = workers if params.runner.kind == "threads" else 1
    working_bytes = figures.idle_bytes + FLOW_BYTES + at_once * figures.work_bytes
    units = [name for name in left if name not in STEPS]

    def row(step: str, seconds: float, many_s: float, disk: float, more: float, words: str) -> Row:
        if step not in left:
            return Row(step, 0.0, 0.0, 0.0, 0.0, "computed already")
        return Row(step, seconds, many_s, disk, working_bytes + more, words)

    images = left.get("pseudo_masks", 0)
    done = f"{count - images:,} of {count:,} images computed already; " if images < count else ""
    stage1_s, choosing_s = images * each_s["pseudo_masks"], count * each_s["subsample"]
    shard_images = math.ceil(images / params.data.shard_images / workers) * params.data.shard_images
    shared_s = min(shard_images, images) * each_s["pseudo_masks"]
    training_s, saved_s, training_bytes, words = _training(params, train, scored, figures, workers)
    scoring = {unit: left[unit] * each_s[unit] for unit in units}
    longest_s = max(sum(scoring.values()) / workers, max(scoring.values(), default=0.0))
    rows = [
        _download(train, scored, left),
        row(
            "pseudo_masks", figures.models_s + stage1_s, figures.models_s + shared_s,
            images * sizes["masks"], 0.0,
            f"{done}{figures.basis(count)}; as much disk again while it runs",
        ),
        row(
            "subsample", choosing_s, choosing_s, count * sizes["kept"],
            OBJECT_BYTES * sizes["masks"] * count, "all masks are in memory at once",
        ),
        row(
            "train", training_s, training_s - saved_s, sizes["model"], training_bytes, words,
        ),
        Row(
            "evaluate", sum(scoring.values()), longest_s, 0.0,
            working_bytes if units else 0.0,
            "a method on a data set is one unit of work" if units
            else "computed already" if scored else "no labels, so nothing to score",
        ),
    ]  # fmt: skip
    whole = Row(
        "all", sum(one.seconds or 0.0 for one in rows), sum(one.many_s or 0.0 for one in rows),
        sum(one.disk_bytes for one in rows), max(one.memory_bytes for one in rows),
        "without download and report",
    )  # fmt: skip
    parts = [
        Row(f"  {unit}", seconds, None, 0.0, 0.0, figures.basis(left[unit]))
        for unit, seconds in scoring.items()
    ]
    return [*rows, *parts, whole]


def _download(train: DataSet, scored: Sequence[DataSet], left: Mapping[str, int]) -> Row:
    sets = (train, *scored)
    archives = {file: size for one in sets for file, size in one.archives.items()}
    absent = {file: size for one in sets if not one.here for file, size in one.archives.items()}
    disk_bytes = sum(archives.values()) + ("download" in left) * train.disk_bytes
    words = f"not measured; {human_bytes(sum(absent.values()))} to fetch"
    return Row("download", None, None, disk_bytes, 0.0, words)


def _training(
    params: Params, train: DataSet, scored: Sequence[DataSet], figures: Figures, workers: int
) -> tuple[float, float, float, str]:
    """Seconds with one worker; those that more save; bytes that it holds; what it stands on."""
    p, each_s, sizes, count = params.train, figures.seconds, figures.sizes, train.images
    cached = min(count, int(p.feature_cache_gb * 1e9 // max(sizes["features"], 1)))
    encodings = cached + p.epochs * (count - cached)
    at_once = workers if cached == count else 1  # else none before they are asked for
    steps = p.epochs * math.ceil(count / p.batch_images)
    checked = min(p.validation_images, scored[0].images) if scored else 0
    checks = math.ceil(steps / math.ceil(steps / VALIDATIONS))
    encode_s = encodings * each_s["features"]
    checking_s = checked * (each_s["features"] + checks * each_s["validation"])
    held_bytes = (cached + checked) * sizes["features"] + count * OBJECT_BYTES * sizes["kept"]
    words = (
        f"{encodings:,} encodings at {each_s['features']:.3g} s ({cached / count:.0%} of them fit "
        f"train.feature_cache_gb), {steps:,} steps at {each_s['step']:.3g} s, {checks} "
        f"validations on {checked} images in {checking_s:.3g} s"
    )
    whole_s = encode_s + steps * each_s["step"] + checking_s
    return whole_s, encode_s * (1 - 1 / at_once), held_bytes, words


def human_time(seconds: float | None) -> str:
    """A duration as people read it: "35 s", "12 min", "3.4 h", "2.1 days", "1.2 years"."""
    if seconds is None:
        return "-"
    for unit, size in _UNITS:
        if seconds >= 2 * size or (unit == "years" and seconds >= size):
            return (
                f"{seconds / size:.{int(seconds < (10 if unit == 'min' else 100) * size)}f} {unit}"
            )
    return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s"


def lines(rows: Sequence[Row], workers: int) -> list[str]:
    """A table, then what each row stands on."""
    cells = [["step", "1 worker", f"{workers} workers", "disk", "memory"]]
    for row in rows:
        sizes = (row.disk_bytes, row.memory_bytes)
        room = [human_bytes(round(size)) if size else "-" for size in sizes]
        cells.append([row.step, human_time(row.seconds), human_time(row.many_s), *room])
    if workers == 1:
        cells = [[*line[:2], *line[3:]] for line in cells]
    first, *others = (max(map(len, column)) for column in zip(*cells, strict=True))
    table = ["  ".join([line[0].ljust(first), *map(str.rjust, line[1:], others)]) for line in cells]
    return [*table, "", *(f"{row.step.strip()}: {row.basis}" for row in rows)]
