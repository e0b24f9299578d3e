"""When the alias `champion` moves to another version of a registered model."""

from dataclasses import dataclass
from importlib.metadata import version as package_version
from pathlib import Path
from typing import Any

from fmbseg.params import redact
from fmbseg.steps import evaluate
from fmbseg.steps.download import scan
from fmbseg.steps.workspace import Workspace
from fmbseg.store import file_sha, read_json, sha_of
from tasks.tracking.facts import Result, fingerprint
from tasks.tracking.mlflow_client.champion import CHAMPION, champion
from tasks.tracking.mlflow_client.store import PatientClient, store_uri

_NOW = " Champion now: "
"""Begins the part of a registered model's description that changes with its champion."""


@dataclass(frozen=True)
class Figure:
    """An mIoU and what another must share to be compared with it.

    Attributes:
        miou: 0 to 1.
        tag: names method, data set, split, protocol and, for a folder, what was scored.
        words: the same for people.
    """

    miou: float
    tag: str
    words: str


def figure_of(workspace: Workspace, result: Result) -> Figure:
    """A method's mIoU with its terms of comparison.

    Of the user's own images the contents count: those of the scored images, of their labels and
    of the class file.
    """
    f = result.figures
    scored = "" if f["data_set"] != "folder" else sha_of(_scored(workspace, result))[:8]
    terms = (f["method"], f["data_set"], f["split"], f["protocol_hash"], scored)
    words = f"{f['method']} on {f['data_set']} {f['split']}, protocol {f['protocol_hash']}"
    words += f", images and labels {scored}" if scored else ""
    return Figure(f["miou"], ".".join(["miou", *(t for t in terms if t)]), words)


def _scored(workspace: Workspace, result: Result) -> dict[str, Any]:
    data, images = workspace.params.data, workspace.listing().images
    names = [one["image"] for one in read_json(result.folder / evaluate.IMAGE_SCORES)]
    return {
        "images": {name: images.get(name) for name in names},
        "labels": scan(Path(str(data.labels))).images,
        "ignore_label": data.ignore_label,
        "classes": file_sha(workspace.classes_path()),
    }


def describe(
    client: PatientClient, workspace: Workspace, version: Any, figures: list[Figure]
) -> None:
    """Give the version its figures: as a description, and as tags to compare by."""
    images = len(workspace.listing().images)
    scores = [f"mIoU {figure.miou:.4f} ({figure.words})" for figure in figures]
    text = (
        f"{'; '.join(scores) or 'no mIoU: no labels were given'}. Trained on {images} images of "
        f"{workspace.name} (fingerprint {fingerprint(workspace)}) without labels. "
        f"Needs fmbseg {package_version('fmbseg')} installed."
    )
    client.update_model_version(version.name, version.version, description=text)
    for figure in figures:
        client.set_model_version_tag(version.name, version.version, figure.tag, str(figure.miou))


def promote(
    client: PatientClient, workspace: Workspace, version: Any, figure: Figure | None
) -> tuple[bool, str]:
    """Move the alias `champion` to the version if it is better, or if nothing can be compared.

    The mIoU must exceed the champion's under the same terms by `tracking.champion_margin`. Where
    the two have no terms in common (no labels yet, other data, another protocol), the newer one
    takes the place, except that a version without any mIoU never replaces one that has one.

    Args:
        client: of the store.
        workspace: whose `tracking` holds the margin.
        version: the candidate, with its figures as tags.
        figure: of the primary method; None when there is none.

    Returns:
        Whether the alias moved, and why or why not.
    """
    number = version.version
    if workspace.params.train.labels == "truth":
        return False, f"version {number} was trained on labels (train.labels: truth)"
    mine = f"version {number} has no mIoU of the method {workspace.params.tracking.primary_method}"
    if figure is not None:
        mine = f"version {number} has mIoU {figure.miou:.4f} ({figure.words})"
    now = champion(client, version.name)
    if now is not None and now.version == number:
        return False, f"{mine} and is the champion already"
    margin = workspace.params.tracking.champion_margin
    better, why = _compare(client.get_model_version(version.name, number), figure, now, margin)
    why = f"{mine}; {why}"
    if better:
        client.set_registered_model_alias(version.name, CHAMPION, number)
        _tell_reason(client, version, why)
        return True, why
    return False, (
        f"{why}; to move the alias by hand: MlflowClient(tracking_uri="
        f"'{redact(store_uri(workspace))}').set_registered_model_alias('{version.name}', "
        f"'{CHAMPION}', {number})"
    )


def _compare(
    version: Any, figure: Figure | None, now: Any | None, margin: float
) -> tuple[bool, str]:
    """Whether the version is to take the champion's place, and why."""
    if now is None:
        return True, "there was no champion"
    mine, theirs = _figures(version), _figures(now)
    shared = sorted(mine.keys() & theirs.keys())
    if figure is not None and figure.tag in shared:
        shared = [figure.tag]
    if shared:
        tag = min(shared, key=lambda one: mine[one] - theirs[one])
        gain = mine[tag] - theirs[tag]
        rest = f"champion version {now.version} has {theirs[tag]:.4f}"
        if figure is None or tag != figure.tag:
            rest += f", this one {mine[tag]:.4f}, as {tag}"
        if gain > margin:
            return True, f"better by more than noise ({margin:g}): the former {rest}"
        if gain >= -margin:
            return False, f"not better than noise ({margin:g}): {rest}"
        return False, f"not better: {rest}"
    if theirs and not mine:
        return False, f"not comparable: champion version {now.version} has one, as {min(theirs)}"
    if mine and theirs:
        return True, (
            f"not comparable with the former champion version {now.version}, scored as "
            f"{min(theirs)} (this one as {min(mine)}), so the newest complete run is the champion"
        )
    return True, (
        f"the former champion version {now.version} has none: until there is one to compare, the "
        "newest complete run is the champion"
    )


def _figures(version: Any) -> dict[str, float]:
    """A version's mIoUs by their terms."""
    return {tag: float(value) for tag, value in version.tags.items() if tag.startswith("miou.")}


def _tell_reason(client: PatientClient, version: Any, why: str) -> None:
    """Say at the version and at its registered model why it is the champion."""
    client.set_model_version_tag(version.name, version.version, "champion_reason", why)
    about = client.get_registered_model(version.name).description or ""
    text = f"{about.partition(_NOW)[0]}{_NOW}{why}."
    client.update_registered_model(version.name, description=text)
