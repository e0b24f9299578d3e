"""`make ablations`: one setting after the other, on the validation split."""

import statistics
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
import torch
from matplotlib.figure import Figure

from fmbseg.methods.table import OURS
from fmbseg.miniature.world import SEEN_THINGS
from fmbseg.progress import lines_to_stderr
from fmbseg.store import write_json
from studies import page
from studies.cells import Cell, CellError, run_all
from studies.miniature.train_vision import export
from studies.miniature.vision_scores import build_encoder

ROOT, DOCS, PICTURES = Path("runs/ablations"), Path("docs/ablations.md"), Path("docs/ablations")
MOST_IMAGES, SHIPPED_IMAGES = 2000, 600
DATA_SET = "miniature"


@dataclass(frozen=True)
class Ablation:
    """One setting and its values.

    Attributes:
        name: of the table and the plot.
        values: text of the value to the parameters that set it; the shipped ones have none.
        methods: what is scored; stage 1 too where the setting changes its masks.
    """

    name: str
    values: Mapping[str, Mapping[str, Any]]
    methods: tuple[str, ...] = (OURS,)


@dataclass(frozen=True)
class Scores:
    """One method under one value.

    Attributes:
        value: its text.
        method: scored.
        miou: over all classes.
        things: mean over the things.
        shipped: whether params.yaml has this value.
    """

    value: str
    method: str
    miou: float
    things: float
    shipped: bool


WITH_STAGE1 = ("stage1", OURS)
SHIPPED: Mapping[str, Any] = {}


def _of(dotted: str, *values: Any, shipped: Any) -> dict[str, Mapping[str, Any]]:
    return {str(v): SHIPPED if v == shipped else {dotted: v} for v in values}


def ablations(root: Path) -> tuple[Ablation, ...]:
    """All of them; `root` is where the untrained encoder's weights are written."""
    untrained = f"local-dir:{root / 'untrained'}"
    return (
        Ablation(
            "fraction of stage 1.2 kept",
            _of("subsample.keep_fraction", 0.0, 0.25, 0.5, "balance", 1.0, shipped="balance"),
        ),
        Ablation(
            "loss",
            _of(
                "train.loss", "prototype_supcon", "cross_entropy", "clip",
                shipped="prototype_supcon",
            ),
        ),
        Ablation("temperature", _of("train.temperature", 0.05, 0.1, 0.2, 0.4, shipped=0.2)),
        Ablation(
            "patches drawn an image", _of("train.patches_per_image", 8, 16, 32, 64, shipped=16)
        ),
        Ablation(
            "longest gradient",
            {"any": {"train.max_grad_norm": None}, "1.0": SHIPPED,
             "0.5": {"train.max_grad_norm": 0.5}},
        ),
        Ablation(
            "unlabelled images",
            {str(count): images(count) for count in (100, 300, 600, 1000, MOST_IMAGES)},
        ),
        Ablation(
            "presence votes", _of("pseudo_masks.presence_votes", 0, 1, 2, shipped=1), WITH_STAGE1
        ),
        Ablation(
            "projection",
            _of("models.projection", "maskclip", "sclip", "naclip", shipped="naclip"),
            WITH_STAGE1,
        ),
        Ablation(
            "five points",
            {"jointly": SHIPPED, "singly": {"pseudo_masks.points_together": False}},
            WITH_STAGE1,
        ),
        Ablation(
            "encoder",
            {"trained": SHIPPED, "random weights": {"models.vision": {"name": untrained}}},
        ),
    )  # fmt: skip


def images(count: int) -> dict[str, Any]:
    """So many images and as many steps as ever."""
    return {"data.train_images": count, "train.epochs": max(1, round(18_000 / count))}


def common() -> dict[str, Any]:
    """What all cells share."""
    return {
        "data.test_images": 1, "evaluate.split": "val", "evaluate.methods": [OURS],
        "evaluate.data_sets": ["home"], "evaluate.examples": 0, "report.gallery_images": 0,
        "runner.workers": 1, "tracking.experiment": "fmbseg-ablations",
        "tracking.registered_model": "fmbseg-ablations",
    }  # fmt: skip


def cells(root: Path, wanted: Sequence[Ablation]) -> dict[tuple[str, str], Cell]:
    """(Ablation, value) to cell; all shipped values are one cell."""
    base = Cell(
        root / "images", {**common(), **images(MOST_IMAGES), "runner.workers": 2},
        prepare=lambda: write_untrained(root / "untrained"), until="pseudo_masks",
    )  # fmt: skip
    shipped = Cell(
        root / "shipped", {**common(), "evaluate.methods": list(WITH_STAGE1)}, base
    )  # fmt: skip
    found = {}
    for one in wanted:
        for value, overrides in one.values.items():
            if overrides == SHIPPED or overrides == images(SHIPPED_IMAGES):
                found[one.name, value] = shipped
            else:
                folder = f"{one.name}-{value}".replace(" ", "_").replace(".", "")
                section = {**common(), "evaluate.methods": list(one.methods), **overrides}
                found[one.name, value] = Cell(root / folder, section, base)
    return found


def write_untrained(folder: Path) -> None:
    """The vision encoder's architecture with the weights that its training starts from, seed 0."""
    torch.manual_seed(0)
    export(build_encoder(), folder)


def scores(one: Ablation, found: Mapping[tuple[str, str], Cell]) -> list[Scores]:
    """Figures of one ablation, values in order."""
    rows = []
    for value in one.values:
        cell = found[one.name, value]
        for method in one.methods:
            metrics = cell.metrics(method, DATA_SET)
            things = statistics.fmean(metrics["iou"][name] or 0.0 for name in SEEN_THINGS)
            rows.append(Scores(value, method, metrics["miou"], things, cell.root.name == "shipped"))
    return rows


def sentence(rows: Sequence[Scores]) -> str:
    """What the figures say, without a judgement."""
    parts = []
    for method in dict.fromkeys(row.method for row in rows):
        mine = [row for row in rows if row.method == method]
        best = max(mine, key=lambda row: row.miou)
        shipped = next(row for row in mine if row.shipped)
        low = min(mine, key=lambda row: row.miou)
        gap = best.miou - shipped.miou
        place = "is the best" if gap == 0 else f"is {gap:.3f} below `{best.value}`"
        parts.append(
            f"`{method}`: the shipped `{shipped.value}` {place}; the worst, `{low.value}`, is "
            f"{best.miou - low.miou:.3f} below the best."
        )
    return " ".join(parts)


def plot(name: str, rows: Sequence[Scores], path: Path) -> None:
    """All classes and things by value."""
    mpl.use("agg")
    figure = Figure(figsize=(5, 3), layout="constrained")
    axes = figure.add_subplot()
    for method in dict.fromkeys(row.method for row in rows):
        mine = [row for row in rows if row.method == method]
        values = [row.value for row in mine]
        (line,) = axes.plot(values, [row.miou for row in mine], "o-", label=f"{method}, all")
        things = [row.things for row in mine]
        axes.plot(values, things, "o--", color=line.get_color(), label=f"{method}, things")
    axes.set_xlabel(name)
    axes.set_ylabel("mIoU, val")
    axes.set_ylim(bottom=0)
    axes.grid(axis="y", alpha=0.3)
    axes.legend(fontsize=8)
    figure.savefig(path, dpi=80, metadata={"Software": None})


def write(wanted: Sequence[Ablation], found: Mapping[tuple[str, str], Cell]) -> None:
    """The block `ablations` of docs/ablations.md, its plots, and ablations.json."""
    PICTURES.mkdir(parents=True, exist_ok=True)
    blocks, everything = [], {}
    for one in wanted:
        rows = scores(one, found)
        everything[one.name] = [vars(row) for row in rows]
        path = PICTURES / f"{one.name.replace(' ', '_')}.png"
        plot(one.name, rows, path)
        table = [[one.name, "method", "mIoU", "things"]]
        table += [
            [f"**{row.value}**" if row.shipped else row.value, f"`{row.method}`",
             f"{row.miou:.3f}", f"{row.things:.3f}"]
            for row in rows
        ]  # fmt: skip
        picture = f"![{one.name}](ablations/{path.name})"
        heading = f"## {one.name[0].upper()}{one.name[1:]}"
        blocks += [heading, page.markdown(table), sentence(rows), picture]
    write_json(ROOT / "ablations.json", everything)
    page.put_block(DOCS, "ablations", "\n\n".join(blocks))
    print(f"page: {DOCS}")


def main() -> int:
    """Run what is missing, then write."""
    lines_to_stderr()
    wanted = ablations(ROOT)
    found = cells(ROOT, wanted)
    try:
        run_all(list(found.values()), "ablations")
    except CellError as error:
        print(f"ablations: {error}", file=sys.stderr)
        return 1
    write(wanted, found)
    return 0


if __name__ == "__main__":
    sys.exit(main())
