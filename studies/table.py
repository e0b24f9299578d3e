"""`make table`: every method on every view of the miniature, over several seeds."""

import argparse
import statistics
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from fmbseg.datasets import miniature_views
from fmbseg.methods.table import BEST, METHODS, OURS
from fmbseg.miniature.world import SEEN_THINGS
from fmbseg.progress import lines_to_stderr
from fmbseg.store import read_json, write_json
from studies import page, pictures
from studies.cells import Cell, CellError, run_all
from studies.talk2dino import row as talk2dino

ROOT, CLASSES = Path("runs/table"), "classes.txt"
HOME = "miniature_all"
VIEWS = (
    HOME, "miniature_things", "miniature_background", "miniature_shifted", "miniature_unseen"
)  # fmt: skip
"""The frozen models' own figures are taken on the first."""
PLAIN = tuple(METHODS)
"""Methods of the ordinary pipeline; the other rows are trainings of their own."""
TRAININGS: dict[str, dict[str, Any]] = {
    "fmbseg_ce": {"train.loss": "cross_entropy"},
    "fmbseg_clip": {"train.loss": "clip"},
    "fmbseg_all12": {"subsample.keep_fraction": 1.0},
    "fmbseg_gt": {"train.labels": "truth"},
}
FINETUNED, ADAPTED = "fmbseg_finetuned", "fmbseg_adapted"
ON_TARGETS: dict[str, dict[str, Any]] = {FINETUNED: {}, ADAPTED: {"train.labels": "student"}}
"""Trainings that go on with a view's own unlabelled images and names: on the view's pseudo masks,
and on SAM's masks as the model itself names them."""
TARGET_ROWS = {
    FINETUNED: (FINETUNED, OURS), ADAPTED: (ADAPTED, OURS), f"{ADAPTED}_best": (ADAPTED, BEST),
}  # fmt: skip
"""Row to the training and the method that answers."""
TARGETS = ("miniature_shifted", "miniature_unseen")
"""Where these rows differ: the other views show what it was trained on already."""
ROWS = (*PLAIN, *TRAININGS, talk2dino.NAME, *TARGET_ROWS)
USES = {name: "image labels" for name, method in METHODS.items() if method.needs_image_labels} | {
    "fmbseg_gt": "pixel labels",
    talk2dino.NAME: "captions",
}
"""What a row is told that the method does without."""


@dataclass(frozen=True)
class Size:
    """How large the study is.

    Attributes:
        seeds: of the training, the draws and the test images.
        train_images: unlabelled images.
        view_images: test images of a view.
        target_images: unlabelled images of a view to fine-tune on.
        epochs: of each training; None for the default of params.yaml.
        finetune_epochs: of the fine-tuning.
        finetune_rate: its peak learning rate.
    """

    seeds: tuple[int, ...] = (0, 1, 2)
    train_images: int = 600
    view_images: int = 40
    target_images: int = 48
    epochs: int | None = None
    finetune_epochs: int = 20
    finetune_rate: float = 0.03


def common(seed: int, size: Size) -> dict[str, Any]:
    """What all cells of a seed share."""
    epochs = {} if size.epochs is None else {"train.epochs": size.epochs}
    return {
        "seed": seed, **epochs,
        "evaluate.split": "test", "evaluate.view_images": size.view_images,
        "evaluate.background": "stuff_names", "evaluate.examples": 2,
        "evaluate.data_sets": list(VIEWS), "evaluate.methods": [OURS],
        "report.gallery_images": 0, "runner.workers": 1,
        "tracking.experiment": "fmbseg-table", "tracking.registered_model": "fmbseg-table",
    }  # fmt: skip


def cells(root: Path, size: Size) -> dict[tuple[int, str], Cell]:
    """(Seed, name) to cell; the name `plain` holds all of `PLAIN`.

    All seeds train on the same images, so that stage 1 sees them once.
    """
    drawn = {
        "data.train_images": size.train_images, "data.val_images": 1, "data.test_images": 1,
        "runner.workers": 2,
    }  # fmt: skip
    images = Cell(root / "images", drawn, until="pseudo_masks")
    source = images.root / "data" / "download" / "miniature"
    data = {
        "data.images": str(source / "train" / "images"), "data.classes": str(source / CLASSES),
        "data.labels": str(source / "train" / "labels"),
    }  # fmt: skip
    found = {}
    for seed in size.seeds:
        place, shared = root / f"seed-{seed}", {**common(seed, size), **data}
        methods = {"evaluate.methods": list(PLAIN), "report.gallery_images": 6}
        plain = Cell(place / "plain", {**shared, **methods}, images)
        found[seed, "plain"] = plain
        for name, overrides in TRAININGS.items():
            found[seed, name] = Cell(place / name, {**shared, **overrides}, images)
        for view in TARGETS:
            for name in ON_TARGETS:
                cell = _goes_on(place, shared, plain, view, seed, size, name)
                found[seed, f"{name}-{view}"] = cell
    return found


def _goes_on(
    place: Path, shared: dict[str, Any], plain: Cell, view: str, seed: int, size: Size, name: str
) -> Cell:
    """A training of `ON_TARGETS` on a view's own images."""
    folder = place / "targets" / view
    overrides = {
        **shared, **ON_TARGETS[name], "evaluate.methods": [OURS, BEST],
        "data.images": str(folder / "images"), "data.classes": str(folder / CLASSES),
        "data.labels": None,
        "data.shard_images": size.target_images, "evaluate.data_sets": [view],
        "train.init_from": str(plain.root / "models" / "train"),
        "train.epochs": size.finetune_epochs, "train.learning_rate": size.finetune_rate,
    }  # fmt: skip

    def prepare() -> None:
        (folder / "images").mkdir(parents=True, exist_ok=True)
        samples = miniature_views.MiniatureView(view, "train", count=size.target_images, seed=seed)
        names = [name for name in samples.class_names if name != "background"]
        (folder / CLASSES).write_text("\n".join(names) + "\n")
        for index, name in enumerate(samples.names):
            path = folder / "images" / f"{name}.png"
            if not path.is_file():
                Image.fromarray(samples[index].image).save(path)

    return Cell(place / f"{name}-{view}", overrides, plain, prepare)


def captioned(found: dict[tuple[int, str], Cell]) -> talk2dino.CaptionedRow:
    """The row that is trained on captions of the images."""
    plain = {seed: cell for (seed, name), cell in found.items() if name == "plain"}
    images = next(iter(plain.values())).base
    assert images is not None
    return talk2dino.CaptionedRow(images, plain, VIEWS)


def metrics_of(
    found: dict[tuple[int, str], Cell], seed: int, row: str, view: str
) -> dict[str, Any] | None:
    """One metric file; None where a row has nothing to show."""
    if row == talk2dino.NAME:
        return captioned(found).metrics(seed, view)
    if row in PLAIN:
        return found[seed, "plain"].metrics(row, view)
    if row in TRAININGS:
        return found[seed, row].metrics(OURS, view)
    training, method = TARGET_ROWS[row]
    cell = found.get((seed, f"{training}-{view}"))
    return None if cell is None else cell.metrics(method, view)


def collect(found: dict[tuple[int, str], Cell], seeds: Sequence[int]) -> dict[str, Any]:
    """All figures: row to view to values by seed, and the frozen models' own."""
    rows: dict[str, dict[str, Any]] = {}
    for row in ROWS:
        for view in VIEWS:
            files = [m for seed in seeds if (m := metrics_of(found, seed, row, view)) is not None]
            if not files:
                continue
            names = list(files[0]["iou"])
            rows.setdefault(row, {})[view] = {
                "miou": [one["miou"] for one in files],
                "things": [_mean(one["iou"], SEEN_THINGS) for one in files],
                "iou": {name: [one["iou"][name] for one in files] for name in names},
                "seconds_per_image": [one["seconds_per_image"] for one in files],
                "images": files[0]["images"],
                "protocol": f"{files[0]['protocol']['name']} {files[0]['protocol_hash']}",
            }
    frozen = [
        read_json(found[seed, "plain"].workspace.evaluate / f"foundation-{VIEWS[0]}/metrics.json")
        for seed in seeds
    ]
    return {
        "rows": rows, "seeds": list(seeds), "uses": USES, "views": {
            view: miniature_views.VIEWS[view].stands_for for view in VIEWS
        },
        "presence_f1": [one["presence"]["f1"] for one in frozen],
        "sam_point_iou": [one["sam_random_point"]["top_scored_iou"] for one in frozen],
    }  # fmt: skip


def claims(table: dict[str, Any]) -> list[tuple[str, bool, str]]:
    """What the paper's argument says of these figures: the claim, whether it holds, the figures."""

    def at(row: str, view: str = HOME, what: str = "miou") -> float:
        return statistics.fmean(table["rows"][row][view][what])

    dense = max(("sclip", "naclip"), key=at)
    pairs = [
        ("maskclip < max(sclip, naclip)", at("maskclip"), at(dense), False),
        ("max(sclip, naclip) <= stage1", at(dense), at("stage1"), True),
        ("stage1 <= fmbseg", at("stage1"), at("fmbseg"), True),
        ("fmbseg >= 0.60", 0.60, at("fmbseg"), True),
        ("things of fmbseg >= 0.50", 0.50, at("fmbseg", what="things"), True),
        ("unseen: maskclip < fmbseg", at("maskclip", "miniature_unseen"),
         at("fmbseg", "miniature_unseen"), False),
        ("shifted: maskclip < fmbseg", at("maskclip", "miniature_shifted"),
         at("fmbseg", "miniature_shifted"), False),
        ("cross_entropy <= prototype_supcon", at("fmbseg_ce"), at("fmbseg"), True),
        ("clip < cross_entropy", at("fmbseg_clip"), at("fmbseg_ce"), False),
        ("all of 1.2 <= balance", at("fmbseg_all12"), at("fmbseg"), True),
        ("presence F1 >= 0.88", 0.88, statistics.fmean(table["presence_f1"]), True),
        ("SAM, one random point >= 0.75", 0.75, statistics.fmean(table["sam_point_iou"]), True),
    ]  # fmt: skip
    return [
        (words, low < high or (equal and low == high), f"{low:.3f} and {high:.3f}")
        for words, low, high, equal in pairs
    ]


def _mean(iou: dict[str, float | None], names: Sequence[str]) -> float | None:
    values = [value for name in names if (value := iou.get(name)) is not None]
    return statistics.fmean(values) if values else None


def main() -> int:
    """Run what is missing, collect, draw and write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=list(Size.seeds))
    seeds = tuple(parser.parse_args().seeds)
    lines_to_stderr()
    size = Size(seeds=seeds)
    found = cells(ROOT, size)
    try:
        run_all(list(found.values()), "table")
        captioned(found).run()
    except CellError as error:
        print(f"table: {error}", file=sys.stderr)
        return 1
    table = collect(found, seeds)
    table["claims"] = claims(table)
    write_json(ROOT / "table.json", table)
    drawn = pictures.draw(found[seeds[0], "plain"], Path("docs/miniature"), HOME)
    page.write_table(table, drawn, ROOT)
    for words, holds, figures in table["claims"]:
        print(f"{'holds' if holds else 'DOES NOT HOLD':14}{words:40}{figures}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
