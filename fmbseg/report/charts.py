"""The report's charts as plain numbers; the template draws them as SVG in percent of its width.

Positions are percentages, so that a chart fits a phone without shrinking its text.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

MAX_POINTS = 400


@dataclass(frozen=True)
class Mark:
    """A text at a place.

    Of a bar its length in percent of the full scale (None: no bar), of a tick on an axis percent
    from the left or the top.
    """

    percent: float | None
    text: str


@dataclass(frozen=True)
class BarChart:
    """Grouped horizontal bars; every bar of a chart has the same scale.

    Attributes:
        name: heading of the chart.
        series: what is charted.
        rows: class to its bars, one for each of `series`.
    """

    name: str
    series: tuple[str, ...]
    rows: Mapping[str, tuple[Mark, ...]]


@dataclass(frozen=True)
class LinePlot:
    """One curve with linear axes.

    Attributes:
        fine: polyline of single steps (or of short runs of them), in a 1000 by 1000 frame, y down.
        coarse: polyline of the epochs' means in the same frame; empty with fewer than two epochs.
        fine_name: what a point of `fine` is.
        x_ticks: steps.
        y_ticks: values.
    """

    fine: str
    coarse: str
    fine_name: str
    x_ticks: tuple[Mark, ...]
    y_ticks: tuple[Mark, ...]


def iou_chart(name: str, iou_of_method: Mapping[str, Mapping[str, float | None]]) -> BarChart:
    """Chart the per-class IoU of several methods, classes with the highest IoU first.

    Args:
        name: heading of the chart.
        iou_of_method: method to class to IoU (0 to 1; None or nan: the class does not occur).
    """
    classes = list(dict.fromkeys(c for iou in iou_of_method.values() for c in iou))
    table = {c: [_finite(iou.get(c)) for iou in iou_of_method.values()] for c in classes}
    classes.sort(key=lambda c: -max((v for v in table[c] if v is not None), default=-1.0))
    rows = {
        c: tuple(Mark(None, "none") if v is None else Mark(v * 100, f"{v:.3f}") for v in table[c])
        for c in classes
    }
    return BarChart(name, tuple(iou_of_method), rows)


def count_chart(name: str, series: Sequence[str], counts: Mapping[str, Sequence[int]]) -> BarChart:
    """Chart counts per class, in the order given, scaled to the largest.

    Args:
        name: heading of the chart.
        series: what is counted.
        counts: class to one count for each of `series`.
    """
    top = max((count for row in counts.values() for count in row), default=0) or 1
    rows = {
        label: tuple(Mark(100 * count / top, f"{count:,}") for count in row)
        for label, row in counts.items()
    }
    return BarChart(name, tuple(series), rows)


def line_plot(
    steps: Sequence[int],
    epochs: Sequence[int],
    values: Sequence[float],
    x_range: tuple[int, int] | None = None,
) -> LinePlot | None:
    """Plot values over training steps; values that are not finite are left out.

    Args:
        steps: ascending.
        epochs: the epoch of each step.
        values: the loss, the learning rate or another figure at each step.
        x_range: first and last step of the axis, to stand below another plot; None: of `steps`.

    Returns:
        The plot, or None without any finite value.
    """
    kept = [(s, e, v) for s, e, v in zip(steps, epochs, values, strict=True) if math.isfinite(v)]
    if not kept:
        return None
    run = -(-len(kept) // MAX_POINTS)
    fine = [_mean_point(kept[i : i + run]) for i in range(0, len(kept), run)]
    by_epoch: dict[int, list[tuple[int, int, float]]] = {}
    for point in kept:
        by_epoch.setdefault(point[1], []).append(point)
    coarse = [_mean_point(points) for points in by_epoch.values()]
    first, last = x_range or (kept[0][0], kept[-1][0])
    x_low, x_high = min(first, kept[0][0]), max(last, kept[-1][0], kept[0][0] + 1)
    y_values = nice_ticks(min(v for _, v in fine), max(v for _, v in fine), 5)
    y_low, y_high = y_values[0], y_values[-1]

    def x_percent(step: float) -> float:
        return 100 * (step - x_low) / (x_high - x_low)

    def y_percent(value: float) -> float:
        return 100 * (y_high - value) / (y_high - y_low)

    def polyline(points: Sequence[tuple[float, float]]) -> str:
        return " ".join(f"{x_percent(x) * 10:.1f},{y_percent(y) * 10:.1f}" for x, y in points)

    x_values = [x for x in nice_ticks(x_low, x_high, 5) if x_low <= x <= x_high and x == int(x)]
    return LinePlot(
        polyline(fine),
        polyline(coarse) if len(coarse) > 1 and len(coarse) < len(fine) else "",
        "one step" if run == 1 else f"mean of {run} steps",
        tuple(Mark(x_percent(x), f"{int(x):,}") for x in x_values),
        tuple(Mark(y_percent(y), f"{y:.4g}") for y in y_values),
    )


def nice_ticks(low: float, high: float, about: int) -> list[float]:
    """Round numbers (1, 2 or 5 times a power of ten apart) that enclose `low` to `high`."""
    if high <= low:
        low, high = low - (abs(low) or 1.0) / 2, low + (abs(low) or 1.0) / 2
    raw = (high - low) / about
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(m * power for m in (1, 2, 5, 10) if m * power >= raw * (1 - 1e-9))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(i * step, 12) for i in range(first, last + 1)]


def _finite(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else float(value)


def _mean_point(points: Sequence[tuple[int, int, float]]) -> tuple[float, float]:
    count = len(points)
    return sum(p[0] for p in points) / count, sum(p[2] for p in points) / count
