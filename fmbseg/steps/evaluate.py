"""Step `evaluate`: one method on one data set, every figure with its protocol."""

from dataclasses import replace
from pathlib import Path

from fmbseg.evaluate.background import Background
from fmbseg.evaluate.prepared import PreparedMethod
from fmbseg.evaluate.protocol import PROTOCOLS, EvaluationProtocol
from fmbseg.evaluate.segmentation import Segmentation
from fmbseg.methods.clip_diy import ClipDiyOptions, ClipDiySegmentation
from fmbseg.methods.maskclip import DenseClipSegmentation
from fmbseg.methods.stage1 import Stage1Segmentation
from fmbseg.segmenter import Segmenter
from fmbseg.steps import columns, foundation, pseudo_masks
from fmbseg.steps.columns import Column
from fmbseg.steps.scoring import IMAGE_SCORES, Asked, score
from fmbseg.steps.workspace import Workspace
from fmbseg.store import UnitKey, file_sha
from fmbseg.types import Stage

__all__ = ["FOUNDATION", "IMAGE_SCORES", "build", "folder", "key", "protocol", "run", "units"]
FOUNDATION = "foundation"


def units(workspace: Workspace) -> list[str]:
    """What to score: `<method>-<data set>`, and `foundation-...` first; none without labels."""
    found = columns.names(workspace)
    methods = workspace.params.evaluate.methods
    scored = [unit_name(method, name) for name in found for method in methods]
    return [unit_name(FOUNDATION, found[0]), *scored] if found else []


def unit_name(method: str, data_set: str) -> str:
    """Name of a unit, and of its folder below reports/evaluate/."""
    return f"{method}-{data_set}"


def scored(workspace: Workspace) -> list[str]:
    """The units that hold a method's figures."""
    return [unit for unit in units(workspace) if method_of(unit) != FOUNDATION]


def foundation_of(workspace: Workspace) -> str | None:
    """The unit with the figures of the frozen models; None without labels."""
    return next((unit for unit in units(workspace) if method_of(unit) == FOUNDATION), None)


def method_of(unit: str) -> str:
    """The method in a unit's name."""
    return unit.partition("-")[0]


def protocol(workspace: Workspace, column: Column) -> EvaluationProtocol:
    """The protocol of params.yaml for a data set; printed with every figure."""
    section = workspace.params.evaluate
    found = PROTOCOLS[section.protocol]
    if section.protocol == "whole" or section.templates == "model":
        found = replace(found, templates=(workspace.params.models.template,))
    if section.synonyms != "protocol":
        found = replace(found, synonyms=section.synonyms)
    if column.background_index is None or section.background == "protocol":
        return found
    if section.background == "ignore":
        return replace(found, background=Background("ignore"))
    return replace(found, background=Background("stuff_names", column.background_names))


def folder(workspace: Workspace, unit: str) -> Path:
    """Output folder of a unit."""
    return workspace.evaluate / unit


def key(workspace: Workspace, unit: str) -> UnitKey:
    """Content key of a unit."""
    method, _, name = unit.partition("-")
    inputs = dict(columns.inputs(workspace, name))
    section = workspace.params.evaluate.model_dump(exclude={"methods", "data_sets"})
    params = {
        "unit": unit, "seed": workspace.params.seed, **section,
        **workspace.params.pseudo_masks.model_dump(),
        **workspace.models_params("clip", "vision" if method == "fmbseg" else "sam"),
        "ignore_label": workspace.params.data.ignore_label,
    }  # fmt: skip
    if method == "fmbseg":
        inputs["train"] = file_sha(workspace.train / "alignment.safetensors")
        params["input_short_side_px"] = workspace.params.train.input_short_side_px
    return workspace.key("evaluate", inputs, params)


def run(workspace: Workspace, unit: str) -> bool:
    """Make `reports/evaluate/<method>-<data set>/`; True when there was something to do.

    A cut evaluation keeps every finished image.
    """
    method, _, name = unit.partition("-")
    unit_key = key(workspace, unit)
    scratch = workspace.scratch(f"evaluate/{unit}", unit_key)

    def compute(out: Path) -> dict[str, int]:
        column, seed = columns.open_column(workspace, name), workspace.params.seed
        if method == FOUNDATION:
            return foundation.score(
                column.samples, workspace.models(), pseudo_masks.options(workspace), seed,
                out / "metrics.json", scratch,
            )  # fmt: skip
        prepared = PreparedMethod(
            protocol(workspace, column), build(workspace, method), column.classes,
            column.background_index,
        )  # fmt: skip
        asked = Asked(prepared, column, workspace.params.evaluate.examples, seed)
        title = f"evaluate: {method} on {column.name} {column.split}"
        return score(asked, out, scratch, title)

    return workspace.run_unit("evaluate", folder(workspace, unit), unit_key, compute, keep=scratch)


def build(workspace: Workspace, method: str) -> Segmentation:
    """The method as a segmenter."""
    if method in ("maskclip", "sclip", "naclip"):
        return DenseClipSegmentation(workspace.clip(method), name=method)
    models = workspace.models()
    if method == "fmbseg":
        return Segmenter.load(workspace.train, workspace.params.device, models=models).segmentation
    if method == "clip_diy":
        options = ClipDiyOptions(
            crop_fractions=(1.0, 0.5, 0.25), stride_fraction=0.5, background_names=(),
            least_objectness=0.05, automatic=pseudo_masks.options(workspace).automatic,
        )  # fmt: skip
        return ClipDiySegmentation(
            workspace.clip("maskclip", whole_crops=True), models.sam, options
        )
    stages: dict[str, tuple[Stage, ...]] = {"stage11": ("1.1",), "stage12": ("1.2",)}
    return Stage1Segmentation(
        models.clip, models.sam, pseudo_masks.options(workspace),
        stages=stages.get(method, ("1.1", "1.2")), name=method,
        needs_image_labels=method == "stage1_image_labels",
    )  # fmt: skip
