"""Step `train`: stage 2 of the paper, the alignment module on frozen vision features."""

import json
import logging
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fmbseg.align.settings import CONFIG, DESCRIPTION, WEIGHTS
from fmbseg.steps.corrections import Corrections
from fmbseg.steps.foundation_models import models_params
from fmbseg.steps.kept_masks import MASKS_FROM, automatic_file, masks_file
from fmbseg.steps.running import run_unit
from fmbseg.steps.shards import quarantined, shards
from fmbseg.steps.step import Step
from fmbseg.steps.together import leads, processes, together, under_torchrun
from fmbseg.steps.truth import truth_inputs
from fmbseg.steps.workspace import Workspace
from fmbseg.store import (
    MANIFEST,
    StoreError,
    UnitKey,
    file_sha,
    read_json,
    unit_is_valid,
    write_json,
)
from fmbseg.store import run_unit as run_stored_unit
from fmbseg.vocabulary import read_classes

if TYPE_CHECKING:  # who only asks whether there is something to do does not wait for torch
    from fmbseg.align.checkpoint import OnPoints
    from fmbseg.align.head import AlignmentHead
    from fmbseg.models.protocols import VisionModel

_log = logging.getLogger(__name__)
CHAMPION = "champion"
"""Value of `train.init_from` that stands for the champion of the model registry."""
_NO_CHAMPION = "none"
_CORRECTED = "/corrections/"
"""Begins the names of corrections among a training's inputs; no image's name begins so."""


def champion_folder(workspace: Workspace) -> Path:
    """Where the champion's trained folder lies when `train.init_from` is `champion`."""
    return workspace.root / "models" / "champion"


def uncorrected_folder(workspace: Workspace) -> Path:
    """The last trained folder that no correction had a part in, kept to be compared with."""
    return workspace.root / "models" / "uncorrected"


def initial_folder(workspace: Workspace) -> Path | None:
    """The trained folder whose weights training starts from; None for fresh weights."""
    named = workspace.params.train.init_from
    if named is None:
        return None
    return champion_folder(workspace) if named == CHAMPION else Path(named)


def key(workspace: Workspace, unit: str = "") -> UnitKey:
    """Content key of the trained module.

    With `train.init_from` the weights that it starts from belong to it. But a model that is up to
    date otherwise keeps the key that names the champion it was started from: a champion that
    moves outdates nothing.
    """
    corrections = Corrections.of(workspace)
    bad = {entry["image"] for entry in quarantined(workspace)} | set(corrections.held_out)
    images = workspace.listing().images
    inputs = {name: sha for name, sha in images.items() if name not in bad}
    inputs |= {f"{_CORRECTED}{name}": said for name, said in corrections.trained.items()}
    for shard in shards(workspace):
        inputs[f"kept/{shard}"] = file_sha(masks_file(workspace, shard))
    inputs["classes"] = file_sha(workspace.classes_path())
    if workspace.params.train.labels == "truth":
        inputs |= truth_inputs(workspace)
    if workspace.params.train.labels == "student":
        for shard in shards(workspace):
            inputs[f"masks/{shard}"] = file_sha(automatic_file(workspace, shard))
    params = {
        **workspace.params.train.model_dump(), "processes": processes(workspace),
        **models_params(workspace, "clip", "vision"),
        "ignore_label": workspace.params.data.ignore_label,
    }  # fmt: skip
    plain = workspace.key("train", inputs, params)
    folder = initial_folder(workspace)
    if folder is None:
        return plain
    started_from = _parts_of_trained(workspace.train).get("inputs", {}).get("init_from")
    if started_from is not None and workspace.params.train.init_from == CHAMPION:
        trained = replace(plain, inputs={**inputs, "init_from": started_from})
        if unit_is_valid(workspace.train, trained):
            return trained
    weights = folder / WEIGHTS
    sha = file_sha(weights) if weights.is_file() else _NO_CHAMPION
    return replace(plain, inputs={**inputs, "init_from": sha})


def run(
    workspace: Workspace,
    unit: str = "",
    *,
    on_points: "OnPoints | None" = None,
    vision: "VisionModel | None" = None,
) -> bool:
    """Make `models/train/`; True when there was something to do.

    A cut training goes on at its last checkpoint and ends with the same bytes.

    Args:
        workspace: whose masks are trained on.
        unit: the one there is.
        on_points: is told the history while it grows; see `train_alignment`.
        vision: the workspace's own vision encoder, where the caller has it already.

    Raises:
        NothingToTrainOnError: stage 1 found no mask at all, or no image has labels where
            `train.labels` is `truth`.
        StoreError: the champion was replaced between the start and the reading of its weights.
    """
    if not leads():
        return _take_part(workspace)
    train_key = key(workspace)
    scratch = workspace.scratch("train", train_key)

    def compute(out: Path) -> None:
        from fmbseg.steps.training import train_with

        for line in Corrections.of(workspace).words():
            _log.warning("train: %s", line)

        init_sha, folder = train_key.inputs.get("init_from"), initial_folder(workspace)
        started: AlignmentHead | None = None

        def initial(sizes: Mapping[str, Any]) -> "AlignmentHead | None":
            nonlocal started
            if init_sha is not None and folder is not None:
                started = _initial(folder, init_sha, sizes)
            return started

        with together(workspace) as ranks:
            ranks.told(True)
            train_with(
                ranks, workspace, out, scratch,
                initial=initial, on_points=on_points, vision=vision,
            )  # fmt: skip
        p, vocabulary = workspace.params.train, read_classes(workspace.classes_path())
        section = workspace.params.models.model_dump()
        write_json(
            out / DESCRIPTION,
            {"models": section, "input_short_side_px": p.input_short_side_px,
             "trained_classes": list(vocabulary.names),
             "synonyms": [list(others) for others in vocabulary.synonyms],
             "temperature": p.temperature, "labels": p.labels,
             "init_from": None if started is None else init_sha},
        )  # fmt: skip

    if _corrected(train_key.inputs):
        _keep_uncorrected(workspace)
    computed = run_unit(workspace, "train", workspace.train, train_key, compute, keep=scratch)
    if not computed and under_torchrun():
        with together(workspace) as ranks:
            ranks.told(False)
    return computed


def _keep_uncorrected(workspace: Workspace) -> None:
    """Copy the trained model, unless corrections or labels had a part in it."""
    target, parts = uncorrected_folder(workspace), _parts_of_trained(workspace.train)
    if not parts or _corrected(parts["inputs"]) or parts["params"].get("labels") != "pseudo":
        return
    source = {"train": file_sha(workspace.train / MANIFEST)}

    def copy(out: Path) -> None:
        for name in (WEIGHTS, CONFIG, DESCRIPTION):
            shutil.copyfile(workspace.train / name, out / name)

    run_stored_unit(target, UnitKey(inputs=source), copy)


def _corrected(inputs: Mapping[str, str]) -> bool:
    return any(name.startswith(_CORRECTED) for name in inputs)


def _take_part(workspace: Workspace) -> bool:
    """Train as the first process says, which alone looks at the unit and writes it."""
    import torch

    from fmbseg.steps.training import train_with

    torch.set_num_threads(workspace.params.threads)
    with together(workspace) as ranks:
        wanted = bool(ranks.told(None))
        if wanted:
            train_with(ranks, workspace)
    return wanted


def _parts_of_trained(folder: Path) -> dict[str, dict[str, Any]]:
    """`inputs` and `params` that the trained model was made from; empty where there is none."""
    try:
        parts = read_json(folder / MANIFEST)["parts"]
        return {name: dict(parts[name]) for name in ("inputs", "params")}
    except (StoreError, KeyError, TypeError):
        return {}


def _initial(folder: Path, sha: str, wanted: Mapping[str, Any]) -> "AlignmentHead | None":
    """The folder's head; None, with a warning, when there is none that fits."""
    from fmbseg.align.head import AlignmentHead

    if sha == _NO_CHAMPION:
        _log.warning("train.init_from: no weights in %s; starting from fresh ones", folder)
        return None
    if not (folder / WEIGHTS).is_file() or file_sha(folder / WEIGHTS) != sha:
        raise StoreError(f"{folder}: the weights were replaced meanwhile; run the step again")
    try:
        head = AlignmentHead.load(folder)
    except (OSError, StoreError, ValueError, TypeError, RuntimeError) as error:
        _log.warning("train.init_from: %s cannot be read (%s); fresh weights", folder, error)
        return None
    if head.config() != dict(wanted):
        _log.warning(
            "train.init_from: the weights in %s do not fit (%s, wanted %s); starting from "
            "fresh weights", folder, json.dumps(head.config()), json.dumps(dict(wanted)),
        )  # fmt: skip
        return None
    return head


def _outcome(workspace: Workspace, unit: str, line: Mapping[str, Any]) -> str:
    last = read_json(workspace.train / "history.json")[-1]
    return f"loss {last['loss']:.3f} after {last['step']} steps"


STEP = Step(
    name="train",
    reads=("download", "pseudo_masks", MASKS_FROM),
    writes="models/train",
    key=key,
    run=run,
    outcome=_outcome,
)
