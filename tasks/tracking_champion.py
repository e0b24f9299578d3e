"""The alias `champion`: which version holds it, when it moves, and how a training gets it."""

import shutil
import tempfile
from dataclasses import dataclass
from importlib.metadata import version as package_version
from pathlib import Path
from typing import Any

import mlflow.artifacts
from mlflow.exceptions import MlflowException

from fmbseg.align.head import CONFIG, WEIGHTS
from fmbseg.params import redact
from fmbseg.segmenter import DESCRIPTION
from fmbseg.steps.train import champion_folder
from fmbseg.steps.workspace import Workspace
from fmbseg.store import UnitKey, run_unit, sha_of
from tasks.tracking_facts import Result, fingerprint
from tasks.tracking_store import PatientClient

CHAMPION = "champion"


@dataclass(frozen=True)
class Figure:
    """An mIoU and what another must share to be compared with it.

    Attributes:
        miou: 0 to 1.
        tag: names method, data set, split, protocol and, for a folder, which one.
        words: the same for people.
    """

    miou: float
    tag: str
    words: str


def figure_of(workspace: Workspace, result: Result) -> Figure:
    """A method's mIoU with its terms of comparison."""
    f = result.figures
    data = workspace.params.data
    places = [str(Path(place).resolve()) for place in (data.images, str(data.labels))]
    source = "" if workspace.data_set == "miniature" else sha_of(places)[:8]
    terms = (f["method"], f["data_set"], f["split"], f["protocol_hash"], source)
    words = f"{f['method']} on {f['data_set']} {f['split']}, protocol {f['protocol_hash']}"
    return Figure(f["miou"], ".".join(["miou", *(t for t in terms if t)]), words)


def describe(
    client: PatientClient, workspace: Workspace, version: Any, figures: list[Figure]
) -> None:
    """Give the version its figures: as a description, and as tags to compare by."""
    images = len(workspace.listing().images)
    scores = [f"mIoU {figure.miou:.4f} ({figure.words})" for figure in figures]
    text = (
        f"{'; '.join(scores) or 'no mIoU: no labels were given'}. Trained on {images} images of "
        f"{workspace.data_set} (fingerprint {fingerprint(workspace)}) without labels. "
        f"Needs fmbseg {package_version('fmbseg')} installed."
    )
    client.update_model_version(version.name, version.version, description=text)
    for figure in figures:
        client.set_model_version_tag(version.name, version.version, figure.tag, str(figure.miou))


def crown(
    client: PatientClient, workspace: Workspace, version: Any, figure: Figure | None
) -> tuple[bool, str]:
    """Move the alias `champion` to the version if its figure is strictly better.

    Args:
        client: of the store.
        workspace: whose `tracking` names the registered model.
        version: the candidate.
        figure: of the primary method; None when there is none.

    Returns:
        Whether the alias moved, and why or why not.
    """
    tracking = workspace.params.tracking
    name = tracking.registered_model
    by_hand = (
        "; to move the alias by hand: MlflowClient(tracking_uri="
        f"'{redact(tracking.uri)}').set_registered_model_alias('{name}', '{CHAMPION}', "
        f"{version.version})"
    )
    if workspace.params.train.labels == "truth":
        return False, f"version {version.version} was trained on labels (train.labels: truth)"
    reign = champion(client, name)
    if figure is None:
        return False, (
            f"version {version.version} has no mIoU of the method {tracking.primary_method} (no "
            f"labels, or not in evaluate.methods), so nothing can be compared{by_hand}"
        )
    mine = f"version {version.version} has mIoU {figure.miou:.4f}"
    if reign is None:
        client.set_registered_model_alias(name, CHAMPION, version.version)
        return True, f"{mine} ({figure.words}); there was no champion"
    if reign.version == version.version:
        return False, f"{mine} ({figure.words}) and is the champion already"
    if figure.tag not in reign.tags:
        terms = sorted(tag for tag in reign.tags if tag.startswith("miou."))
        return False, (
            f"{mine} ({figure.tag}); not comparable with champion version {reign.version}, which "
            f"was scored as {', '.join(terms) or 'nothing'}{by_hand}"
        )
    theirs = float(reign.tags[figure.tag])
    rest = f"champion version {reign.version} has {theirs:.4f} ({figure.words})"
    if figure.miou > theirs:
        client.set_registered_model_alias(name, CHAMPION, version.version)
        return True, f"{mine}; the former {rest}"
    return False, f"{mine}; not better: {rest}"


def champion(client: PatientClient, name: str) -> Any | None:
    """The version that holds the alias, or None."""
    try:
        return client.get_model_version_by_alias(name, CHAMPION)
    except MlflowException as error:
        if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            return None
        raise


def download_champion(client: PatientClient, workspace: Workspace) -> Path | None:
    """Put the champion's trained folder in place, whole or not at all.

    Returns:
        Its folder; None when nothing holds the alias.
    """
    tracking = workspace.params.tracking
    version = champion(client, tracking.registered_model)
    if version is None:
        return None
    uri = str(client.get_model_version_download_uri(version.name, version.version))

    def compute(out: Path) -> None:
        with tempfile.TemporaryDirectory() as folder:
            found = mlflow.artifacts.download_artifacts(
                artifact_uri=uri, dst_path=folder, tracking_uri=tracking.uri
            )
            weights = next(Path(found).rglob(WEIGHTS))
            for file in weights.parent.iterdir():
                if file.name in (WEIGHTS, CONFIG, DESCRIPTION):
                    shutil.copyfile(file, out / file.name)

    folder = champion_folder(workspace)
    source = {"name": version.name, "version": str(version.version), "source": uri}
    run_unit(folder, UnitKey(inputs=source), compute)
    return folder
