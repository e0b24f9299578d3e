"""Step `report`: every metric file and some pictures on one static page."""

import json
from pathlib import Path
from typing import Any

from fmbseg.miniature.model_card import limits
from fmbseg.report.content import (
    FileLink,
    HistoryPoint,
    PresenceScore,
    ReportContent,
    RunFacts,
    SamScore,
    TrackingHint,
    ValidationPoint,
)
from fmbseg.report.page import build_report
from fmbseg.steps import correction_figures, evaluate, figures, gallery, plots, review
from fmbseg.steps.departures import departures, model_names
from fmbseg.steps.foundation_models import precision_of
from fmbseg.steps.gallery import COCO, link
from fmbseg.steps.running import run_unit
from fmbseg.steps.shards import quarantined, shards
from fmbseg.steps.step import Step
from fmbseg.steps.workspace import Workspace
from fmbseg.store import (
    MANIFEST,
    Refused,
    UnitKey,
    file_sha,
    read_json,
    sha_of,
    write_json,
)
from fmbseg.vocabulary import read_classes

VALIDATION = "validation.json"
MLFLOW = "http://127.0.0.1:5000"
"""Address at which `make mlflow` shows MLflow."""


def key(workspace: Workspace, unit: str = "") -> UnitKey:
    """Content key of the page."""
    folders = [
        workspace.subsample,
        *(workspace.pseudo_masks / shard for shard in shards(workspace)),
    ]
    inputs = {
        str(f.relative_to(workspace.root)): file_sha(f / "manifest.json") for f in folders
    } | {
        "classes": file_sha(workspace.classes_path()),
        "review": file_sha(workspace.review / review.QUEUE),
    }
    for name in ("alignment.safetensors", "history.json"):  # timing.json differs every time
        inputs[name] = file_sha(workspace.train / name)
    if (workspace.train / VALIDATION).is_file():
        inputs[VALIDATION] = file_sha(workspace.train / VALIDATION)
    for unit, found in figures.of_methods(workspace).items():
        inputs[f"evaluate/{unit}"] = sha_of(found | {"seconds_per_image": None})
        for file in figures.pictured_files(workspace, unit):
            inputs[str(file.relative_to(workspace.root))] = file_sha(file)
    inputs["evaluate/foundation"] = sha_of(figures.foundation(workspace))
    inputs |= correction_figures.inputs(workspace)
    inputs["train_key"] = _train_key(workspace)
    if workspace.params.data.labels is not None:
        inputs["labels"] = workspace.params.data.labels
    experiment = {"experiment": workspace.params.tracking.experiment}
    return workspace.key("report", inputs, {**_shown(workspace), **experiment})


def run(workspace: Workspace, unit: str = "") -> bool:
    """Make `reports/report/`; True when there was something to do.

    It holds index.html; metrics.json, the few figures to compare runs by, of which DVC makes
    columns; details.json, every figure; and iou.json, each method's classes.
    """

    def compute(out: Path) -> None:
        content = _content(workspace)
        build_report(out / "index.html", content)
        found = figures.of_methods(workspace)
        masks = figures.mask_figures(figures.mask_total(figures.mask_counts(workspace)))
        scores = figures.flat(found, figures.foundation(workspace))
        write_json(out / "metrics.json", figures.to_compare_by(scores, masks))
        write_json(
            out / figures.DETAILS,
            {**scores, "pseudo_masks": masks, **correction_figures.flat(content.corrections)},
        )
        write_json(out / "iou.json", {unit: one["iou"] for unit, one in found.items()})
        plots.write(workspace, out / "plots")

    return run_unit(workspace, "report", workspace.report, key(workspace), compute)


def notes(workspace: Workspace) -> tuple[str, ...]:
    """What the model card says the models are not, when the miniature's are in use."""
    if workspace.params.models.profile != "miniature":
        return ()
    on = "photographs of your own" if workspace.data_set == "folder" else "the miniature world"
    return (f"This run used the miniature models on {on}.", *limits())


def _content(workspace: Workspace) -> ReportContent:
    runtime = workspace.params.runtime.changed(precision=precision_of(workspace))
    params = workspace.params.model_copy(update={"runtime": runtime})
    frozen = figures.foundation(workspace)
    class_names = read_classes(workspace.classes_path()).names
    bad, never_found = quarantined(workspace), figures.never_found(workspace)
    curve = workspace.train / VALIDATION
    looked = read_json(curve) if curve.is_file() else ()  # where training looked at labels
    shown = params.report.gallery_images
    facts = RunFacts(
        profile=params.models.profile,
        models=model_names(params),
        seed=params.seed,
        data_set=workspace.name,
        images=never_found.images,
        vocabulary_size=len(class_names),
        keep_fraction=float(read_json(workspace.subsample / "counts.json")["fraction"]),
        settings=_settings(_shown(workspace)),
    )
    return ReportContent(
        title=f"FMbSeg on {workspace.name}"
        if workspace.data_set == "folder"
        else "FMbSeg on the miniature world",
        facts=facts,
        class_names=class_names,
        results=tuple(figures.result(workspace, unit) for unit in evaluate.scored(workspace)),
        history=tuple(HistoryPoint(**e) for e in read_json(workspace.train / "history.json")),
        mask_counts=figures.mask_counts(workspace),
        never_found=never_found,
        validation=tuple(ValidationPoint(**e) for e in looked),
        gallery=gallery.rows(workspace, gallery.spread(workspace, shown)),
        doubtful=gallery.rows(
            workspace, {entry.image: _remark(entry) for entry in review.queue_of(workspace)[:shown]}
        ),
        departures=tuple(departures(params)),
        files=_files(workspace),
        tracking=TrackingHint(
            MLFLOW, params.tracking.experiment, f"tags.`key.train` = '{_train_key(workspace)}'"
        ),
        quarantined=tuple(Refused(**entry) for entry in bad),
        notes=notes(workspace),
        presence=PresenceScore(**frozen["presence"]) if frozen else None,
        sam=SamScore(**frozen["sam_random_point"]) if frozen else None,
        corrections=correction_figures.facts(workspace),
    )  # fmt: skip


def _files(workspace: Workspace) -> tuple[FileLink, ...]:
    """Links to the files that a run leaves beside this page."""
    listed = [
        ("pseudo masks", workspace.pseudo_masks, f"stage11.json and stage12.json a shard, {COCO}"),
        ("masks kept for training", workspace.subsample, f"a file a shard, {COCO}"),
        ("trained model", workspace.train, "a folder for fmbseg.Segmenter.load: segmenter.json, "
         "alignment.safetensors"),
        ("images to look at first", workspace.review / review.QUEUE, "JSON, all of them in order"),
        ("figures to compare runs by", workspace.report / "metrics.json", "JSON"),
        ("every figure", workspace.report / figures.DETAILS, "JSON"),
    ]  # fmt: skip
    for unit in evaluate.scored(workspace):
        path = workspace.evaluate / unit
        listed.append((f"evaluation {unit}", path, "metrics.json, confusion.json, examples as PNG"))
    return tuple(FileLink(what, link(workspace, path), form) for what, path, form in listed)


def _train_key(workspace: Workspace) -> str:
    """The key of the trained unit, which MLflow's run bears as a tag."""
    return str(read_json(workspace.train / MANIFEST)["key"])


def _remark(entry: review.QueueEntry) -> str:
    """What is doubtful in an image."""
    most = f", most of it {', '.join(entry.classes)}" if entry.classes else ""
    bare = f"; {entry.unlabelled:.0%} without a mask" if entry.unlabelled >= 0.01 else ""
    return f"doubt {entry.doubt:.2f}{most}{bare}"


def _shown(workspace: Workspace) -> dict[str, Any]:
    """The parameters that decide what a run finds, not how and where it runs."""
    shown = workspace.params.model_dump(
        exclude={"threads", "export", "runner", "drops", "tracking"}
    )
    return {**shown, "runtime": {"precision": precision_of(workspace)}}


def _settings(tree: dict[str, Any]) -> dict[str, object]:
    return {
        f"{section}.{name}": json.dumps(value) if isinstance(value, dict | list | tuple) else value
        for section, values in tree.items()
        if isinstance(values, dict)
        for name, value in values.items()
    }


STEP = Step(
    name="report",
    reads=("download", "pseudo_masks", "review", "subsample", "train", "evaluate"),
    writes="reports/report",
    key=key,
    run=run,
    file="index.html",
)
