"""Families of models: one record for each kind of CLIP, SAM and vision encoder.

Whatever is done with a model by its name (build it, find, fetch, check and fingerprint its
weights) asks the record of its family. Another kind of model is one more module that gives these
functions, and one more entry in `FAMILIES`. Model libraries take seconds to import, so they are
imported where a model is built or a name is looked up, and not where weights are only located.
"""

from collections.abc import Callable
from dataclasses import astuple, dataclass, fields
from functools import partial
from pathlib import Path
from typing import Any

from fmbseg.models.clip_config import CONFIG, tokenizer_files
from fmbseg.models.clip_weights import clip_folder, clip_source
from fmbseg.models.sam_weights import PUBLISHED, SAM_CONFIG, sam_folder, sam_source
from fmbseg.models.vision_weights import vision_folder, vision_source
from fmbseg.models.weights import ModelError, Source
from fmbseg.types import Role


@dataclass(frozen=True)
class ClipSpec:
    """Which CLIP; see `build_clip`."""

    name: str
    pretrained: str | None = None
    quick_gelu: bool | None = None


@dataclass(frozen=True)
class SamSpec:
    """Which SAM; see `build_sam`."""

    name: str
    checkpoint: str | None = None


@dataclass(frozen=True)
class VisionSpec:
    """Which vision encoder; see `build_vision`."""

    name: str
    pretrained: bool | str = True


Spec = ClipSpec | SamSpec | VisionSpec
"""The first field is the model's name, the second its weights."""


def weights_of(spec: Spec) -> str | bool | None:
    """What a spec says of its weights: a tag or a file, or True for the name's own."""
    found: str | bool | None = astuple(spec)[1]
    return found


def brings_its_own(name: str) -> bool:
    """Whether a name stands for a folder or repository that holds weights beside the model."""
    return name == "miniature" or name.startswith(("local-dir:", "hf-hub:"))


@dataclass(frozen=True)
class Code:
    """What a family does with model libraries.

    Attributes:
        knows: whether a name is of the family's own list of names.
        build: from a spec's fields, `device` and options, to the model behind its protocol.
        check: from a spec's fields; raises `ModelError` where the weights on this machine do not
            fit the architecture, without reading their numbers.
    """

    knows: Callable[[str], bool]
    build: Callable[..., Any]
    check: Callable[..., object]


@dataclass(frozen=True)
class Family:
    """What is done with the models of one family; specs are handed on field by field.

    Attributes:
        role: which of the three foundation models it serves as.
        code: imports what it does with model libraries.
        source: from a spec's fields, to where the weights may lie and where they come from.
        folder: from a name, to the folder it stands for, or None for a name of a list.
        config: the file of a folder or repository that describes the architecture.
        beside: from a name and the folder it stands for, if it does, to repository and name of
            the files that a hub must give beside the weights.
        defaults: from a name, to the other keys that follow from it where a user does not set them.
        wanted: what may stand for the weights, for messages.
        own_file: whether a folder's own weights may be replaced by a file.
    """

    role: Role
    code: Callable[[], Code]
    source: Callable[..., Source]
    folder: Callable[[str], Path | None]
    config: str
    beside: Callable[[str, Path | None], list[tuple[str, str]]] = lambda name, folder: []
    defaults: Callable[[str], dict[str, Any]] = lambda name: {}
    wanted: str = "a file"
    own_file: bool = False

    def require_weights(self, spec: Spec) -> None:
        """Refuse a spec that has random weights, or two sorts of weights.

        Raises:
            ModelError: naming the key of params.yaml.
        """
        key = f"models.{self.role}.{fields(spec)[1].name}"
        weights, own = weights_of(spec), brings_its_own(spec.name)
        if own and isinstance(weights, str) and not self.own_file:
            raise ModelError(
                f"{key}: {spec.name} brings its own weights; name another model beside it"
            )
        if weights is False or (weights is None and not own and self.code().knows(spec.name)):
            raise ModelError(f"{key}: {spec.name} would have random weights; wanted {self.wanted}")


def _clip_defaults(name: str) -> dict[str, Any]:
    """The activation that a name tells of, or that no tag belongs to a folder."""
    if brings_its_own(name):
        return {"pretrained": None}
    return {"quick_gelu": True} if name.endswith("-quickgelu") else {}


def _clip_code() -> Code:
    import open_clip

    from fmbseg.models.clip_build import build_clip, check_clip

    return Code(lambda name: name in open_clip.list_models(), build_clip, check_clip)


def _sam_code() -> Code:
    from segment_anything import sam_model_registry

    from fmbseg.models.sam_build import build_sam, sam_model

    check = partial(sam_model, device="meta")
    return Code(lambda name: name in sam_model_registry, build_sam, check)


def _vision_code() -> Code:
    from fmbseg.models.vision import build_vision, vision_model

    return Code(lambda name: True, build_vision, partial(vision_model, device="meta"))


FAMILIES: tuple[Family, ...] = (
    Family(
        "clip", _clip_code, source=clip_source, folder=clip_folder, config=CONFIG,
        beside=tokenizer_files, defaults=_clip_defaults, wanted="a tag such as openai, or a file",
    ),
    Family(
        "sam", _sam_code, source=sam_source, folder=sam_folder, config=SAM_CONFIG,
        defaults=lambda name: {"checkpoint": PUBLISHED[name].file if name in PUBLISHED else None},
    ),
    Family(
        "vision", _vision_code, source=vision_source, folder=vision_folder, config="config.json",
        wanted="true or a file", own_file=True,
    ),
)  # fmt: skip
"""Of a role, the first takes every name that no other knows, and says what is wrong with it."""


def family_of(role: Role, name: str) -> Family:
    """The family that a model of a role belongs to by its name."""
    first, *others = (family for family in FAMILIES if family.role == role)
    return next((family for family in others if family.code().knows(name)), first)
