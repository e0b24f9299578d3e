"""The files of a published model: config.json, model.safetensors and a card, no backbone."""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import safetensors
import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from fmbseg.align.head import AlignmentHead
from fmbseg.align.settings import CONFIG as HEAD_CONFIG
from fmbseg.align.settings import DESCRIPTION, WEIGHTS
from fmbseg.hub.files import CARD, CONFIG, MAX_BYTES, MODEL
from fmbseg.hub.names import HubError
from fmbseg.models.profiles import resolve_profile
from fmbseg.models.settings import ModelsParams
from fmbseg.models.weights import ModelError
from fmbseg.store import StoreError, file_sha, load_safetensors, read_json, write_json

_Named = Annotated[str, Field(min_length=1, max_length=200)]
_Width = Annotated[int, Field(strict=True, ge=1, le=65_536)]


class _Head(BaseModel):
    """The constructor's arguments of `AlignmentHead`."""

    model_config = ConfigDict(extra="forbid")
    vision_dim: _Width
    text_dim: _Width
    heads: _Width
    mlp_ratio: Annotated[float, Field(gt=0.0, le=64.0)]


class Published(BaseModel):
    """What config.json of a published model says; see `write_published`.

    Attributes:
        model_type: tells it from other models.
        format: of the file.
        head: sizes of the alignment head.
        models: the frozen models that it was trained with, and how CLIP is asked.
        input_short_side_px: of the vision encoder.
        trained_classes: names that it was trained on.
        synonyms: other names of each class.
        temperature: of the training's softmax.
        labels: what it was trained on: pseudo masks, or truth.
        protocol: name and hash of the protocol of its figures; None where it has none.
        lineage: hashes of the weights and of what they were trained from.
        fmbseg: version that wrote it.
    """

    model_config = ConfigDict(extra="forbid")
    model_type: Literal["fmbseg"]
    format: Literal[1]
    head: _Head
    models: dict[str, Any]
    input_short_side_px: Annotated[int, Field(ge=1, le=16_384)] | Literal["auto"]
    trained_classes: Annotated[list[_Named], Field(max_length=65_535)]
    synonyms: list[Annotated[list[_Named], Field(max_length=1000)]]
    temperature: Annotated[float, Field(gt=0.0, le=1000.0)] | None
    labels: str | None = None
    protocol: dict[str, str] | None = None
    lineage: dict[str, str | None]
    fmbseg: str


def described_for_others(folder: Path, named: Mapping[str, str]) -> ModelsParams:
    """The section `models` of a trained folder, fit for other machines.

    SAM is left out: a trained model never needs it.

    Args:
        folder: the trained folder.
        named: published names in place of paths of this machine, such as
            {"clip.pretrained": "openai"}.

    Raises:
        HubError: a model is named by a path, or the names do not make models.
    """
    tree = ModelsParams.model_validate(read_json(folder / DESCRIPTION)["models"]).model_dump()
    tree["sam"] = None
    for dotted, value in named.items():
        role, _, key = dotted.partition(".")
        if role not in ("clip", "vision") or not key:
            raise HubError(f"--name {dotted}=: wanted clip.KEY or vision.KEY")
        tree[role] = {**(tree[role] or {}), key: value}
    try:
        section = ModelsParams.model_validate(tree)
        keys = section.model_dump(include={"clip", "vision"}, exclude_none=True)
        resolve_profile(section.profile, keys)
    except (ValidationError, ModelError) as error:
        raise HubError(f"{folder / DESCRIPTION}: models: {str(error).splitlines()[0]}") from None
    for role, spec in keys.items():
        for key, value in spec.items():
            if isinstance(value, str) and _is_path(key, value):
                raise HubError(
                    f"{folder / DESCRIPTION}: models.{role}.{key} is {value!r}, a path of this "
                    "machine, which nobody else can load; say the model's published name with "
                    f"--name {role}.{key}=NAME (a tag of open_clip, or hf-hub:owner/name)"
                )
    return section


def write_published(
    folder: Path,
    section: ModelsParams,
    out: Path,
    *,
    card: str,
    lineage: Mapping[str, str | None],
    protocol: Mapping[str, str] | None,
    version: str,
) -> None:
    """Write the files of a published model.

    Args:
        folder: the trained folder.
        section: see `described_for_others`.
        out: a folder that gets `FILES`.
        card: text of the model card.
        lineage: hashes of what the head was trained from, by name.
        protocol: name and hash of the protocol of the card's figures.
        version: of this package.
    """
    described = read_json(folder / DESCRIPTION)
    said = Published(
        model_type="fmbseg",
        format=1,
        head=_Head.model_validate(read_json(folder / HEAD_CONFIG)),
        models=section.model_dump(mode="json"),
        input_short_side_px=described["input_short_side_px"],
        trained_classes=described.get("trained_classes", []),
        synonyms=described.get("synonyms", []),
        temperature=described.get("temperature"),
        labels=described.get("labels"),
        protocol=None if protocol is None else dict(protocol),
        lineage={"weights": file_sha(folder / WEIGHTS), **lineage},
        fmbseg=version,
    )
    out.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(folder / WEIGHTS, out / MODEL)
    (out / MODEL).chmod(0o644)
    write_json(out / CONFIG, said.model_dump(mode="json"))
    (out / CARD).write_text(card)


def read_published(folder: Path, device: str = "cpu") -> tuple[AlignmentHead, dict[str, Any]]:
    """Read a published model, which may come from anybody.

    No memory is taken for what config.json claims before the weights are seen to have it.

    Args:
        folder: holds config.json and model.safetensors.
        device: of the head.

    Returns:
        The head in `eval` mode, and what config.json says under the keys of segmenter.json.

    Raises:
        StoreError: a file is too large, damaged, no safetensors, or does not fit the other.
    """
    for name, limit in MAX_BYTES.items():
        size = (folder / name).stat().st_size if (folder / name).is_file() else 0
        if size > limit:
            raise StoreError(f"{folder / name}: found {size:,} bytes; wanted at most {limit:,}")
    try:
        said = Published.model_validate(read_json(folder / CONFIG))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise StoreError(
            f"{folder / CONFIG}: {where}: {first['msg'].lower()}; wanted what fmbseg push-to-hub "
            "writes"
        ) from None
    head = _head(folder, said.head.model_dump())
    described = said.model_dump(exclude={"head", "lineage", "protocol", "model_type", "format"})
    return head.to(device).eval(), described


def unpack_published(folder: Path, out: Path) -> None:
    """Write a published model's files as the train step names them, with the same weights.

    Args:
        folder: holds config.json and model.safetensors.
        out: a folder that gets alignment.safetensors, alignment.json and segmenter.json.

    Raises:
        StoreError: see `read_published`.
    """
    head, described = read_published(folder)
    shutil.copyfile(folder / MODEL, out / WEIGHTS)
    write_json(out / HEAD_CONFIG, head.config())
    write_json(out / DESCRIPTION, described)


def _head(folder: Path, sizes: Mapping[str, Any]) -> AlignmentHead:
    path = folder / MODEL
    try:
        with torch.device("meta"):
            head = AlignmentHead(**sizes)
        wanted = {name: list(one.shape) for name, one in head.state_dict().items()}
        with safetensors.safe_open(path, "pt") as file:
            found = {name: file.get_slice(name).get_shape() for name in file.keys()}  # noqa: SIM118
    except (ValueError, RuntimeError, OverflowError, OSError, safetensors.SafetensorError) as error:
        raise StoreError(f"{path}: {str(error).splitlines()[0]}") from None
    if found != wanted:
        odd = sorted(name for name in {*found, *wanted} if found.get(name) != wanted.get(name))
        raise StoreError(
            f"{path}: {odd[0][:60]} is {found.get(odd[0])}, wanted {wanted.get(odd[0])} by "
            f"{CONFIG}; they do not belong together"
        )
    state = load_safetensors(path)
    head.load_state_dict({name: one.float() for name, one in state.items()}, assign=True)
    return head


def _is_path(key: str, value: str) -> bool:
    """As `fmbseg.models.trust` sees it, and absolute paths that are not here."""
    if value.startswith("local-dir:"):
        return True
    return key != "name" and ("/" in value or Path(value).suffix in (".pt", ".pth", ".safetensors"))
