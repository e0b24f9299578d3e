"""The confusion matrix as a picture."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Integer
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from fmbseg.store.names import printable

_MOST_NUMBERED = 25
_LONGEST_NAME = 24


def draw_confusion(
    matrix: Integer[np.ndarray, "category category+1"],
    class_names: Sequence[str],
    title: str,
    path: Path,
) -> None:
    """Write a PNG: of each true class (row), the percent of its pixels given to each class.

    The picture grows with the classes, so that every name can be read; up to 25 classes the
    percents stand in the cells. The last column, pixels without an answer, is drawn when it holds
    any.

    Args:
        matrix: pixel counts; the extra column counts pixels without an answer.
        class_names: one per row.
        title: stands above.
        path: target.
    """
    names = [_label(name) for name in class_names]
    count = len(names)
    columns = [*names, "no answer"] if matrix[:, count].any() else names
    pixels = matrix.sum(1, keepdims=True)
    percent = 100 * matrix[:, : len(columns)] / np.maximum(pixels, 1)
    cell_in = 0.42 if count <= _MOST_NUMBERED else 0.16
    longest = max(len(name) for name in columns) * 0.08
    size = (
        max(len(columns) * cell_in + longest + 1.6, 5.5),
        max(count * cell_in + longest + 1.2, 4.0),
    )
    figure = Figure(figsize=size, dpi=110, layout="constrained")
    axes = figure.add_subplot()
    shown = axes.imshow(percent, cmap="Blues", vmin=0, vmax=100, aspect="equal")
    font = 9 if count <= _MOST_NUMBERED else 7
    axes.set_xticks(range(len(columns)), columns, rotation=90, fontsize=font)
    axes.set_yticks(range(count), names, fontsize=font)
    axes.set_xlabel("predicted")
    axes.set_ylabel("true")
    axes.set_title(_text(title), fontsize=10, loc="left")
    if count <= _MOST_NUMBERED:
        for row, column in np.argwhere(percent >= 0.5):
            value = percent[row, column]
            axes.text(
                column, row, f"{value:.0f}", ha="center", va="center", fontsize=8,
                color="white" if value > 55 else "black",
            )  # fmt: skip
    figure.colorbar(shown, ax=axes, shrink=0.6, label="% of the true class's pixels")
    FigureCanvasAgg(figure)
    figure.savefig(path)


def _label(name: str) -> str:
    shown = name if len(name) <= _LONGEST_NAME else f"{name[: _LONGEST_NAME - 1]}…"
    return _text(shown)


def _text(name: str) -> str:
    """The name on one line; between two dollars matplotlib would read a formula."""
    return printable(name).replace("$", r"\$")
