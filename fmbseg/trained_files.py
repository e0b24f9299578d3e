"""The files of a trained model, as the train step or `fmbseg push-to-hub` wrote them."""

from collections.abc import Collection
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from fmbseg.align.head import AlignmentHead
from fmbseg.align.settings import DESCRIPTION
from fmbseg.hub.files import CONFIG, is_published
from fmbseg.hub.layout import read_published
from fmbseg.models.settings import ModelsParams
from fmbseg.store import StoreError, read_json


def read_trained(folder: Path, device: str, *, whole: bool) -> tuple[AlignmentHead, dict[str, Any]]:
    """The head and its description, of a trained folder or of a published model.

    Args:
        folder: either.
        device: of the head.
        whole: the description has to say which models belong to it.

    Raises:
        FileNotFoundError: the folder holds neither.
        StoreError: its files are damaged or do not belong together.
    """
    if (folder / DESCRIPTION).is_file():
        description = _described(folder, ("models", "input_short_side_px") if whole else ())
        return _head(folder, device), description
    if is_published(folder):
        return read_published(folder, device)
    raise FileNotFoundError(
        f"{folder / DESCRIPTION}: no trained model; run the train step, or name its folder"
    )


def _described(folder: Path, wanted: Collection[str]) -> dict[str, Any]:
    """The content of segmenter.json, which holds at least the wanted keys."""
    found = read_json(folder / DESCRIPTION)
    missing = [key for key in wanted if key not in found] if isinstance(found, dict) else ["keys"]
    if missing:
        raise StoreError(
            f"{folder / DESCRIPTION}: found no {' and no '.join(missing)}; wanted what the train "
            "step writes; train again, or name another folder"
        )
    return dict(found)


def models_section(folder: Path, description: dict[str, Any]) -> ModelsParams:
    """The models that a description names.

    Raises:
        StoreError: they make no section `models` of params.yaml.
    """
    try:
        return ModelsParams.model_validate(description["models"])
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(["models", *(str(part) for part in first["loc"])])
        file = folder / (DESCRIPTION if (folder / DESCRIPTION).is_file() else CONFIG)
        raise StoreError(
            f"{file}: {where}: {first['msg'].lower()}; train again, or name another folder"
        ) from None


def _head(folder: Path, device: str) -> AlignmentHead:
    try:
        return AlignmentHead.load(folder, device)
    except (TypeError, RuntimeError, AttributeError) as error:
        raise StoreError(
            f"{folder}: alignment.json and alignment.safetensors are damaged or do not belong "
            f"together ({str(error).splitlines()[0]}); train again, or name another folder"
        ) from None
