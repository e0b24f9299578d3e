"""Step `export`: the labels in formats of other tools, a folder each; docs/export.md."""

from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from fmbseg.export.labelled import NONE, ExportError, ExportPlan, LabelledImage
from fmbseg.steps.export_source import inputs_of, labels_of
from fmbseg.steps.foundation_models import precision_of
from fmbseg.steps.running import run_unit
from fmbseg.steps.step import Step
from fmbseg.steps.workspace import Workspace
from fmbseg.store import UnitKey, read_json, sha_of, unit_edit, write_json
from fmbseg.store import run_unit as run_stored_unit

_SOURCES = {
    "kept": "pseudo masks that are trained on", "all": "pseudo masks of stages 1.1 and 1.2",
    "1.1": "pseudo masks of stage 1.1", "1.2": "pseudo masks of stage 1.2",
    "predictions": "predictions of the trained model",
}  # fmt: skip
_OF_TOOLS = ".cache"
"""Ultralytics leaves such files beside the labels that it reads."""
FACTS = "export.json"
"""Of an export: what it was made of, and what is in it."""


def key(workspace: Workspace, unit: str) -> UnitKey:
    """Content key of the export in one format."""
    section = workspace.params.export.model_dump(exclude={"formats"})
    params = {
        **section, "format": unit, "seed": workspace.params.seed,
        "ignore_label": workspace.params.data.ignore_label, "device": workspace.params.device,
        "precision": precision_of(workspace),
    }  # fmt: skip
    return workspace.key("export", inputs_of(workspace), params)


def run(workspace: Workspace, unit: str) -> bool:
    """Make `exports/<format>/`; True when there was something to do.

    Raises:
        ExportError: what lies there was edited, or is no export.
    """
    folder = workspace.exports / unit
    refuse_to_erase(folder)

    def compute(out: Path) -> None:
        write(workspace, unit, out)

    return run_unit(workspace, "export", folder, key(workspace, unit), compute)


def run_into(workspace: Workspace, unit: str, folder: Path) -> bool:
    """The same into any folder, which is made where there is none; nothing is left beside it."""
    refuse_to_erase(folder)
    lock = workspace.root / ".scratch" / "exports" / f"{sha_of(str(folder.absolute()))[:16]}.lock"
    return run_stored_unit(
        folder, key(workspace, unit), lambda out: write(workspace, unit, out), lock=lock
    )


def refuse_to_erase(folder: Path) -> None:
    """Leave a folder alone in which a person worked, or that is none of ours.

    Raises:
        ExportError: an export would replace it.
    """
    if folder.is_dir() and not any(folder.iterdir()):
        return
    if (edit := unit_edit(folder, _OF_TOOLS)) is not None:
        raise ExportError(
            f"{folder}: {edit}, and a new export would replace all that lies there; move it away, "
            "or name another folder with --out"
        )


def write(workspace: Workspace, unit: str, out: Path) -> None:
    """Write the export of one format, with export.json beside the format's own files.

    Raises:
        ExportError: nothing to export, or the format cannot hold it.
    """
    from fmbseg.export.contact_sheet import ContactSheet
    from fmbseg.export.formats import FORMATS, write_dataset
    from fmbseg.export.record import recording

    p, labels = workspace.params.export, labels_of(workspace)
    if not labels.split:
        raise ExportError("found no image that can be used; wanted at least one to export")
    about = f"FMbSeg on {workspace.name}: {_SOURCES[p.source]}"
    plan = ExportPlan(
        labels.classes.names, p.images, p.tolerance_px, "val" in labels.split.values(), about
    )
    counted, sheet = _Counted(), ContactSheet(labels.classes.names, len(labels.split))
    images = sheet.over(counted.over(labels.images()))
    if FORMATS[unit].comes_back:
        with recording(out, labels.classes, workspace.listing().images) as record:
            told = write_dataset(unit, out, plan, record.over(images))
    else:
        told = write_dataset(unit, out, plan, images)
    facts = counted.facts(plan)
    sheet.write(out, about, words(facts))
    write_json(
        out / FACTS,
        {"format": unit, "classes": list(labels.classes.names), **facts,
         "doubts": {name: round(doubt, 6) for name, doubt in sheet.doubts.items()},
         "source": p.model_dump(exclude={"formats"}), "seed": workspace.params.seed,
         "made_of": {name: sha for name, sha in inputs_of(workspace).items()
                     if name not in labels.split},
         "models": workspace.params.models.model_dump(mode="json"),
         "corrected_images": len(labels.corrected),
         "calibration": labels.calibration and dict(labels.calibration.facts),
         "quarantined": labels.refused, "told": told},
    )  # fmt: skip


def words(facts: Mapping[str, Any]) -> dict[str, str]:
    """An export's numbers for people: what, and how much."""
    parts = " and ".join(f"{count:,} in {split}" for split, count in facts["images"].items())
    found = {name: count for name, count in facts["regions"].items() if count}
    never = [name for name, count in facts["regions"].items() if not count]
    return {
        "images": f"{parts}; {facts['images_without_a_region']:,} without a region",
        "regions": ", ".join(f"{name} {count:,}" for name, count in found.items()) or "none",
        **({"never found": ", ".join(never)} if never else {}),
        "labelled": f"{facts['labelled_fraction']:.1%} of the pixels",
    }


class _Counted:
    """Counts what goes by, since no image is kept."""

    def __init__(self) -> None:
        self._images, self._regions, self._origins = Counter[str](), Counter[int](), Counter[str]()
        self._bare, self._pixels, self._labelled = 0, 0, 0

    def over(self, images: Iterator[LabelledImage]) -> Iterator[LabelledImage]:
        for one in images:
            self._images[one.split] += 1
            self._regions.update(region.class_index for region in one.regions)
            self._origins.update(region.origin for region in one.regions)
            self._bare += not one.regions
            self._pixels += one.labels.size
            self._labelled += int((one.labels != NONE).sum())
            yield one

    def facts(self, plan: ExportPlan) -> dict[str, Any]:
        names = enumerate(plan.class_names)
        return {
            "images": dict(sorted(self._images.items())),
            "images_without_a_region": self._bare,
            "regions": {name: self._regions[index] for index, name in names},
            "origins": dict(sorted(self._origins.items())),
            "labelled_fraction": round(self._labelled / max(1, self._pixels), 6),
        }


def _needs(workspace: Workspace, unit: str) -> tuple[str, ...]:
    source = workspace.params.export.source
    if source == "predictions":
        return ("download", *(() if workspace.params.export.model else ("train",)))
    return ("download", "pseudo_masks", *(("subsample",) if source == "kept" else ()))


def _outcome(workspace: Workspace, unit: str, line: Mapping[str, Any]) -> str:
    facts = read_json(workspace.exports / unit / FACTS)
    return f"{sum(facts['images'].values())} images, {sum(facts['regions'].values())} regions"


STEP = Step(
    name="export",
    reads=("download", "pseudo_masks", "subsample", "train"),
    writes="exports",
    units=lambda workspace: workspace.params.export.formats,
    needs=_needs,
    key=key,
    run=run,
    outcome=_outcome,
)
