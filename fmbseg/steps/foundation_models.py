"""The frozen models of a workspace: built once per process and set of parameters, and their keys.

Model libraries are imported where a model is needed, so that a look at a workspace is quick.
"""

import contextlib
import functools
import json
import os
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fmbseg.models.precision import Precision, resolve_precision
from fmbseg.models.settings import ModelsParams
from fmbseg.steps.workspace import Workspace
from fmbseg.store import MANIFEST, StoreError, read_json
from fmbseg.types import Role

if TYPE_CHECKING:
    from fmbseg.models.build import FoundationModels
    from fmbseg.models.protocols import ClipModel

_AUTO = "auto: "
_BUILDING = threading.RLock()
"""Tasks run in threads; two that want a model at once must not build it twice."""


def overrides_of(models: ModelsParams) -> dict[str, dict[str, str]]:
    """The models' keys that replace the profile's."""
    return models.model_dump(include={"clip", "sam", "vision"}, exclude_none=True)


def models_of(workspace: Workspace) -> "FoundationModels":
    """The three foundation models."""
    from fmbseg.models.build import FoundationModels

    side_px = workspace.params.train.input_short_side_px
    with _BUILDING:
        return FoundationModels(
            clip_of(workspace, workspace.params.models.projection),
            _built(workspace, "sam"),
            _built(workspace, "vision", short_side_px=side_px),
        )


def clip_of(workspace: Workspace, projection: str, *, whole_crops: bool = False) -> "ClipModel":
    """CLIP with a projection of its own.

    Args:
        workspace: whose models.
        projection: maskclip, sclip or naclip.
        whole_crops: take every image as one crop, scaled to CLIP's own size.
    """
    p = workspace.params.pseudo_masks
    model: ClipModel = _built(
        workspace, "clip", projection=projection, template=workspace.params.models.template,
        short_side_px=None if whole_crops else p.clip_short_side_px,
        stride_fraction=p.clip_stride_fraction, batch_crops=p.clip_batch_crops,
    )  # fmt: skip
    return model


def models_params(workspace: Workspace, *roles: Role) -> dict[str, Any]:
    """The part of a key that the models named make: settings and hashes of their weights.

    Weights that are not here cannot have changed: what was made with them stays up to date, as in
    a workspace that DVC pulled, by the hashes that stand in its manifests.

    Args:
        workspace: whose models.
        roles: the models a unit uses; a change of another one leaves its key alone.
    """
    from fmbseg.models.status import weights_fingerprint

    models = workspace.params.models
    fingerprint = weights_fingerprint(models.profile, overrides_of(models))
    return {
        **models.model_dump(include={"profile", "projection", "template", *roles}),
        "weights": {role: _recorded(workspace, role, fingerprint[role]) for role in roles},
        "device": workspace.params.device,
        "precision": _precision(workspace),
    }


def precision_of(workspace: Workspace) -> Precision:
    """What the encoders compute in here.

    Where it is `auto` and there is no accelerator, it is what the masks or the model at hand were
    made in with `auto`: a workspace that DVC pulled stays up to date, and never mixes two.
    """
    words: Any = _precision(workspace).removeprefix(_AUTO)
    found: Precision = words
    return found


def _precision(workspace: Workspace) -> str:
    """As a key holds it: a precision that was asked for, or `auto: ` and what it stands for."""
    asked, device = workspace.params.runtime.precision, workspace.params.device
    found = resolve_precision(asked, device)
    if asked != "auto":
        return found
    if found == "float32":
        for manifest in (_a_shard(workspace) / MANIFEST, workspace.train / MANIFEST):
            with contextlib.suppress(OSError):
                known, on = _recorded_precision(manifest, manifest.stat().st_mtime_ns)
                if known.startswith(_AUTO) and on == device:
                    return known
    return f"{_AUTO}{found}"


def _a_shard(workspace: Workspace) -> Path:
    """The folder of any shard; asked for with every key, so the others are not looked at."""
    with contextlib.suppress(OSError), os.scandir(workspace.pseudo_masks) as entries:
        for entry in entries:
            if entry.is_dir() and not entry.name.startswith("."):
                return Path(entry.path)
    return workspace.pseudo_masks


@functools.lru_cache(maxsize=8)
def _recorded_precision(manifest: Path, modified_ns: int) -> tuple[str, str]:
    """Precision and device in the key of a unit, empty where it tells none."""
    with contextlib.suppress(StoreError, KeyError, TypeError):
        params = read_json(manifest)["parts"]["params"]
        return str(params["precision"]), str(params["device"])
    return "", ""


def _recorded(workspace: Workspace, role: Role, fingerprint: str) -> str:
    """The hash of weights that are not here, as a unit recorded it that was made with them."""
    if "sha256:" in fingerprint:
        return fingerprint
    start = f"{fingerprint.split()[0]} sha256:"
    for folder in (workspace.train, *sorted(workspace.pseudo_masks.glob("*"))[:1]):
        with contextlib.suppress(StoreError, KeyError, TypeError, AttributeError):
            known = read_json(folder / MANIFEST)["parts"]["params"]["weights"].get(role)
            if isinstance(known, str) and known.startswith(start):
                return known
    return fingerprint


def _built(workspace: Workspace, role: Role, **options: Any) -> Any:
    """A model that is built once; overrides are text, so that the cache finds equal ones again."""
    models, runtime = workspace.params.models, workspace.params.runtime
    overrides = json.dumps(overrides_of(models))
    with _BUILDING:
        return _build(
            role, models.profile, overrides, device=workspace.params.device,
            precision=precision_of(workspace), batch_memory_gb=runtime.batch_memory_gb, **options,
        )  # fmt: skip


@functools.lru_cache(maxsize=8)
def _build(role: Role, profile: str, overrides: str, **options: Any) -> Any:
    from fmbseg.models.build import build_model

    return build_model(role, profile, json.loads(overrides), **options)
