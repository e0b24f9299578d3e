"""A trained folder made ready for a hub: its files, and a card with what the run knows of it."""

from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from fmbseg.align.settings import CONFIG, DESCRIPTION, WEIGHTS
from fmbseg.errors import UserError
from fmbseg.hub.card import CardFacts, card
from fmbseg.hub.layout import described_for_others, write_published
from fmbseg.miniature.model_card import limits
from fmbseg.models.licences import licences, published_licence
from fmbseg.models.profiles import resolve_profile
from fmbseg.models.settings import ModelsParams
from fmbseg.params import ParamsError
from fmbseg.steps.workspace import Workspace
from fmbseg.store import MANIFEST, StoreError, file_sha, read_json, sha_of
from fmbseg.vocabulary import Vocabulary

_TRAINING = ("loss", "epochs", "learning_rate", "batch_images", "flip", "crop_min_scale")
"""Settings of the training that a card names."""
_NO_IMAGES = ("kept/", "labels/", "/corrections/")
_CORRECTED = "/corrections/"


def write_for_hub(
    folder: Path, repo: str, out: Path, *, named: Mapping[str, str], licence: str | None
) -> CardFacts:
    """Write a trained folder as a published model: head, config.json, card; no backbone.

    Args:
        folder: the trained folder; its run's figures are used where it is a workspace's
            models/train.
        repo: owner/name, for the card.
        out: a folder that gets the files.
        named: see `described_for_others`.
        licence: identifier that the owner gives the head.

    Returns:
        What the card says.

    Raises:
        UserError: no trained model is there.
        HubError: it names models that nobody else can load.
    """
    for name in (DESCRIPTION, CONFIG, WEIGHTS):
        if not (folder / name).is_file():
            raise UserError(
                f"no trained model in {folder} (no {name}); `fmbseg run` (or `make run`) trains "
                "one, or name its folder"
            )
    section = described_for_others(folder, named)
    facts = card_facts(folder, repo, section, licence)
    first = facts.scores[0] if facts.scores else None
    protocol = first and {"name": first["protocol"]["name"], "hash": first["protocol_hash"]}
    write_published(
        folder, section, out, card=card(facts), protocol=protocol, version=facts.version,
        lineage={name: sha for name, sha in facts.lineage.items() if name != "weights"},
    )  # fmt: skip
    return facts


def card_facts(folder: Path, repo: str, section: ModelsParams, licence: str | None) -> CardFacts:
    """What is known of a trained folder.

    A folder's own name and those of its images are not in it: they are nobody else's business.
    """
    described, parts = read_json(folder / DESCRIPTION), _parts(folder)
    keys = section.model_dump(include={"clip", "vision"}, exclude_none=True)
    profile = resolve_profile(section.profile, keys)
    inputs, workspace = parts.get("inputs", {}), _workspace(folder)
    names = described.get("trained_classes", [])
    synonyms = [tuple(one) for one in described.get("synonyms", [])]
    found = licences(section, published_licence(profile.vision.name))
    if licence:
        found["head"] = licence
    return CardFacts(
        repo=repo,
        models=section,
        encoders={
            "vision encoder": profile.vision.name,
            "CLIP": " ".join(part for part in (profile.clip.name, profile.clip.pretrained) if part),
        },
        head=read_json(folder / CONFIG),
        input_short_side_px=described["input_short_side_px"],
        temperature=described.get("temperature"),
        vocabulary=Vocabulary(tuple(names), tuple(synonyms)) if names else None,
        labels=described.get("labels"),
        images=_images(inputs) if inputs else None,
        corrections=sum(name.startswith(_CORRECTED) for name in inputs),
        data=_data(workspace),
        training={
            name: parts["params"][name] for name in _TRAINING if name in parts.get("params", {})
        },
        scores=() if workspace is None else _scores(workspace, file_sha(folder / WEIGHTS)),
        licences=found,
        lineage={
            "weights": file_sha(folder / WEIGHTS),
            "training inputs": sha_of(inputs) if inputs else None,
            "manifest": file_sha(folder / MANIFEST) if (folder / MANIFEST).is_file() else None,
        },
        version=version("fmbseg"),
        licence=licence,
        limits=limits() if section.profile == "miniature" else (),
    )


def _parts(folder: Path) -> dict[str, Any]:
    """`inputs` and `params` of the training; empty where no manifest tells."""
    if not (folder / MANIFEST).is_file():
        return {}
    found = read_json(folder / MANIFEST).get("parts", {})
    return dict(found) if "inputs" in found else {}


def _workspace(folder: Path) -> Workspace | None:
    """The workspace whose models/train the folder is; None for any other folder."""
    real = folder.resolve()
    root = real.parent.parent
    if (real.parent.name, real.name) != ("models", "train"):
        return None
    try:
        return Workspace.open(root) if (root / "params.yaml").is_file() else None
    except ParamsError:  # of another version: the model is whole all the same
        return None


def _scores(workspace: Workspace, weights_sha: str) -> tuple[dict[str, Any], ...]:
    """The metrics of every evaluation of these very weights, as the evaluations' manifests say."""
    found = []
    for file in sorted(workspace.evaluate.glob("*/metrics.json")):
        try:
            made_from = read_json(file.with_name(MANIFEST))["parts"]["inputs"].get("train")
        except (StoreError, KeyError, TypeError, AttributeError):
            continue
        metrics = read_json(file)
        if made_from == weights_sha and "iou" in metrics:
            found.append(dict(metrics))
    return tuple(found)


def _images(inputs: Mapping[str, str]) -> int:
    named = {"classes", "init_from", "download"}
    return sum(name not in named and not name.startswith(_NO_IMAGES) for name in inputs)


def _data(workspace: Workspace | None) -> str:
    if workspace is None:
        return "Where its images are from was not written down."
    if workspace.data_set == "miniature":
        return (
            "Drawn pictures of the miniature world that FMbSeg ships: six stuff textures and ten "
            "things. It knows nothing else."
        )
    return "A folder of images of its maker's own, which are not published here."
