"""The registry of models: where a version is registered, promoted, and fetched to train from."""

import logging
import shutil
import tempfile
from dataclasses import replace
from importlib.metadata import version as package_version
from pathlib import Path
from typing import Any

import mlflow.artifacts
from mlflow.exceptions import MlflowException

from fmbseg.align.settings import CONFIG, DESCRIPTION, WEIGHTS
from fmbseg.methods.table import METHODS
from fmbseg.params import redact
from fmbseg.steps import evaluate
from fmbseg.steps.corrections import CORRECTIONS, Corrections
from fmbseg.steps.train import champion_folder
from fmbseg.steps.workspace import Workspace
from fmbseg.store import UnitKey, run_unit
from tasks.tracking import promotion
from tasks.tracking.facts import fingerprint, images_folder
from tasks.tracking.mlflow_client.store import RetryingClient, store_uri
from tasks.tracking.promotion import CHALLENGER, CHAMPION, Decision, Score, Version

IMAGES = "images"
"""Tag of a registered model: which images its versions were trained on."""
_ABOUT = (
    "Open-vocabulary segmenter, trained without labels on the images of {images}. The alias "
    "`champion` is the version to serve: the one with the best mIoU, or the newest as long as no "
    "two can be compared. `challenger` is the version to hold against it: the last one that lost "
    "to it, or that it took the place of."
)
_NOW = " Champion now: "
"""Begins the part of a registered model's description that changes with its champion."""
_log = logging.getLogger(__name__)


def registered_model(client: RetryingClient, workspace: Workspace) -> str:
    """The name of the workspace's registered model, whether or not it is there yet."""
    return promotion.model_name(workspace, lambda name: _images_of(client, name))


def register(client: RetryingClient, workspace: Workspace) -> str:
    """Make the registered model where there is none yet.

    Returns:
        Its name.
    """
    name, images = registered_model(client, workspace), images_folder(workspace)
    try:
        client.create_registered_model(
            name, tags={IMAGES: images}, description=_ABOUT.format(images=images)
        )
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
        if _images_of(client, name) is None:  # made by hand
            client.set_registered_model_tag(name, IMAGES, images)
    if registered_model(client, workspace) == name:
        return name
    return register(client, workspace)  # another folder of that name was faster


def holder(client: RetryingClient, name: str, alias: str = CHAMPION) -> Any | None:
    """The version that holds an alias, or None."""
    try:
        return client.get_model_version_by_alias(name, alias)
    except MlflowException as error:
        if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            return None
        raise


def describe(
    client: RetryingClient, workspace: Workspace, version: Any, scores: list[Score]
) -> None:
    """Give the version its scores: as a description with the card, and as tags to compare by."""
    from tasks.tracking.model_card import cut_card, model_card  # brings what describes models

    images, corrected = len(workspace.listing().images), len(Corrections.of(workspace).trained)
    how = f"{corrected} of them put right by people" if corrected else "without labels"
    words = [f"mIoU {score.miou:.4f} ({score.words})" for score in scores]
    text = (
        f"{'; '.join(words) or 'no mIoU: no labels were given'}. Trained on {images} images of "
        f"{workspace.name} (fingerprint {fingerprint(workspace)}) {how}. "
        f"Needs fmbseg {package_version('fmbseg')} installed."
    )
    text = cut_card(f"{text}\n\n{model_card(workspace, version.name)}")
    client.update_model_version(version.name, version.version, description=text)
    for score in scores:
        client.set_model_version_tag(version.name, version.version, score.tag, str(score.miou))


def promote(
    client: RetryingClient, workspace: Workspace, version: Any, score: Score | None
) -> Decision:
    """Move the aliases as the policy says, and say why where people look.

    Args:
        client: of the store.
        workspace: whose parameters rule.
        version: the candidate, with its scores as tags.
        score: of the primary method; None when there is none.
    """
    name, number = version.name, version.version
    now = holder(client, name)
    if score is not None and now is not None and str(now.version) != str(number):
        now = _scored_likewise(client, workspace, now, score)
    candidate = _judged(client.get_model_version(name, number))
    found = promotion.decide(candidate, score, now and _judged(now), workspace)
    if found.promoted:
        client.set_registered_model_alias(name, CHAMPION, number)
        client.set_model_version_tag(name, number, "champion_reason", found.reason)
        about = (client.get_registered_model(name).description or "").partition(_NOW)[0]
        client.update_registered_model(name, description=f"{about}{_NOW}{found.reason}.")
    if found.challenger is not None:
        client.set_registered_model_alias(name, CHALLENGER, found.challenger)
    elif found.promoted and _number(holder(client, name, CHALLENGER)) == str(number):
        client.delete_registered_model_alias(name, CHALLENGER)
    if not found.open_to_people:
        return found
    return replace(found, reason=(
        f"{found.reason}; to move the alias by hand: MlflowClient(tracking_uri="
        f"'{redact(store_uri(workspace))}').set_registered_model_alias('{name}', "
        f"'{CHAMPION}', {number})"
    ))  # fmt: skip


def _scored_likewise(client: RetryingClient, workspace: Workspace, now: Any, score: Score) -> Any:
    """The champion, scored on today's held-out corrections where it was scored on fewer of them."""
    if score.data_set != CORRECTIONS or score.tag in now.tags:
        return now
    try:
        folder = download_champion(client, workspace)
        method = workspace.params.tracking.primary_method
        if folder is None or not METHODS[method].trained:
            return now
        miou = evaluate.miou_of(workspace, folder, method, CORRECTIONS)
    except (OSError, ValueError, KeyError, MlflowException) as error:
        _log.warning("champion: not scored on today's corrections: %s", redact(str(error)))
        return now
    if miou is None:
        _log.warning("champion: trained for other models, so not scored on today's corrections")
        return now
    client.set_model_version_tag(now.name, now.version, score.tag, str(miou))
    return client.get_model_version(now.name, now.version)


def fetch_champion(root: str) -> str | None:
    """Put the registry's champion into models/champion/ when training is to start from it.

    Returns:
        The folder; None when `train.init_from` is not `champion` or there is none to fetch. What
        was fetched before then stays as it is.
    """
    workspace = Workspace.open(root)
    if workspace.params.train.init_from != "champion":
        return None
    try:
        client = RetryingClient(store_uri(workspace))
        folder = download_champion(client, workspace)
    except Exception as error:
        _log.warning("train.init_from: the champion was not fetched: %s", redact(str(error)))
        return None
    if folder is None:
        _log.warning("train.init_from: the registry has no champion yet")
    return str(folder) if folder else None


def download_champion(client: RetryingClient, workspace: Workspace) -> Path | None:
    """Put the champion's trained folder in place, whole or not at all.

    Returns:
        Its folder; None when nothing holds the alias.
    """
    version = holder(client, registered_model(client, workspace))
    if version is None:
        return None
    uri = str(client.get_model_version_download_uri(version.name, version.version))

    def compute(out: Path) -> None:
        with tempfile.TemporaryDirectory() as folder:
            found = mlflow.artifacts.download_artifacts(
                artifact_uri=uri, dst_path=folder, tracking_uri=store_uri(workspace)
            )
            weights = next(Path(found).rglob(WEIGHTS))
            for file in weights.parent.iterdir():
                if file.name in (WEIGHTS, CONFIG, DESCRIPTION):
                    shutil.copyfile(file, out / file.name)

    folder = champion_folder(workspace)
    source = {"name": version.name, "version": str(version.version), "source": uri}
    run_unit(folder, UnitKey(inputs=source), compute)
    return folder


def _number(version: Any | None) -> str | None:
    return None if version is None else str(version.version)


def _judged(version: Any) -> Version:
    tags = version.tags.items()
    scores = {tag: float(value) for tag, value in tags if tag.startswith(promotion.TERMS)}
    return Version(str(version.version), scores)


def _images_of(client: RetryingClient, name: str) -> str | None:
    try:
        found = client.get_registered_model(name).tags.get(IMAGES)
    except MlflowException as error:
        if error.error_code == "RESOURCE_DOES_NOT_EXIST":
            return None
        raise
    return None if found is None else str(found)
