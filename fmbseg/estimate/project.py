"""From the sample to the whole data set: plain arithmetic, no measuring."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from fmbseg.align.trainer import VALIDATIONS
from fmbseg.estimate.figures import Figures
from fmbseg.estimate.meter import Rate
from fmbseg.estimate.sample import Samples
from fmbseg.estimate.schedule import FLOW_BYTES, Schedule, Unit, schedule
from fmbseg.params import Params
from fmbseg.store import human_bytes


@dataclass(frozen=True)
class Row:
    """One step, for the whole data set.

    Attributes:
        step: its name, with the unit for evaluations.
        seconds: with one worker; None where nothing was measured.
        seconds_many: with the workers asked for.
        disk_bytes: of its output.
        memory_bytes: most of one process, with what runs beside the step in it; None where nothing
            was measured.
        basis: what was measured, and how it was extrapolated.
        part: of the row before; not counted again in a total.
    """

    step: str
    seconds: float | None
    seconds_many: float | None
    disk_bytes: float
    memory_bytes: float | None
    basis: str
    part: bool = False


def project(params: Params, samples: Samples, figures: Figures, *, workers: int) -> list[Row]:
    """Scale the sample's figures to the data set.

    With many workers a row holds the seconds until the step ends after the one before it has: the
    evaluations that need no training run beside stage 1 and the training.

    Args:
        params: of the run.
        samples: say how many images there are.
        figures: of the samples.
        workers: processes or threads, each as fast as the one measured.
    """
    count = samples.train.images
    everything = (samples.train, *samples.scored)
    archives = {file: size for one in everything for file, size in one.archives.items()}
    absent = {file: size for one in everything if one.note for file, size in one.archives.items()}
    words = f"not measured; {human_bytes(sum(absent.values()))} to fetch"
    disk = samples.train.disk_bytes + sum(archives.values())
    choosing = figures.subsample.seconds * count
    training = _train(params, figures, samples, workers)
    plan = schedule(
        params, figures, count, workers, subsample_s=choosing,
        train=Unit("train", 0.0, training.seconds_many or 0.0, training.memory_bytes or 0.0),
    )  # fmt: skip
    memory = figures.base_bytes + FLOW_BYTES + figures.masks_memory_bytes * count
    words_12 = f"masks of {figures.subsample.units} of {count:,} images; all are in memory at once"
    return [
        Row("download", None, None, disk, None, words),
        _stage1(figures, count, plan),
        Row("subsample", choosing, choosing, figures.kept_bytes * count, memory, words_12),
        replace(training, memory_bytes=plan.memory_bytes("train")),
        *_evaluate(figures, plan),
    ]


def total(rows: Sequence[Row]) -> Row:
    """The whole run; the memory is that of its largest moment."""
    steps = [row for row in rows if not row.part]
    return Row(
        "all",
        sum(row.seconds or 0 for row in steps),
        sum(row.seconds_many or 0 for row in steps),
        sum(row.disk_bytes for row in steps),
        max(row.memory_bytes or 0 for row in steps),
        "without download and report",
    )


def _stage1(figures: Figures, count: int, plan: Schedule) -> Row:
    return Row(
        "pseudo_masks",
        figures.models_s + figures.texts_s + count * figures.stage1.seconds,
        plan.end("pseudo_masks"),
        figures.stage1_bytes * count,
        plan.memory_bytes("pseudo_masks"),
        f"{basis(figures.stage1, count)}; as much disk again while it runs",
    )


def _train(params: Params, figures: Figures, samples: Samples, workers: int) -> Row:
    p, count = params.train, samples.train.images
    cached = min(count, int(p.feature_cache_gb * 1e9 // max(figures.feature_bytes, 1)))
    encodings = cached + p.epochs * (count - cached)
    first = count if cached == count else 0  # over threads, before training
    steps = p.epochs * math.ceil(count / p.batch_images)
    spread = first * figures.encode.seconds + count * figures.labels.seconds
    again = (encodings - first) * figures.encode.seconds
    checked = min(p.validation_images, samples.labelled)
    checks = math.ceil(steps / math.ceil(steps / VALIDATIONS))
    validating = checked * (figures.encode.seconds + checks * figures.validation.seconds)
    alone = figures.texts_s + again + steps * figures.step.seconds + validating
    at_once = workers if first else 1
    encoding = at_once * max(figures.encode.peak_bytes - figures.base_bytes, 0)
    memory = (
        max(figures.base_bytes + encoding, figures.step.peak_bytes)
        + (cached + checked) * figures.feature_bytes
        + count * (figures.kept_memory_bytes + figures.label_bytes)
    )
    words = (
        f"{encodings:,} encodings at {figures.encode.seconds:.3g} s ({basis(figures.encode, count)}"
        f"; {cached / count:.0%} of the features fit train.feature_cache_gb), {steps:,} steps at "
        f"{figures.step.seconds:.3g} s ({figures.step.units} measured)"
    )
    if checked:
        words += f", {checks} validations on {checked} images in {validating:.3g} s"
    return Row(
        "train", spread + alone, spread / workers + alone, figures.model_bytes, memory, words
    )


def _evaluate(figures: Figures, plan: Schedule) -> list[Row]:
    if not figures.scored:
        return [Row("evaluate", None, None, 0, None, "no labels, so nothing to score")]
    parts = [
        Row(
            f"  {one.unit}", one.images * one.rate.seconds + figures.texts_s, None, 0,
            one.rate.peak_bytes, basis(one.rate, one.images), part=True,
        )
        for one in figures.scored
    ]  # fmt: skip
    after = max(plan.end("evaluate") - plan.end("train"), 0.0)
    words = (
        "a method on a data set is one unit of work; with many workers only what ends after the "
        "training is counted, since the others run beside it"
    )
    seconds = sum(row.seconds or 0.0 for row in parts)
    return [Row("evaluate", seconds, after, 0, plan.memory_bytes("evaluate"), words), *parts]


def basis(rate: Rate, count: int) -> str:
    """What a rate stands on, in words."""
    parts = [
        f"{work.done:,.0f} of {work.asked:,.0f} {kind} timed"
        if work.done
        else f"{work.asked:,.0f} {kind} at the pace timed in an earlier step"
        for kind, work in rate.left_out.items()
    ]
    if not parts:
        return f"{rate.units} of {count:,} images measured whole"
    return f"{rate.units} of {count:,} images measured in part ({', '.join(parts)})"
