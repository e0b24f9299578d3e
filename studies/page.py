"""The studies' figures as blocks of a markdown page, and as one HTML page with the pictures."""

import re
import shutil
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2

DOCS = Path("docs/miniature.md")
Table = list[list[str]]
_PAGE = jinja2.Environment(autoescape=True).from_string(
    """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{{ title }}</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<style>
body { font: 16px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 72rem; padding: 0 1rem }
table { border-collapse: collapse; margin: 1rem 0; display: block; overflow-x: auto }
td, th { padding: .25rem .7rem; border-bottom: 1px solid #ddd; text-align: left }
td { font-variant-numeric: tabular-nums }
img { max-width: 100%; height: auto }
</style></head><body><h1>{{ title }}</h1>
{% for heading, text, tables, images in parts %}<h2>{{ heading }}</h2><p>{{ text }}</p>
{% for rows in tables %}<table><thead><tr>{% for c in rows[0] %}<th>{{ c }}</th>{% endfor %}</tr>
</thead><tbody>{% for row in rows[1:] %}<tr>{% for c in row %}<td>{{ c }}</td>{% endfor %}</tr>
{% endfor %}</tbody></table>{% endfor %}
{% for image in images %}<p><img src="{{ image }}" alt="{{ heading }}"></p>{% endfor %}
{% endfor %}</body></html>
"""
)
CAPTIONS = {
    "similarities": "Similarity of every patch to one class name (the paper's figure 2)",
    "masks": "Pseudo masks: stage 1.1 with its prompt points, 1.2, and what is kept (figure 3)",
    "predictions": "Predictions on test images (figure 4)",
}


def write_table(table: dict[str, Any], pictures: Mapping[str, Path], root: Path) -> Path:
    """Write the block `table` of docs/miniature.md, and index.html with the pictures.

    Args:
        table: what `studies.table.collect` and `claims` found.
        pictures: name to file.
        root: folder of the HTML page.

    Returns:
        The HTML page.
    """
    seeds = len(table["seeds"])
    some = next(iter(next(iter(table["rows"].values())).values()))
    terms = (
        f"mIoU on the test split, mean ± half the range of {seeds} seeds of the training, the "
        f"draws and the test images ({some['images']} a view and seed; the unlabelled images stay "
        f"the same), protocol {some['protocol']}, background by the names of the stuff."
    )
    main, classes = miou_rows(table), class_rows(table, "miniature_all")
    held = [["claim", "holds", "figures"]]
    held += [[words, "yes" if holds else "**no**", said] for words, holds, said in table["claims"]]
    views = [["view", "stands for"], *([name, text] for name, text in table["views"].items())]
    blocks = [
        terms, markdown(main), markdown(held), "Views:", markdown(views),
        "IoU by class on `miniature_all`:", markdown(classes),
    ]  # fmt: skip
    put_block(DOCS, "table", "\n\n".join(blocks))
    for path in pictures.values():
        shutil.copyfile(path, root / path.name)
    parts = [
        ("Methods and views", terms, [main, held, views], []),
        ("IoU by class", "On miniature_all.", [classes], []),
        *((CAPTIONS[name], "", [], [path.name]) for name, path in pictures.items()),
    ]
    page = root / "index.html"
    page.write_text(_PAGE.render(title="FMbSeg: every method on the miniature", parts=parts))
    print(f"page: {page}")
    return page


def miou_rows(table: dict[str, Any]) -> Table:
    """One row a method: mIoU on every view, things on the first, time."""
    views = list(table["views"])
    short = [view.removeprefix("miniature_") for view in views]
    lines = [["method", *short, "things of all", "s an image", "uses labels"]]
    for row, found in table["rows"].items():
        cells = [spread(found[view]["miou"]) if view in found else "-" for view in views]
        home = found.get(views[0])
        things = "-" if home is None else spread(home["things"])
        times = [s for view in found.values() for s in view["seconds_per_image"]]
        seconds = f"{statistics.fmean(times):.3f}"
        lines.append([f"`{row}`", *cells, things, seconds, table["uses"].get(row, "")])
    return lines


def class_rows(table: dict[str, Any], view: str) -> Table:
    """One row a class: mean IoU of every method that has the view."""
    rows = {name: found[view] for name, found in table["rows"].items() if view in found}
    names = list(next(iter(rows.values()))["iou"])
    lines = [["class", *(f"`{row}`" for row in rows)]]
    for name in names:
        values = [_mean(found["iou"][name]) for found in rows.values()]
        lines.append([name, *("-" if v is None else f"{v:.2f}" for v in values)])
    return lines


def spread(values: Sequence[float | None]) -> str:
    """Mean ± half the range."""
    known = [value for value in values if value is not None]
    if not known:
        return "-"
    half = (max(known) - min(known)) / 2
    return f"{statistics.fmean(known):.3f} ± {half:.3f}"


def markdown(rows: Table) -> str:
    """A markdown table; the first row is its head."""
    head, *body = rows
    lines = [head, ["---"] * len(head), *body]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def put_block(path: Path, name: str, text: str) -> None:
    """Replace what stands between `<!-- name: begin -->` and `<!-- name: end -->`.

    Raises:
        ValueError: the page has no such block.
    """
    begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    new, count = re.subn(
        f"{re.escape(begin)}.*?{re.escape(end)}",
        lambda _: f"{begin}\n{text}\n{end}",
        path.read_text(),
        flags=re.DOTALL,
    )
    if count != 1:
        raise ValueError(f"{path}: found {count} blocks {begin} ... {end}; wanted one")
    path.write_text(new)


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.fmean(known) if known else None
