"""What confidences are worth: `python -m studies.confidence [WORKSPACE]`, of a run with labels.

Of pseudo masks and of the trained model's predictions, each with and without calibration: the
share of pixels that are labelled with at least some confidence, how many of them are wrong, and
the expected calibration error on images that the calibration was not made with. Prints a table.
"""

import argparse
from pathlib import Path

from fmbseg.errors import UserError
from fmbseg.export.labelled import NONE
from fmbseg.params import load_params
from fmbseg.steps.export_source import labels_of
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
    root: Path = parser.parse_args().workspace
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
    changes = {"export.source": source, "export.calibrate": True}
    workspace = Workspace(root, load_params(root / "params.yaml", changes))
    truth, labels = labelled(workspace), labels_of(workspace)
    if truth is None or labels.calibration is None:
        raise UserError(f"{root}: found no labels; wanted a run with data.labels, or the miniature")
    facts = labels.calibration.facts
    error = facts[f"expected_calibration_error{'' if calibrate else '_before'}"]
    if not calibrate:
        changes["export.calibrate"] = False
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


if __name__ == "__main__":
    main()
