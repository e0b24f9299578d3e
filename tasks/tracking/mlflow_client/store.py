"""The MLflow store: connecting to it, retrying while it is busy, and where its files lie."""

import logging
import os
import random
import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

# Must stand before mlflow is imported. `with_retries` tries a server again that is away.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("DO_NOT_TRACK", "true")
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "30")

from filelock import FileLock
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from sqlalchemy.engine import make_url
from sqlalchemy.exc import OperationalError

from fmbseg.steps.workspace import Workspace
from tasks.tracking.facts import outside_experiment

Result = TypeVar("Result")
WAITS_S = (0.2, 0.5, 1.0, 2.0, 4.0)
_DATABASES = ("sqlite", "postgresql", "mysql", "mssql")
_TRANSIENT = ("TEMPORARILY_UNAVAILABLE", "REQUEST_LIMIT_EXCEEDED", "INTERNAL_ERROR")
logging.getLogger("mlflow").setLevel(logging.WARNING)
# It prints a whole trace for a locked database, which is retried here and reported if it stays.
logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)


def store_uri(workspace: Workspace) -> str:
    """Address of the MLflow store: FMBSEG_TRACKING_URI where it is set, else `tracking.uri`.

    A database file without a folder lies where `make mlflow` looks for it, whichever workspace or
    copy of the checkout a command runs in: see `home_of`.
    """
    uri = os.environ.get("FMBSEG_TRACKING_URI") or workspace.params.tracking.uri
    file = make_url(uri).database if uri.startswith("sqlite") else None
    if file is None or Path(file).is_absolute():
        return uri
    place = make_url(uri).set(database=str(home_of(Path.cwd()) / file))
    return place.render_as_string(hide_password=False)


def store_file(root: str) -> Path | None:
    """The database file of a workspace's runs; None where MLflow is a server."""
    return _database_file(store_uri(Workspace.open(root)))


def home_of(folder: Path) -> Path:
    """The checkout that a folder is, or is a workspace of, or is a copy of.

    Workspaces of one's own images lie below `runs/`; copies: see `outside_experiment`.
    """
    found = outside_experiment(folder)
    return found.parent.parent if found.parent.name == "runs" else found


def is_transient(error: BaseException) -> bool:
    """Whether the store was only busy or away: a locked database, a server that does not answer."""
    if isinstance(error, MlflowException):
        return error.error_code in _TRANSIENT
    return isinstance(error, OperationalError)


def with_retries(call: Callable[[], Result], waits_s: Sequence[float] = WAITS_S) -> Result:
    """Call, and call again after each wait (give or take half of it) while the store is busy.

    Raises:
        Exception: at once when it is another error, else the last one.
    """
    for wait_s in waits_s:
        try:
            return call()
        except (MlflowException, OperationalError) as error:
            if not is_transient(error):
                raise
            time.sleep(wait_s * random.uniform(0.5, 1.5))
    return call()


class RetryingClient:
    """An `MlflowClient` that calls every method again while the store is busy."""

    def __init__(self, uri: str, waits_s: Sequence[float] = WAITS_S) -> None:
        """Connect; a database is made or brought up to date when it needs to be."""
        self._waits_s = waits_s
        self._client = with_retries(lambda: _connect(uri), self._waits_s)

    def __getattr__(self, name: str) -> Callable[..., Any]:
        method = getattr(self._client, name)
        return lambda *args, **named: with_retries(lambda: method(*args, **named), self._waits_s)


def connect(uri: str) -> None:
    """Make the database, or bring it up to date, so that whoever comes next finds it ready."""
    RetryingClient(uri, waits_s=())


def experiment_id(client: RetryingClient, workspace: Workspace) -> str:
    """Id of the experiment of params.yaml, which is made, or restored, when it has to be."""
    name = workspace.params.tracking.experiment
    found = client.get_experiment_by_name(name)
    if found is None:
        folder = artifact_folder(store_uri(workspace))
        location = folder.as_uri() if folder else None
        try:
            return str(client.create_experiment(name, artifact_location=location))
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":  # another run was faster
                raise
            found = client.get_experiment_by_name(name)
    if found.lifecycle_stage == "deleted":
        client.restore_experiment(found.experiment_id)
    return str(found.experiment_id)


def artifact_folder(uri: str) -> Path | None:
    """`mlartifacts/` beside a database file (of other databases: here); None for a server.

    A server keeps artifacts where it was told to.
    """
    if not uri.startswith(_DATABASES):
        return None
    file = _database_file(uri)
    return (file.parent if file else Path.cwd()) / "mlartifacts"


def completion_lock(root: Path, uri: str) -> FileLock:
    """Let one process at a time complete a run: all with the same database file, or workspace."""
    return FileLock((artifact_folder(uri) or root / ".scratch") / ".lock")


def _connect(uri: str) -> MlflowClient:
    """Connect, to a database file one process at a time.

    MLflow makes a new database in many steps: two processes at it, or one that is killed, leave a
    file that no later run can use. So it is made under another name and renamed.
    """
    file = _database_file(uri)
    if file is None:
        return MlflowClient(tracking_uri=uri, registry_uri=uri)
    folder = file.parent / "mlartifacts"
    with FileLock(folder / ".connect.lock"):
        if not file.is_file() or file.stat().st_size == 0:
            for left in folder.glob(".fresh-*"):
                shutil.rmtree(left)
            with tempfile.TemporaryDirectory(prefix=".fresh-", dir=folder) as place:
                fresh = Path(place) / file.name
                fresh_uri = make_url(uri).set(database=str(fresh)).render_as_string(False)
                MlflowClient(tracking_uri=fresh_uri, registry_uri=fresh_uri)
                os.replace(fresh, file)
        return MlflowClient(tracking_uri=uri, registry_uri=uri)


def _database_file(uri: str) -> Path | None:
    if not uri.startswith("sqlite"):
        return None
    return Path(make_url(uri).database or "mlflow.db").resolve()
