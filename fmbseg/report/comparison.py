"""Measured figures beside the paper's and those it quotes, for the data sets that it has."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from fmbseg.methods.table import OURS
from fmbseg.report.content import MethodResult
from fmbseg.report.quoted import PAPER, QUOTED, QuotedRow


@dataclass(frozen=True)
class Column:
    """One data set under one protocol, and what the paper has for it; mIoU in percent.

    Attributes:
        name: of the paper's column.
        of: one of the results, for what all share: data set, split, protocol, images.
        paper: the paper's own figure for the method.
        measured: ours; None where the method was not scored.
        seconds_per_image: of ours.
    """

    name: str
    of: MethodResult
    paper: float
    measured: float | None
    seconds_per_image: float | None

    @property
    def gap(self) -> float | None:
        """Measured less paper, in points."""
        return None if self.measured is None else self.measured - self.paper


@dataclass(frozen=True)
class Cell:
    """A figure in percent as text, and the data set it is of where that is not the column's."""

    text: str
    figure_of: str = ""


@dataclass(frozen=True)
class Row:
    """One method: where its figures come from, and a cell a column."""

    method: str
    kind: Literal["paper", "measured", "gap", "quoted"]
    cells: tuple[Cell, ...]


@dataclass(frozen=True)
class Comparison:
    """The columns that were scored, in the paper's order, and the rows beside each other."""

    columns: tuple[Column, ...]
    rows: tuple[Row, ...]


def compare(results: Sequence[MethodResult]) -> Comparison | None:
    """Put measured figures beside the paper's.

    Args:
        results: of any data sets; those without a column of the paper's are left out.

    Returns:
        None where no result has such a column.
    """
    groups = by_protocol([one for one in results if one.paper_column is not None])
    if not groups:
        return None
    place = list(PAPER.figures).index
    ordered = sorted(
        groups.values(), key=lambda group: place(str(next(iter(group.values())).paper_column))
    )
    columns = tuple(_column(group) for group in ordered)
    methods = dict.fromkeys(method for group in ordered for method in group)
    measured = {
        method: Row(method, "measured", tuple(_measured(group, method) for group in ordered))
        for method in methods
    }
    rows = [Row(PAPER.method, "paper", tuple(Cell(percent(column.paper)) for column in columns))]
    if OURS in measured:
        gaps = tuple(Cell(signed(column.gap)) for column in columns)
        rows += [measured.pop(OURS), Row("measured − paper", "gap", gaps)]
    rows += measured.values()
    rows += [
        Row(row.method, "quoted", tuple(_quoted(row, column.name) for column in columns))
        for row in QUOTED
    ]
    return Comparison(columns, tuple(rows))


def by_protocol(
    results: Sequence[MethodResult],
) -> dict[tuple[str, str, str], dict[str, MethodResult]]:
    """Data set, split and protocol's hash to the results that compare, by method."""
    groups: dict[tuple[str, str, str], dict[str, MethodResult]] = {}
    for one in results:
        key = (one.data_set, one.split, one.protocol_hash)
        groups.setdefault(key, {})[one.method] = one
    return groups


def _measured(group: Mapping[str, MethodResult], method: str) -> Cell:
    return Cell(percent(100 * group[method].miou if method in group else None))


def _quoted(row: QuotedRow, column: str) -> Cell:
    if column not in row.figures:
        return Cell("–")
    return Cell(f"{row.figures[column]:.1f}", row.figures_of.get(column, ""))


def _column(group: Mapping[str, MethodResult]) -> Column:
    any_result, ours = next(iter(group.values())), group.get(OURS)
    name = str(any_result.paper_column)
    return Column(
        name,
        of=any_result,
        paper=PAPER.figures[name],
        measured=None if ours is None else 100 * ours.miou,
        seconds_per_image=None if ours is None else ours.seconds_per_image,
    )


def percent(value: float | None) -> str:
    """Two decimals, or a dash where there is no figure."""
    return "–" if value is None or not math.isfinite(value) else f"{value:.2f}"


def signed(value: float | None) -> str:
    """A difference with its sign, or a dash where there is none."""
    shown = percent(value)
    return shown if value is None or shown == "–" else f"{value:+.2f}".replace("-", "−")
