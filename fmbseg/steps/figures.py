"""What the steps found, as tables: for the terminal, the report, Prefect, MLflow and DVC."""

import statistics
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fmbseg.datasets.catalogue import CATALOGUE
from fmbseg.evaluate.confusions import most_confused
from fmbseg.evaluate.counts import MaskCount, NeverFound
from fmbseg.evaluate.metrics import METRICS
from fmbseg.report.content import Example, MethodResult
from fmbseg.steps import evaluate
from fmbseg.steps.scoring import IMAGE_SCORES
from fmbseg.steps.shards import quarantined
from fmbseg.steps.workspace import Workspace
from fmbseg.store import read_json
from fmbseg.store.names import markdown_text, printable
from fmbseg.vocabulary import read_classes

DETAILS = "details.json"
"""Of the report's folder: every figure of the run, by name."""
CONFUSIONS = 10
"""Pairs of classes that the report shows of a method on a data set."""


def of_methods(workspace: Workspace) -> dict[str, dict[str, Any]]:
    """Unit of the evaluate step to its metrics file, methods alone."""
    return {
        unit: dict(read_json(workspace.evaluate / unit / "metrics.json"))
        for unit in evaluate.scored(workspace)
    }


def result(workspace: Workspace, unit: str) -> MethodResult:
    """All that a unit of the evaluate step holds, for the report."""
    folder = workspace.evaluate / unit
    metrics = dict(read_json(folder / "metrics.json"))
    known = {k: v for k, v in metrics.items() if k in MethodResult.__dataclass_fields__}
    entry = CATALOGUE.get(metrics["data_set"])
    matrix = np.array(read_json(folder / "confusion.json"), np.int64)
    names = list(metrics["iou"])
    examples = tuple(
        Example(
            side=one["example"]["side"], rank=one["example"]["rank"], image=one["image"],
            figures={metric.name: one[metric.name] for metric in METRICS},
            picture=folder / one["example"]["file"],
            classes=tuple(names[index] for index in one["example"]["classes"]),
        )
        for one in read_json(folder / IMAGE_SCORES)
        if one["example"]
    )  # fmt: skip
    return MethodResult(
        **known,
        figures={metric.name: metrics[metric.name] for metric in METRICS},
        paper_column=None if entry is None else entry.column,
        confusions=most_confused(matrix, names, CONFUSIONS),
        examples=examples,
    )


def pictured_files(workspace: Workspace, unit: str) -> list[Path]:
    """What `result` reads beside metrics.json; no measured time is in them."""
    folder = workspace.evaluate / unit
    examples = sorted((folder / "examples").glob("*.png"))
    return [folder / "confusion.json", folder / IMAGE_SCORES, *examples]


def foundation(workspace: Workspace) -> dict[str, Any] | None:
    """Figures of the frozen models themselves; None without labels."""
    for unit in evaluate.units(workspace):
        if evaluate.method_of(unit) == evaluate.FOUNDATION:
            return dict(read_json(workspace.evaluate / unit / "metrics.json"))
    return None


def flat(
    methods: dict[str, dict[str, Any]], frozen: dict[str, Any] | None
) -> dict[str, dict[str, float]]:
    """Figure, then unit, for `dvc metrics`; without times, which never repeat."""
    if frozen is None:
        return {}
    presence, point = frozen["presence"], frozen["sam_random_point"]
    return {
        **{m.name: {unit: one[m.name] for unit, one in methods.items()} for m in METRICS},
        "presence": {name: presence[name] for name in ("precision", "recall", "f1")},
        "sam_point_iou": {"top_scored": point["top_scored_iou"], "best": point["best_of_3_iou"]},
    }


def to_compare_by(
    scores: Mapping[str, Mapping[str, float]], masks: Mapping[str, float]
) -> dict[str, dict[str, float]]:
    """The few figures that runs are compared by, each a column of `dvc exp show`.

    Args:
        scores: see `flat`.
        masks: see `mask_figures`.
    """
    ranking = METRICS[0].name
    found = {ranking: dict(scores[ranking])} if scores else {}
    return {**found, "pseudo_masks": {"kept": masks["kept"]}}


def markdown_table(
    workspace: Workspace,
    text: Callable[[str], str] = markdown_text,
    again: Mapping[str, Sequence[Mapping[str, Any]]] | None = None,
) -> str:
    """The mIoU table and the foundation models' figures, with the protocol they belong to.

    Args:
        workspace: whose figures.
        text: makes a class name fit to be shown; `printable` for a terminal.
        again: unit to the metrics of the same method trained with other seeds; its row then
            shows the mean and half the range of all of them.
    """
    found, frozen = of_methods(workspace), foundation(workspace)
    if frozen is None:
        return "No labels were given, so there is nothing to score."
    ranking, *others = [metric.title for metric in METRICS]
    heads = ["method", "data set", ranking, "lowest class", *others, "seconds an image"]
    lines = [_line(heads), "|---" * len(heads) + "|"]
    lines += [_row([m, *(again or {}).get(unit, ())], text) for unit, m in found.items()]
    first = next(iter(found.values()))
    presence, sam = frozen["presence"], frozen["sam_random_point"]
    lines += [
        "",
        f"Presence (CLIP): precision {presence['precision']:.3f}, recall {presence['recall']:.3f}, "
        f"F1 {presence['f1']:.3f}. SAM's top-scored mask from one random point: mean IoU "
        f"{sam['top_scored_iou']:.3f} (best of three {sam['best_of_3_iou']:.3f}).",
        f"Data set {first['data_set']}, split {first['split']}, {first['images']} images, protocol "
        f"`{first['protocol']['name']}` {first['protocol_hash']}, seed {first['seed']}.",
    ]
    return "\n".join(lines)


def _row(seeds: Sequence[Mapping[str, Any]], text: Callable[[str], str]) -> str:
    """One method's metrics, of one seed or of several."""
    first = seeds[0]
    means = {
        name: statistics.fmean(one["iou"][name] for one in seeds)
        for name in first["iou"]
        if all(one["iou"][name] is not None for one in seeds)
    }
    low = min(((value, name) for name, value in means.items()), default=(0.0, "-"))
    seconds = statistics.fmean(one["seconds_per_image"] for one in seeds)
    ranking, *others = [_spread(seeds, metric.name) for metric in METRICS]
    lowest = f"{low[0]:.3f} ({text(low[1])})"
    return _line(
        [f"`{first['method']}`", first["data_set"], ranking, lowest, *others, f"{seconds:.3f}"]
    )


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _spread(seeds: Sequence[Mapping[str, Any]], figure: str) -> str:
    """A figure; of several seeds the mean ± half the range."""
    values = [float(one[figure]) for one in seeds]
    if len(values) == 1:
        return f"{values[0]:.3f}"
    return f"{statistics.fmean(values):.3f} ± {(max(values) - min(values)) / 2:.3f}"


def summary(workspace: Workspace) -> str:
    """What `make run` prints at its end."""
    bad, dead = quarantined(workspace), never_found(workspace).words()
    lines = ["", markdown_table(workspace, printable), ""]
    lines.append(f"pseudo masks: {mask_words(mask_counts(workspace))}")
    lines += [dead] if dead else []
    lines.append(f"{len(bad)} image{'' if len(bad) == 1 else 's'} quarantined")
    lines += [f"  quarantined {printable(one['image'])}: {one['reason']}" for one in bad]
    return "\n".join(lines)


def mask_counts(workspace: Workspace) -> tuple[MaskCount, ...]:
    """Pseudo masks of every class of the vocabulary, in its order: found and kept, stage by stage.

    Every place that prints a number of masks takes it from here.
    """
    counts = read_json(workspace.subsample / "counts.json")
    return tuple(
        MaskCount(
            name,
            **{
                f"{what}_{end}": counts[what][stage].get(name, 0)
                for what in ("found", "kept")
                for end, stage in (("11", "1.1"), ("12", "1.2"))
            },
        )
        for name in read_classes(workspace.classes_path()).names
    )


def mask_total(counts: Sequence[MaskCount]) -> MaskCount:
    """The sum over the classes, named "all classes"."""
    columns = ("found_11", "found_12", "kept_11", "kept_12")
    sums = {column: sum(getattr(one, column) for one in counts) for column in columns}
    return MaskCount("all classes", **sums)


def mask_figures(count: MaskCount) -> dict[str, int]:
    """A class's numbers under the names that details.json and MLflow give them."""
    return {
        "stage11.found": count.found_11, "stage11.kept": count.kept_11,
        "stage12.found": count.found_12, "stage12.kept": count.kept_12,
        "found": count.found, "kept": count.kept,
    }  # fmt: skip


def mask_words(counts: Sequence[MaskCount]) -> str:
    """The numbers of masks as one sentence."""
    total = mask_total(counts)
    return (
        f"{total.found_11:,} found by stage 1.1, {total.found_12:,} by stage 1.2; {total.kept:,} "
        f"kept for training ({total.kept_11:,} of 1.1, {total.kept_12:,} of 1.2)"
    )


def never_found(workspace: Workspace) -> NeverFound:
    """The classes that neither stage 1.1 nor 1.2 gave a mask, before `subsample` drops any."""
    counts, bad = mask_counts(workspace), quarantined(workspace)
    listing = workspace.listing()
    return NeverFound(
        classes=tuple(one.class_name for one in counts if one.found == 0),
        total=len(counts),
        images=len(listing.images) + len(listing.refused) - len(bad),
    )
