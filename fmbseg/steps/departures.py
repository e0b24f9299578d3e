"""Where a run departs from the paper: one list for report, `fmbseg doctor` and a run's start."""

from fmbseg import paper
from fmbseg.models.precision import resolve_precision
from fmbseg.models.profiles import PROFILES, resolve_profile
from fmbseg.params import Params
from fmbseg.steps.foundation_models import overrides_of


def departures(params: Params) -> list[paper.Departure]:
    """Every setting that departs from the paper, then every one that the paper does not publish.

    The encoders' precision is among the latter where it is not float32.

    Raises:
        ValueError: an override that names no model.
    """
    found = paper.departures(params.model_dump(), model_names(params))
    precision = resolve_precision(params.runtime.precision, params.device)
    if precision != "float32":
        found.append(paper.Departure("runtime.precision", precision, None))
    return found


def departure_lines(params: Params) -> list[str]:
    """The departures as text: one line of differences, one line of unpublished settings."""
    found = departures(params)
    parts = (
        ("departs from the paper in", [one for one in found if one.published]),
        ("the paper does not publish", [one for one in found if not one.published]),
    )
    return [f"{head}: {'; '.join(one.words() for one in part)}" for head, part in parts if part]


def model_names(params: Params) -> dict[str, str]:
    """Role to the model in use, with its weights where they are not the published ones.

    Raises:
        ValueError: an override that names no model.
    """
    found = resolve_profile(params.models.profile, overrides_of(params.models))
    published = PROFILES["paper"]
    clip = found.clip.name
    if found.clip.pretrained:
        clip += f", {found.clip.pretrained}"
    sam, vision = found.sam.name, found.vision.name
    if found.sam.checkpoint and sam == published.sam.name:
        own = found.sam.checkpoint != published.sam.checkpoint
        sam += f", {found.sam.checkpoint}" if own else ""
    if isinstance(found.vision.pretrained, str):
        vision += f", {found.vision.pretrained}"
    return {"clip": clip, "sam": sam, "vision": vision}
