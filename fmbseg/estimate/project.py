"""From the sample to the whole data set: plain arithmetic, no measuring."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from fmbseg.estimate.figures import Figures
from fmbseg.estimate.meter import Rate
from fmbseg.estimate.sample import Samples
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
        memory_bytes: most of one process; None where nothing was measured.
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

    Stage 1 is spread over workers by shards, evaluations by methods, the first encoding of the
    training images by images; the other steps are one unit each.

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
    rows = [
        Row("download", None, None, samples.train.disk_bytes + sum(archives.values()), None, words),
        _stage1(params, figures, count, workers),
    ]
    seconds = figures.subsample.seconds * count
    memory = figures.base_bytes + figures.masks_memory_bytes * count
    words = f"masks of {figures.subsample.units} of {count:,} images; all are in memory at once"
    rows.append(Row("subsample", seconds, seconds, figures.kept_bytes * count, memory, words))
    rows.append(_train(params, figures, count, workers))
    return rows + _evaluate(figures, workers)


def total(rows: Sequence[Row]) -> Row:
    """All steps one after the other; the memory is that of the largest."""
    steps = [row for row in rows if not row.part]
    return Row(
        "all",
        sum(row.seconds or 0 for row in steps),
        sum(row.seconds_many or 0 for row in steps),
        sum(row.disk_bytes for row in steps),
        max(row.memory_bytes or 0 for row in steps),
        "without download and report",
    )


def _stage1(params: Params, figures: Figures, count: int, workers: int) -> Row:
    size = min(count, params.data.shard_images)
    waves = math.ceil(math.ceil(count / size) / workers)
    rate = figures.stage1.seconds
    return Row(
        "pseudo_masks",
        count * rate + figures.texts_s,
        min(count, waves * size) * rate + figures.texts_s,
        figures.stage1_bytes * count,
        figures.stage1.peak_bytes,
        f"{basis(figures.stage1, count)}; as much disk again while it runs",
    )


def _train(params: Params, figures: Figures, count: int, workers: int) -> Row:
    p = params.train
    cached = min(count, int(p.feature_cache_gb * 1e9 // max(figures.feature_bytes, 1)))
    encodings = count + p.epochs * (count - cached)
    steps = p.epochs * math.ceil(count / p.batch_images)
    spread = count * (figures.encode.seconds + figures.labels.seconds)
    again = (encodings - count) * figures.encode.seconds
    alone = figures.texts_s + again + steps * figures.step.seconds
    memory = (
        max(figures.encode.peak_bytes, figures.step.peak_bytes) + cached * figures.feature_bytes
        + count * (figures.kept_memory_bytes + figures.label_bytes)
    )  # fmt: skip
    words = (
        f"{encodings:,} encodings at {figures.encode.seconds:.3g} s ({basis(figures.encode, count)}"
        f"; {cached / count:.0%} of the features fit train.feature_cache_gb), {steps:,} steps at "
        f"{figures.step.seconds:.3g} s ({figures.step.units} measured)"
    )
    return Row(
        "train", spread + alone, spread / workers + alone, figures.model_bytes, memory, words
    )


def _evaluate(figures: Figures, workers: int) -> list[Row]:
    if not figures.scored:
        return [Row("evaluate", None, None, 0, None, "no labels, so nothing to score")]
    parts = [
        Row(
            f"  {one.unit}", one.images * one.rate.seconds + figures.texts_s, None, 0,
            one.rate.peak_bytes, basis(one.rate, one.images), part=True,
        )
        for one in figures.scored
    ]  # fmt: skip
    times = [row.seconds or 0.0 for row in parts]
    ends = [0.0] * workers
    for seconds in sorted(times, reverse=True):
        ends[ends.index(min(ends))] += seconds
    most = max(row.memory_bytes or 0 for row in parts)
    words = "a method on a data set is one unit of work"
    return [Row("evaluate", sum(times), max(ends), 0, most, words), *parts]


def basis(rate: Rate, count: int) -> str:
    """What a rate stands on, in words."""
    left = ", ".join(
        f"{kind} {work.done:,.0f} of {work.asked:,.0f}" for kind, work in rate.left_out.items()
    )
    if not left:
        return f"{rate.units} of {count:,} images measured whole"
    return f"{rate.units} of {count:,} images measured in part ({left})"
