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
    from fmbseg.models.protocols import ClipModel

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


def _built(workspace: Workspace, role: Role, **options: Any) -> Any:
    """A model that is built once; overrides are text, so that the cache finds equal ones again."""
    models = workspace.params.models
    overrides = json.dumps(overrides_of(models))
    with _BUILDING:
        return _build(role, models.profile, overrides, device=workspace.params.device, **options)


@functools.lru_cache(maxsize=8)
def _build(role: Role, profile: str, overrides: str, **options: Any) -> Any:
    from fmbseg.models.build import build_model

    return build_model(role, profile, json.loads(overrides), **options)
