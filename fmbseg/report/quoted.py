"""The figures that the paper prints, as it prints them: mIoU in percent by column of its table.

Nothing here was measured by this code. Source of every figure: the table of results of arXiv
2403.09307 (ViT-L/14 for its own method).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

COLUMNS = ("PV-21", "PV-20", "PC-59", "CO-80", "CS-171", "City", "ADE")
SOURCE = "arXiv 2403.09307, its table of results, ViT-L/14 for FMbSeg"
PROTOCOL = (
    "TCL's unified protocol for FMbSeg's own row: short side 448, windows of 448 every 224, one "
    "template, no refinement; the other rows stand in the paper as their own papers have them, "
    "each under its own protocol"
)
UNCLEAR = "an unclear data set"


@dataclass(frozen=True)
class QuotedRow:
    """One row of the paper's table.

    Attributes:
        method: as the paper spells it.
        figures: column to mIoU in percent, as printed; a column it leaves empty is absent.
        figures_of: column to the data set that its figure is of, where that is not the column's:
            "PC-60" (Context with background) in PC-59, "COCO-Object" (with background) in CO-80,
            or UNCLEAR where the figure could not be placed.
    """

    method: str
    figures: Mapping[str, float]
    figures_of: Mapping[str, str] = field(default_factory=dict)


def _row(
    method: str, figures: tuple[float | None, ...], figures_of: Mapping[str, str] | None = None
) -> QuotedRow:
    printed = zip(COLUMNS, figures, strict=True)
    there = {column: value for column, value in printed if value is not None}
    return QuotedRow(method, there, figures_of or {})


_BOTH = {"PC-59": "PC-60", "CO-80": "COCO-Object"}

PAPER = _row("FMbSeg", (67.73, 85.65, 42.72, 57.63, 29.88, 28.37, 16.25))
"""The method that this code is."""

QUOTED = (
    _row("GroupViT", (50.4, 79.7, 18.7, 27.5, 15.3, 11.1, 9.2), _BOTH),
    _row("MaskCLIP", (38.8, 74.9, 23.6, 20.6, 16.4, 12.6, 9.8), _BOTH),
    _row("ReCo", (25.1, 57.7, 19.9, 31.6, 14.8, 21.1, 11.2), {"PC-59": "PC-60", "CO-80": UNCLEAR}),
    _row("TCL", (55.0, 83.2, 33.9, 31.6, 22.4, 24.0, 17.1), {"CO-80": "COCO-Object"}),
    _row("CLIP-S4", (None, None, 33.6, None, 22.1, None, None), {"PC-59": UNCLEAR}),
    _row("SCLIP", (59.1, None, 30.4, None, 22.4, None, None), {"PC-59": "PC-60"}),
    _row("CLIP-DIY", (59.0, None, 30.4, None, None, None, None), {"PC-59": UNCLEAR}),
    _row("CaR", (67.6, None, 30.5, 36.6, None, None, None), _BOTH),
    _row(
        "SAM-CLIP", (60.6, None, 29.2, 31.5, None, 17.1, None),
        {"PC-59": UNCLEAR, "CO-80": UNCLEAR},
    ),
)  # fmt: skip
"""Other methods, which are not run here."""
