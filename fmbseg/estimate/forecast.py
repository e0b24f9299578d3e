"""From what was measured to the whole run: arithmetic, no measuring."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from fmbseg.align.trainer import VALIDATIONS
from fmbseg.estimate.layout import Layout
from fmbseg.estimate.measure import Figures
from fmbseg.estimate.sample import DataSet
from fmbseg.estimate.to_do import ToDo, evaluations
from fmbseg.params import Params
from fmbseg.steps import evaluate
from fmbseg.store import human_bytes

FLOW_BYTES = 2e8
"""What the flow's own libraries add to the process that computes (Prefect, MLflow), about."""
OBJECT_BYTES = 2.0
"""Memory of masks as objects, for each byte of their files, at most; large masks take half."""
_DONE, _JOURNAL = "computed already", "as long as earlier ones took, by the journal of this folder"


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


def forecast(
    params: Params, train: DataSet, scored: Sequence[DataSet], figures: Figures, to_do: ToDo,
    workers: int,
) -> list[Row]:  # fmt: skip
    """Lay the run out in the flow's order and add it up; the last row is the whole.

    With many workers a row holds the seconds until the step ends after the one before it has: the
    evaluations that need no training run beside stage 1 and the training.

    Args:
        params: of the run.
        train: the data set that is trained on.
        scored: those that are scored.
        figures: of some of their images.
        to_do: what is not computed yet.
        workers: processes or threads, each as fast as the one measured.
    """
    costs, sizes, count = figures.costs, figures.sizes, train.images
    layout, idle = Layout(workers, figures.models_s), figures.base_bytes + FLOW_BYTES

    masks, images = costs["pseudo_masks"], sum(size for size, _ in to_do.shards)
    stage1_s = figures.models_s if images else 0.0
    for size, known in to_do.shards:
        seconds = masks.texts_s + size * masks.each_s if known is None else known
        layout.put("pseudo_masks", seconds, masks.more_bytes)
        stage1_s += seconds

    parts: list[Row] = []

    def score(*, trained: bool) -> None:
        for unit, one in evaluations(params, scored).items():
            if unit in to_do.units and evaluate.is_trained(unit) == trained:
                cost, known = costs[unit], to_do.units[unit]
                seconds = cost.texts_s + one.images * cost.each_s if known is None else known
                layout.put("evaluate", seconds, cost.more_bytes, layout.end("train"))
                basis = cost.basis(one.images) + ("" if known is None else f"; {_JOURNAL}")
                parts.append(Row(f"  {unit}", seconds, None, 0, idle + cost.more_bytes, basis))

    score(trained=False)
    choosing = Row("subsample", 0.0, 0.0, 0, 0, _DONE)
    if "subsample" in to_do.units:
        seconds = to_do.units["subsample"] or count * costs["subsample"].each_s
        memory = idle + OBJECT_BYTES * sizes["masks"] * count
        words = "all masks are in memory at once"
        choosing = Row("subsample", seconds, seconds, count * sizes["kept"], memory, words)
    training = Row("train", 0.0, 0.0, 0, 0, _DONE)
    if "train" in to_do.units:
        training = _training(params, train, scored, figures, workers, to_do.units["train"])
        begins = layout.end("pseudo_masks") + (choosing.seconds or 0.0)
        layout.add("train", begins, training.many_s or 0.0, training.memory_bytes)
    score(trained=True)

    most = layout.most_bytes(together=params.runner.kind == "threads")
    memory_of = {step: idle + more for step, more in most.items()}
    stage1_end, train_end = layout.end("pseudo_masks"), layout.end("train")
    journal = sum(known is not None for _, known in to_do.shards)
    rows = [
        _download(train, scored, to_do),
        Row(
            "pseudo_masks", stage1_s, stage1_end, images * sizes["masks"],
            memory_of.get("pseudo_masks", 0),
            (f"{count - images:,} of {count:,} images {_DONE}; " if images < count else "")
            + (f"{journal} of {len(to_do.shards)} shards {_JOURNAL}; " if journal else "")
            + f"{masks.basis(count)}; as much disk again while it runs",
        ),
        choosing,
        replace(training, memory_bytes=memory_of.get("train", 0)),
        Row(
            "evaluate", sum(row.seconds or 0.0 for row in parts),
            max(layout.end("evaluate") - max(train_end, stage1_end), 0.0), 0,
            memory_of.get("evaluate", 0),
            "a method on a data set is one unit of work; with many workers only what ends after "
            "the training is counted, since the others run beside it"
            if scored
            else "no labels, so nothing to score",
        ),
    ]  # fmt: skip
    whole = Row(
        "all", sum(row.seconds or 0.0 for row in rows), sum(row.many_s or 0.0 for row in rows),
        sum(row.disk_bytes for row in rows), max(row.memory_bytes for row in rows),
        "without download and report",
    )  # fmt: skip
    return [*rows, *parts, whole]


def _download(train: DataSet, scored: Sequence[DataSet], to_do: ToDo) -> Row:
    archives = {file: size for one in (train, *scored) for file, size in one.archives.items()}
    absent = {
        file: size
        for one in (train, *scored)
        if one.drawn_hw is not None
        for file, size in one.archives.items()
    }
    disk = sum(archives.values()) + (train.disk_bytes if "download" in to_do.units else 0)
    words = f"not measured; {human_bytes(sum(absent.values()))} to fetch"
    return Row("download", None, None, disk, 0, words)


def _training(
    params: Params, train: DataSet, scored: Sequence[DataSet], figures: Figures, workers: int,
    known: float | None,
) -> Row:  # fmt: skip
    """Encodings, steps and validations; the memory is what they add."""
    p, costs, sizes, count = params.train, figures.costs, figures.sizes, train.images
    cached = min(count, int(p.feature_cache_gb * 1e9 // max(sizes["features"], 1)))
    encodings = cached + p.epochs * (count - cached)
    at_once = workers if cached == count else 1  # else none before they are asked for
    steps = p.epochs * math.ceil(count / p.batch_images)
    checked = min(p.validation_images, scored[0].images) if scored else 0
    checks = math.ceil(steps / math.ceil(steps / VALIDATIONS))
    encode_s, step_s = costs["features"].each_s, costs["step"].each_s
    validating = checked * (encode_s + checks * costs["validation"].each_s)
    rest = costs["pseudo_masks"].texts_s + steps * step_s + validating
    one, many = encodings * encode_s + rest, encodings * encode_s / at_once + rest
    more = (
        max(at_once * costs["features"].more_bytes, costs["step"].more_bytes)
        + (cached + checked) * sizes["features"]
        + count * (OBJECT_BYTES * sizes["kept"] + sizes["labels"])
    )
    words = (
        f"{encodings:,} encodings at {encode_s:.3g} s ({costs['features'].basis(count)}; "
        f"{cached / count:.0%} of the features fit train.feature_cache_gb), {steps:,} steps at "
        f"{step_s:.3g} s ({costs['step'].units} measured)"
    )
    if checked:
        words += f", {checks} validations on {checked} images in {validating:.3g} s"
    if known is not None:
        one, many, words = known, known, _JOURNAL
    return Row("train", one, many, sizes["model"], more, words)
