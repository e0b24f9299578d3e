"""Step `report`: every metric file and some pictures on one static page."""

import json
from itertools import islice
from pathlib import Path
from typing import Any

from fmbseg.miniature.model_card import limits
from fmbseg.report.content import (
    FileLink,
    GalleryRow,
    HistoryPoint,
    PresenceScore,
    ReportContent,
    RunFacts,
    SamScore,
    TrackingHint,
    ValidationPoint,
)
from fmbseg.report.page import build_report
from fmbseg.steps import evaluate, figures, plots
from fmbseg.steps.departures import departures, model_names
from fmbseg.steps.foundation_models import models_of, precision_of
from fmbseg.steps.kept_masks import KeptMasks
from fmbseg.steps.running import run_unit
from fmbseg.steps.shards import quarantined, shards
from fmbseg.steps.step import Step
from fmbseg.steps.truth import labelled
from fmbseg.steps.workspace import Workspace
from fmbseg.store import (
    MANIFEST,
    Refused,
    UnitKey,
    file_sha,
    read_coco,
    read_json,
    sha_of,
    write_json,
)
from fmbseg.vocabulary import read_classes

COCO = "COCO JSON, masks as RLE"
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
    } | {"classes": file_sha(workspace.classes_path())}
    for name in ("alignment.safetensors", "history.json"):  # timing.json differs every time
        inputs[name] = file_sha(workspace.train / name)
    if (workspace.train / VALIDATION).is_file():
        inputs[VALIDATION] = file_sha(workspace.train / VALIDATION)
    for unit, found in figures.of_methods(workspace).items():
        inputs[f"evaluate/{unit}"] = sha_of(found | {"seconds_per_image": None})
        for file in figures.pictured_files(workspace, unit):
            inputs[str(file.relative_to(workspace.root))] = file_sha(file)
    inputs["evaluate/foundation"] = sha_of(figures.foundation(workspace))
    inputs["train_key"] = _train_key(workspace)
    if workspace.params.data.labels is not None:
        inputs["labels"] = workspace.params.data.labels
    experiment = {"experiment": workspace.params.tracking.experiment}
    return workspace.key("report", inputs, {**_shown(workspace), **experiment})


def run(workspace: Workspace, unit: str = "") -> bool:
    """Make `reports/report/`; True when there was something to do.

    It holds index.html, metrics.json (the figures to compare runs by) and iou.json (each method's
    classes).
    """

    def compute(out: Path) -> None:
        build_report(out / "index.html", _content(workspace))
        found = figures.of_methods(workspace)
        masks = figures.mask_figures(figures.mask_total(figures.mask_counts(workspace)))
        scores = figures.flat(found, figures.foundation(workspace))
        write_json(out / "metrics.json", {**scores, "pseudo_masks": masks})
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
        gallery=_gallery(workspace, class_names),
        departures=tuple(departures(params)),
        files=_files(workspace),
        tracking=TrackingHint(
            MLFLOW, params.tracking.experiment, f"tags.`key.train` = '{_train_key(workspace)}'"
        ),
        quarantined=tuple(Refused(**entry) for entry in bad),
        notes=notes(workspace),
        presence=PresenceScore(**frozen["presence"]) if frozen else None,
        sam=SamScore(**frozen["sam_random_point"]) if frozen else None,
    )  # fmt: skip


def _files(workspace: Workspace) -> tuple[FileLink, ...]:
    """Links to the files that a run leaves beside this page."""
    listed = [
        ("pseudo masks", workspace.pseudo_masks, f"stage11.json and stage12.json a shard, {COCO}"),
        ("masks kept for training", workspace.subsample, f"a file a shard, {COCO}"),
        ("trained model", workspace.train, "a folder for fmbseg.Segmenter.load: segmenter.json, "
         "alignment.safetensors"),
        ("figures to compare runs by", workspace.report / "metrics.json", "JSON"),
    ]  # fmt: skip
    for unit in evaluate.scored(workspace):
        path = workspace.evaluate / unit
        listed.append((f"evaluation {unit}", path, "metrics.json, confusion.json, examples as PNG"))
    return tuple(FileLink(what, _link(workspace, path), form) for what, path, form in listed)


def _train_key(workspace: Workspace) -> str:
    """The key of the trained unit, which MLflow's run bears as a tag."""
    return str(read_json(workspace.train / MANIFEST)["key"])


def _link(workspace: Workspace, path: Path) -> str:
    """The path of a file of the workspace as seen from the report's folder."""
    return "../../" + path.relative_to(workspace.root).as_posix()


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


def _gallery(workspace: Workspace, class_names: tuple[str, ...]) -> tuple[GalleryRow, ...]:
    """Training images with their masks; truth where label files exist, for looking only."""
    wanted = workspace.params.report.gallery_images
    if wanted == 0:
        return ()
    from fmbseg.segmenter import Segmenter

    kept = KeptMasks(workspace)
    models = models_of(workspace)
    segmenter = Segmenter.load(workspace.train, workspace.params.device, models=models)
    truths, rows = labelled(workspace), []
    at = {name: index for index, name in enumerate(truths.names)} if truths is not None else {}
    for name in _spread(workspace, kept, wanted):
        image = workspace.read_image(name)
        folder = workspace.pseudo_masks / kept.shard_of(name)
        files = {"stage 1.1": folder / "stage11.json", "stage 1.2": folder / "stage12.json"}
        first, second = (read_coco(file).by_image().get(name, []) for file in files.values())
        predicted = segmenter.predict(image, list(class_names)).labels
        target = truths[at[name]].target if truths is not None and name in at else None
        rows.append(
            GalleryRow(
                name=name,
                image=image,
                stage_11=tuple(first),
                stage_12=tuple(second),
                kept=tuple(kept.of(name).masks),
                prediction=predicted,
                truth=target,
                files=tuple(
                    FileLink(what, _link(workspace, file), COCO) for what, file in files.items()
                ),
            )
        )
    return tuple(rows)


def _spread(workspace: Workspace, kept: KeptMasks, wanted: int) -> list[str]:
    """Of each of `wanted` stretches of the sorted images the first that has a mask."""
    bad = {entry["image"] for entry in quarantined(workspace)}
    names = sorted(set(workspace.listing().images) - bad)
    length = max(1, len(names) // wanted)
    firsts = (
        next((name for name in names[start : start + length] if kept.of(name).masks), None)
        for start in range(0, len(names), length)
    )
    return list(islice((name for name in firsts if name is not None), wanted))


STEP = Step(
    name="report",
    reads=("download", "pseudo_masks", "subsample", "train", "evaluate"),
    writes="reports/report",
    key=key,
    run=run,
    file="index.html",
)
