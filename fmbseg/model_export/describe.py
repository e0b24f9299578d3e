"""What an exported model says of itself: classes, sizes, models, licences, lineage."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fmbseg import runtime
from fmbseg.align.settings import DESCRIPTION
from fmbseg.evaluate.protocol import protocol_named
from fmbseg.methods.aligned import AlignedSegmentation
from fmbseg.models.licences import licences
from fmbseg.models.settings import ModelsParams
from fmbseg.models.vision import TimmVision
from fmbseg.store import MANIFEST, file_sha, read_json, sha_of


def runner_facts(
    segmentation: AlignedSegmentation,
    names: Sequence[str],
    *,
    temperature: float,
    window_px: int | None = None,
    precision: str = "float32",
    encoder: str = "",
) -> dict[str, Any]:
    """What `fmbseg.runtime` has to know of a model.

    Args:
        segmentation: that is exported.
        names: of the classes that are built in; none leaves them to a file of text vectors.
        temperature: that confidence is measured in.
        window_px: of a graph that takes one square only.
        precision: of the graph.
        encoder: see `text_encoder`.
    """
    vision = segmentation.vision
    assert isinstance(vision, TimmVision)
    return {
        "format": runtime.FORMAT,
        "open": not names,
        "classes": list(names),
        "text_encoder": encoder,
        "temperature": temperature,
        "precision": precision,
        "patch_hw": list(vision.patch_hw),
        "short_side_px": vision.short_side_px,
        "window_px": window_px,
        "tile_side_px": segmentation.tile_side_px,
        "interpolation": vision.interpolation,
    }


def facts_of(
    folder: Path,
    segmentation: AlignedSegmentation,
    groups: Sequence[Sequence[str]],
    *,
    temperature: float,
    window_px: int | None,
    precision: str,
) -> dict[str, Any]:
    """The same, with what people and other programs want to know of it.

    Args:
        folder: the trained one.
        segmentation: read from it.
        groups: all names of each class that is built in, its own first.
        temperature: that confidence is measured in.
        window_px: of a graph that takes one square only.
        precision: of the graph.
    """
    section = ModelsParams.model_validate(read_json(folder / DESCRIPTION)["models"])
    vision = segmentation.vision
    assert isinstance(vision, TimmVision)
    return {
        **runner_facts(
            segmentation, [names[0] for names in groups], temperature=temperature,
            window_px=window_px, precision=precision, encoder=text_encoder(section),
        ),
        "synonyms": [list(names[1:]) for names in groups],
        "template": section.template,
        "protocol": {"name": "whole", "hash": protocol_named("whole").digest},
        "models": section.model_dump(mode="json", exclude={"sam"}),
        "licences": licences(section, vision.model.pretrained_cfg.get("license")),
        "lineage": lineage(folder),
    }  # fmt: skip


def text_encoder(section: ModelsParams) -> str:
    """Which text encoder and template text vectors belong to: twelve hexadecimal digits."""
    return sha_of([section.profile, section.model_dump()["clip"], section.template])[:12]


def lineage(folder: Path) -> dict[str, Any]:
    """What the trained folder was made from: hashes of its files, and the key of its manifest."""
    files = {path.name: file_sha(path) for path in sorted(folder.glob("*.safetensors"))}
    files[DESCRIPTION] = file_sha(folder / DESCRIPTION)
    manifest = folder / MANIFEST
    found: Mapping[str, Any] = read_json(manifest) if manifest.is_file() else {}
    inputs = found.get("parts", {}).get("inputs", {})
    return {
        "files": files,
        "trained_key": found.get("key"),
        "manifest": file_sha(manifest) if found else None,
        "training_inputs": sha_of(inputs) if inputs else None,
    }
