"""Step `evaluate`: one method on one data set, every figure with its protocol."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from fmbseg.align.settings import DESCRIPTION, WEIGHTS
from fmbseg.evaluate.background import Background
from fmbseg.evaluate.protocol import EvaluationProtocol, protocol_named
from fmbseg.methods.segmentation import Segmentation
from fmbseg.methods.table import METHODS
from fmbseg.priority import step_back
from fmbseg.pseudo.settings import PseudoMasksParams
from fmbseg.steps import evaluation_sets
from fmbseg.steps.evaluation_sets import EvaluationSet
from fmbseg.steps.foundation_models import clip_of, models_of, models_params
from fmbseg.steps.running import run_unit
from fmbseg.steps.scoring import Evaluation, score
from fmbseg.steps.step import Step
from fmbseg.steps.workspace import Workspace
from fmbseg.store import UnitKey, file_sha, read_json
from fmbseg.types import Role

if TYPE_CHECKING:  # who only asks whether there is something to do does not wait for torch
    from fmbseg.align.head import AlignmentHead
    from fmbseg.models.protocols import ClipModel, SamModel, VisionModel

FOUNDATION = "foundation"


def units(workspace: Workspace) -> list[str]:
    """What to score: `<method>-<data set>`, and `foundation-...` first; none without labels."""
    found = evaluation_sets.names(workspace)
    methods = workspace.params.evaluate.methods
    scored = [unit_name(method, name) for name in found for method in methods]
    return [unit_name(FOUNDATION, found[0]), *scored] if found else []


def unit_name(method: str, data_set: str) -> str:
    """Name of a unit, and of its folder below reports/evaluate/."""
    return f"{method}-{data_set}"


def scored(workspace: Workspace) -> list[str]:
    """The units that hold a method's figures."""
    return [unit for unit in units(workspace) if method_of(unit) != FOUNDATION]


def method_of(unit: str) -> str:
    """The method in a unit's name."""
    return unit.partition("-")[0]


def is_trained(unit: str) -> bool:
    """Whether a unit scores a method that needs the trained head."""
    method = METHODS.get(method_of(unit))
    return method is not None and method.trained


def protocol(workspace: Workspace, data_set: EvaluationSet) -> EvaluationProtocol:
    """The protocol of params.yaml for a data set; printed with every figure."""
    section = workspace.params.evaluate
    found = protocol_named(section.protocol)
    if section.protocol == "whole" or section.templates == "model":
        found = replace(found, templates=(workspace.params.models.template,))
    if section.synonyms != "protocol":
        found = replace(found, synonyms=section.synonyms)
    if data_set.samples.background_index is None or section.background == "protocol":
        return found
    if section.background == "ignore":
        return replace(found, background=Background("ignore"))
    return replace(found, background=Background("stuff_names", data_set.background_names))


def key(workspace: Workspace, unit: str) -> UnitKey:
    """Content key of a unit."""
    name = unit.partition("-")[2]
    method = METHODS.get(method_of(unit))
    roles: tuple[Role, ...] = ("clip", "sam") if method is None else method.models
    inputs = dict(evaluation_sets.inputs(workspace, name))
    section = workspace.params.evaluate.model_dump(exclude={"methods", "data_sets"})
    params = {
        "unit": unit, "seed": workspace.params.seed, **section,
        **workspace.params.pseudo_masks.model_dump(),
        **models_params(workspace, *roles),
        "ignore_label": workspace.params.data.ignore_label,
    }  # fmt: skip
    if is_trained(unit):
        inputs["train"] = file_sha(workspace.train / WEIGHTS)
    if "vision" in roles:
        params["input_short_side_px"] = workspace.params.train.input_short_side_px
    return workspace.key("evaluate", inputs, params)


def run(workspace: Workspace, unit: str) -> bool:
    """Make `reports/evaluate/<method>-<data set>/`; True when there was something to do.

    A cut evaluation keeps every finished image.
    """
    method, _, name = unit.partition("-")
    unit_key, place = key(workspace, unit), workspace.evaluate / unit
    scratch = workspace.scratch(f"evaluate/{unit}", unit_key)

    def compute(out: Path) -> dict[str, int]:
        if not is_trained(unit):
            step_back()  # it runs beside the training, which the run waits for
        data_set, seed = evaluation_sets.open_evaluation_set(workspace, name), workspace.params.seed
        if method == FOUNDATION:
            from fmbseg.steps import foundation

            return foundation.score(
                data_set.samples, models_of(workspace), workspace.params.pseudo_masks, seed,
                out / "metrics.json", scratch,
            )  # fmt: skip
        evaluation = _evaluation(
            workspace, build(workspace, method), data_set, workspace.params.evaluate.examples,
            _threads(workspace, unit),
        )  # fmt: skip
        title = f"evaluate: {method} on {data_set.name} {data_set.split}"
        return score(evaluation, out, scratch, title)

    return run_unit(workspace, "evaluate", place, unit_key, compute, keep=scratch)


def miou_of(workspace: Workspace, trained: Path, method: str, name: str) -> float | None:
    """The mIoU that another trained folder has on a data set as it is today.

    Args:
        workspace: whose data set, models and protocol.
        trained: the folder.
        method: a trained one.
        name: of the data set.

    Returns:
        0 to 1; None where the folder was trained for other models.
    """
    described = read_json(trained / DESCRIPTION)
    models = workspace.params.model_dump(mode="json")["models"]
    size = workspace.params.train.input_short_side_px
    if (described["models"], described["input_short_side_px"]) != (models, size):
        return None
    data_set = evaluation_sets.open_evaluation_set(workspace, name)
    one = _evaluation(workspace, build(workspace, method, trained), data_set, 0, 1)
    with TemporaryDirectory() as folder:
        score(one, Path(folder), Path(folder) / "scratch", f"evaluate: {trained.name} on {name}")
        return float(read_json(Path(folder) / "metrics.json")["miou"])


def _evaluation(
    workspace: Workspace, method: Segmentation, data_set: EvaluationSet, examples: int, threads: int
) -> Evaluation:
    from fmbseg.evaluate.prepared import PreparedMethod

    rules, background = protocol(workspace, data_set), data_set.samples.background_index
    prepared = PreparedMethod(rules, method, data_set.classes, background)
    return Evaluation(prepared, data_set, examples, workspace.params.seed, threads)


def _threads(workspace: Workspace, unit: str) -> int:
    """Of the workers' threads an evaluation's share, where there is no training beside it."""
    runner = workspace.params.runner
    if runner.kind != "threads" or not is_trained(unit):
        return 1
    return max(1, runner.workers // sum(map(is_trained, units(workspace))))


@dataclass(frozen=True)
class _Parts:
    """What methods are built from, with the models and parameters of a workspace; see `Parts`."""

    workspace: Workspace
    trained: Path

    def clip(self, projection: str | None = None, *, whole_crops: bool = False) -> "ClipModel":
        wanted = projection or self.workspace.params.models.projection
        return clip_of(self.workspace, wanted, whole_crops=whole_crops)

    def sam(self) -> "SamModel":
        return models_of(self.workspace).sam

    def vision(self) -> "VisionModel":
        return models_of(self.workspace).vision

    def head(self) -> "AlignmentHead":
        """The trained head."""
        from fmbseg.align.head import AlignmentHead
        from fmbseg.models.device import resolve_device

        device = resolve_device(self.workspace.params.device)
        return AlignmentHead.load(self.trained, str(device))

    def stage1(self) -> PseudoMasksParams:
        return self.workspace.params.pseudo_masks


def build(workspace: Workspace, method: str, trained: Path | None = None) -> Segmentation:
    """The method with the workspace's models.

    Args:
        workspace: whose models.
        method: its name.
        trained: folder of the head; None: `models/train`.
    """
    return METHODS[method].build(_Parts(workspace, trained or workspace.train), method)


def _needs(workspace: Workspace, unit: str) -> tuple[str, ...]:
    return ("download", "train") if is_trained(unit) else ("download",)


def _before(workspace: Workspace) -> None:
    workspace.evaluate.mkdir(parents=True, exist_ok=True)  # empty where nothing is scored


def _outcome(workspace: Workspace, unit: str, line: Mapping[str, Any]) -> str:
    metrics = read_json(workspace.evaluate / unit / "metrics.json")
    if "miou" in metrics:
        return f"mIoU {metrics['miou']:.3f}"
    return f"presence F1 {metrics['presence']['f1']:.3f}"


STEP = Step(
    name="evaluate",
    reads=("download", "train"),
    writes="reports/evaluate",
    units=units,
    needs=_needs,
    key=key,
    run=run,
    before=_before,
    mapped=True,
    outcome=_outcome,
)
