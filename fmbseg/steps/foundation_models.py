"""The frozen models of a workspace: built once per process and set of parameters, and their keys.

Model libraries are imported where a model is needed, so that a look at a workspace is quick.
"""

import contextlib
import functools
import json
import threading
from typing import TYPE_CHECKING, Any

from fmbseg.models.settings import ModelsParams
from fmbseg.steps.workspace import Workspace
from fmbseg.store import MANIFEST, StoreError, read_json
from fmbseg.types import Role

if TYPE_CHECKING:
    from fmbseg.models.build import FoundationModels
    from fmbseg.models.protocols import ClipModel, SamModel, VisionModel

_BUILDING = threading.RLock()
"""Tasks run in threads; two that want a model at once must not build it twice."""


def overrides_of(models: ModelsParams) -> dict[str, dict[str, str]]:
    """The models' keys that replace the profile's."""
    return models.model_dump(include={"clip", "sam", "vision"}, exclude_none=True)


def models_of(workspace: Workspace) -> "FoundationModels":
    """The three foundation models."""
    from fmbseg.models.build import FoundationModels

    p, section = workspace.params, workspace.params.models
    profile, overrides = section.profile, _overrides(workspace)
    with _BUILDING:
        return FoundationModels(
            clip_of(workspace, section.projection),
            _sam(profile, overrides, p.device),
            _vision(profile, overrides, p.train.input_short_side_px, p.device),
        )


def clip_of(workspace: Workspace, projection: str, *, whole_crops: bool = False) -> "ClipModel":
    """CLIP with a projection of its own.

    Args:
        workspace: whose models.
        projection: maskclip, sclip or naclip.
        whole_crops: take every image as one crop, scaled to CLIP's own size.
    """
    p, section = workspace.params, workspace.params.models
    with _BUILDING:
        return _clip(
            section.profile, _overrides(workspace), projection, section.template,
            None if whole_crops else p.pseudo_masks.clip_short_side_px,
            p.pseudo_masks.clip_stride_fraction, p.pseudo_masks.clip_batch_crops, p.device,
        )  # fmt: skip


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
    }


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


def _overrides(workspace: Workspace) -> str:
    """As JSON, so that a cache finds equal ones again."""
    return json.dumps(overrides_of(workspace.params.models))


@functools.lru_cache(maxsize=4)
def _clip(
    profile: str, overrides: str, projection: str, template: str, short_side_px: Any,
    stride_fraction: float, batch_crops: int, device: str,
) -> "ClipModel":  # fmt: skip
    from fmbseg.models.build import build_profile_clip

    return build_profile_clip(
        profile, json.loads(overrides), projection=projection, template=template,
        short_side_px=short_side_px, stride_fraction=stride_fraction, batch_crops=batch_crops,
        device=device,
    )  # fmt: skip


@functools.lru_cache(maxsize=2)
def _sam(profile: str, overrides: str, device: str) -> "SamModel":
    from fmbseg.models.build import build_profile_sam

    return build_profile_sam(profile, json.loads(overrides), device=device)


@functools.lru_cache(maxsize=2)
def _vision(profile: str, overrides: str, short_side_px: Any, device: str) -> "VisionModel":
    from fmbseg.models.build import build_profile_vision

    return build_profile_vision(
        profile, json.loads(overrides), short_side_px=short_side_px, device=device
    )
