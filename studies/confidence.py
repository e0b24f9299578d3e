"""What confidences are worth: `python -m studies.confidence [WORKSPACE]`, of a run with labels.

Of pseudo masks and of the trained model's predictions, each with and without calibration: the
share of pixels that are labelled with at least some confidence, how many of them are wrong, and
the expected calibration error on images that the calibration was not made with. Prints a table and
draws a reliability diagram of the pseudo masks (`--picture docs/figures/reliability.png`).
"""

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from fmbseg.errors import UserError
from fmbseg.export.labelled import NONE
from fmbseg.params import load_params
from fmbseg.steps.export_source import Labels, labels_of
from fmbseg.steps.truth import labelled
from fmbseg.steps.workspace import Workspace
from fmbseg.types import IGNORE

LEAST = (0.0, 0.5, 0.7, 0.9)
"""Confidences that pixels are filtered by."""
EVERY = 4
"""Every fourth image is counted."""


def main() -> None:
    """Read the arguments, print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("workspace", nargs="?", type=Path, default=Path())
    parser.add_argument("--picture", type=Path, help="draw the diagram there; no table")
    arguments = parser.parse_args()
    root: Path = arguments.workspace
    if arguments.picture is not None:
        draw(calibrated(root, "all")[1], arguments.picture)
        return
    heads = ["labels", "calibrated", "error", *(f"labelled, wrong at {least}" for least in LEAST)]
    print(f"| {' | '.join(heads)} |\n{'|---' * len(heads)}|")
    for source in ("all", "1.1", "1.2", "predictions"):
        for calibrate in (False, True):
            print(f"| {' | '.join(row(root, source, calibrate=calibrate))} |", flush=True)


def row(root: Path, source: str, *, calibrate: bool) -> list[str]:
    """A line of the table.

    Raises:
        UserError: the workspace's images have no labels.
    """
    labels, facts = calibrated(root, source)
    truth = labelled(Workspace.open(root))
    assert truth is not None, "there is a calibration"
    error = facts[f"expected_calibration_error{'' if calibrate else '_before'}"]
    if not calibrate:
        changes = {"export.source": source, "export.calibrate": False}
        labels = labels_of(Workspace(root, load_params(root / "params.yaml", changes)))
    at = {name: index for index, name in enumerate(truth.names)}
    pixels, found, wrong = 0, [0] * len(LEAST), [0] * len(LEAST)
    for number, one in enumerate(labels.images()):
        target = truth[at[one.name]].target if one.name in at and number % EVERY == 0 else None
        if target is None or one.confidence is None:
            continue
        pixels += target.size
        for place, least in enumerate(LEAST):
            sure = (one.labels != NONE) & (target != IGNORE) & (one.confidence >= least)
            found[place] += int(sure.sum())
            wrong[place] += int((sure & (one.labels != target)).sum())
    cells = [f"{a / pixels:.1%}, {b / max(1, a):.1%}" for a, b in zip(found, wrong, strict=True)]
    return [source, "yes" if calibrate else "no", f"{error:.3f}", *cells]


def calibrated(root: Path, source: str) -> tuple[Labels, Mapping[str, Any]]:
    """The calibrated labels of a source, and what is known of their calibration.

    Raises:
        UserError: the workspace's images have no labels.
    """
    changes = {"export.source": source, "export.calibrate": True}
    labels = labels_of(Workspace(root, load_params(root / "params.yaml", changes)))
    if labels.calibration is None:
        raise UserError(f"{root}: found no labels; wanted a run with data.labels, or the miniature")
    return labels, labels.calibration.facts


def draw(facts: Mapping[str, Any], path: Path) -> None:
    """Accuracy against confidence, before and after calibration; points as large as they count."""
    mpl.use("agg")
    figure = Figure(figsize=(5, 4.4), layout="constrained")
    axes = figure.subplots()
    axes.plot((0, 1), (0, 1), color="0.6", linewidth=1, linestyle="--")
    for words, name, colour in (
        ("as they are", "_before", "#b7410e"),
        ("calibrated", "", "#0072b2"),
    ):
        bins = facts[f"reliability{name}"]
        pixels = np.array([one["pixels"] for one in bins])
        error = facts[f"expected_calibration_error{name}"]
        axes.scatter(
            [one["confidence"] for one in bins], [one["accuracy"] for one in bins],
            s=4 + 400 * pixels / pixels.sum(), color=colour, alpha=0.75,
        )  # fmt: skip
        said = f"{words}: expected calibration error {error:.3f}"
        axes.scatter([], [], s=40, color=colour, label=said)  # the legend's
    axes.set(
        xlim=(0, 1), ylim=(0, 1.02), xlabel="confidence", ylabel="share of pixels that are right"
    )
    figure.legend(loc="outside upper left", frameon=False, fontsize=9)
    figure.savefig(path, dpi=80, metadata={"Software": None})


if __name__ == "__main__":
    main()
