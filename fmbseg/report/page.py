"""The static report: one HTML file that holds its own pictures and asks the network for nothing."""

import base64
import hashlib
import json
import math
import urllib.parse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from fmbseg import paper
from fmbseg.evaluate.metrics import METRICS
from fmbseg.methods.table import METHODS
from fmbseg.pictures.colours import palette
from fmbseg.report import comparison, quoted
from fmbseg.report.charts import BarChart, count_chart, iou_chart, line_plot
from fmbseg.report.content import MethodResult, ReportContent
from fmbseg.report.embed import embed_examples, embed_gallery
from fmbseg.store import write_bytes
from fmbseg.store.names import printable

DATA_FILES = ("templates/*.j2",)
MAX_PICTURES_BYTES = 2_300_000
MAX_DOUBTFUL_BYTES = 1_200_000
MAX_EXAMPLES_BYTES = 1_800_000


def build_report(out_html: Path, content: ReportContent) -> None:
    """Write the report; the file is there whole or not at all, and below 6 MB.

    Args:
        out_html: the file; its folder is made where there is none.
        content: what to show. The same content gives the same bytes.
    """
    environment = page_environment(Path(__file__).parent / "templates")
    steps, epochs = [p.step for p in content.history], [p.epoch for p in content.history]
    score_columns = _score_columns(content.results)
    colours = palette(len(content.class_names))
    legend = list(zip(content.class_names, colours, strict=True))
    script = environment.get_template("page.js.j2").render()
    page = environment.get_template("page.html.j2").render(
        content=content,
        facts=content.facts,
        script=Markup(script),
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        score_columns=score_columns,
        protocols=_protocols(score_columns),
        comparison=comparison.compare(content.results),
        quoted=quoted,
        metrics=METRICS,
        data_sets=_data_sets(content.results),
        methods=list(dict.fromkeys(result.method for result in content.results)),
        table=METHODS,
        iou_charts=_iou_charts(content.results),
        mask_chart=count_chart(
            "Masks per class",
            ("found by stage 1.1", "found by stage 1.2", "kept for training"),
            {c.class_name: (c.found_11, c.found_12, c.kept) for c in content.mask_counts},
        ),
        mask_totals=[
            sum(getattr(count, name) for count in content.mask_counts)
            for name in ("found_11", "found_12", "kept_11", "kept_12")
        ],
        loss=line_plot(steps, epochs, [p.loss for p in content.history]),
        learning_rate=line_plot(steps, epochs, [p.learning_rate for p in content.history]),
        validation=line_plot(
            [p.step for p in content.validation],
            [p.step for p in content.validation],  # no means over epochs: points are few
            [p.miou for p in content.validation],
            x_range=(steps[0], steps[-1]) if steps else None,
        ),
        **{
            name: [
                (row, [legend[index] for index in row.present])
                for row in embed_gallery(rows, colours, most_bytes)
            ]
            for name, rows, most_bytes in (
                ("gallery", content.gallery, MAX_PICTURES_BYTES),
                ("doubtful", content.doubtful, MAX_DOUBTFUL_BYTES),
            )
        },
        legend=legend,
        every_class=sorted(
            {*content.class_names, *(name for result in content.results for name in result.iou)}
        ),
    )
    out_html.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(out_html, page.encode("utf-8", "backslashreplace"))


def shown(text: object) -> str:
    """A name on one line: control, direction and undecodable characters become escapes."""
    return printable(str(text).encode("utf-8", "backslashreplace").decode())


def isolated(text: object) -> Markup:
    """A name in the page's text, its writing direction kept from the text around it."""
    return Markup("<bdi>{}</bdi>").format(shown(text))


def link(path: str) -> str:
    """A path relative to the page as an address, its names percent-encoded."""
    return urllib.parse.quote(path.encode("utf-8", "surrogatepass"), safe="/")


def class_list(names: Sequence[str]) -> str:
    """Class names for the filter, as the text of an attribute."""
    return json.dumps([shown(name) for name in names])


def page_environment(*folders: Path) -> Environment:
    """For pages that escape every name and stand alone; templates lie in the folders."""
    environment = Environment(
        loader=FileSystemLoader(folders),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        fraction=_fraction, figure=_figure,
        percent=comparison.percent, signed=comparison.signed,
        shown=shown, isolated=isolated, link=link, class_list=class_list, setting=paper.shown,
    )  # fmt: skip
    return environment


def _score_columns(results: Sequence[MethodResult]) -> list[dict[str, Any]]:
    """One column per data set, split and protocol; figures of unlike protocols never share one."""
    columns = []
    for (data_set, split, protocol_hash), group in comparison.by_protocol(results).items():
        scores = {method: result.miou for method, result in group.items()}
        best = max((v for v in scores.values() if math.isfinite(v)), default=None)
        columns.append({
            "name": f"{data_set} {split}", "hash": protocol_hash,
            "protocol": next(iter(group.values())).protocol,
            "scores": scores, "best": best, "winner": [m for m, v in scores.items() if v == best],
        })  # fmt: skip
    return columns


def _iou_charts(results: Sequence[MethodResult]) -> list[BarChart]:
    return [
        iou_chart(f"{data_set} {split}", {method: one.iou for method, one in group.items()})
        for (data_set, split, _), group in comparison.by_protocol(results).items()
    ]


def _protocols(columns: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Each protocol once, with the names of the columns that it rules."""
    found: dict[str, dict[str, Any]] = {}
    for column in columns:
        facts = {"hash": column["hash"], "facts": column["protocol"], "names": []}
        found.setdefault(column["hash"], facts)["names"].append(column["name"])
    return list(found.values())


def _data_sets(results: Sequence[MethodResult]) -> list[dict[str, Any]]:
    """Data sets with their methods' confusions and embedded examples, and a colour legend."""
    embedded = embed_examples([result.examples for result in results], MAX_EXAMPLES_BYTES)
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for result, pictures in zip(results, embedded, strict=True):
        if not result.confusions and not result.examples:
            continue
        names = tuple(result.iou)
        data_set = found.setdefault((result.data_set, result.split), {
            "name": f"{result.data_set} {result.split}",
            "legend": list(zip(names, palette(len(names)), strict=True)),
            "results": [],
        })  # fmt: skip
        sides = {
            side: [(one, embedded) for one, embedded in pictures if one.side == side]
            for side in ("worst", "best")
        }
        data_set["results"].append({"result": result, "sides": sides, "open": False})
    data_sets = list(found.values())
    if data_sets:  # one open part shows what the others hold
        max(data_sets[0]["results"], key=lambda entry: entry["result"].miou)["open"] = True
    return data_sets


def _fraction(value: float | None) -> str:
    """0.xxx, or a dash where there is no figure."""
    return "–" if value is None or not math.isfinite(value) else f"{value:.3f}"


def _figure(value: object) -> str:
    """A number as a reader wants it."""
    if value is None:
        return "–"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
