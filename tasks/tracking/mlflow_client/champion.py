"""The alias `champion`: the version that holds it, and how a training gets its weights."""

import logging
import shutil
import tempfile
from pathlib import Path
from typing import Any

import mlflow.artifacts
from mlflow.exceptions import MlflowException

from fmbseg.align.head import CONFIG, WEIGHTS
from fmbseg.params import redact
from fmbseg.segmenter import DESCRIPTION
from fmbseg.steps.train import champion_folder
from fmbseg.steps.workspace import Workspace
from fmbseg.store import UnitKey, run_unit
from tasks.tracking.mlflow_client.names import registered_model
from tasks.tracking.mlflow_client.store import PatientClient, store_uri

CHAMPION = "champion"
_log = logging.getLogger(__name__)


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
        client = PatientClient(store_uri(workspace))
        folder = download_champion(client, workspace)
    except Exception as error:
        _log.warning("train.init_from: the champion was not fetched: %s", redact(str(error)))
        return None
    if folder is None:
        _log.warning("train.init_from: the registry has no champion yet")
    return str(folder) if folder else None


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
    version = champion(client, registered_model(client, workspace))
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
