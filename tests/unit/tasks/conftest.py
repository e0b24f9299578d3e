"""Databases of MLflow for the tests of tracking; making one takes seconds, a copy none."""

import shutil
from pathlib import Path

import pytest

from tasks.tracking.mlflow_client.store import RetryingClient
from tests.support.shared_folder import shared_folder
from tests.support.tracked_workspaces import Copy, copies, new_database


@pytest.fixture(scope="session")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of an empty database, which nobody writes to."""
    return shared_folder(tmp_path_factory, "mlflow", new_database)


@pytest.fixture
def copy(small_run: Path, database: Path, tmp_path: Path) -> Copy:
    """Makes copies of a finished run, which share a database of the test's own."""
    return copies(small_run, database, tmp_path)


@pytest.fixture(scope="module")
def store(database: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Address of a database for all tests of a file, which take names of their own."""
    folder = tmp_path_factory.mktemp("store")
    shutil.copyfile(database / "mlflow.db", folder / "mlflow.db")
    return f"sqlite:///{folder}/mlflow.db"


@pytest.fixture(scope="module")
def client(store: str) -> RetryingClient:
    return RetryingClient(store)
