"""A trained model named by its place in MLflow's registry."""

from pathlib import Path

import pytest
from mlflow import MlflowClient

from fmbseg.commands.model_source import model_source, registry_uri
from fmbseg.errors import UserError
from fmbseg.store import file_sha
from tests.support.shared_folder import shared_folder
from tests.support.tracked_workspaces import new_database
from tests.support.trained_folder import trained_folder


def test_a_folder_is_itself(tmp_path: Path):
    with model_source(tmp_path) as source:
        assert source == (tmp_path, None)


@pytest.mark.slow
def test_an_alias_is_fetched_for_as_long_as_it_is_used(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
):
    database = shared_folder(tmp_path_factory, "mlflow", new_database) / "mlflow.db"
    (tmp_path / "mlflow.db").write_bytes(database.read_bytes())
    trained = trained_folder(tmp_path / "model" / "artifacts" / "train")
    (tmp_path / "model" / "MLmodel").write_text("flavors: {}\n")
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    client = MlflowClient(tracking_uri=uri, registry_uri=uri)
    client.create_registered_model("fmbseg-street")
    for _ in range(2):
        version = client.create_model_version("fmbseg-street", str(tmp_path / "model"))
    client.set_registered_model_alias("fmbseg-street", "champion", version.version)
    inside = tmp_path / "runs" / "street"
    inside.mkdir(parents=True)
    monkeypatch.chdir(inside)  # the database is the checkout's
    with model_source("models:/fmbseg-street@champion") as source:
        assert source.registered == "fmbseg-street/2"
        for file in trained.iterdir():
            assert file_sha(source.folder / file.name) == file_sha(file)
    assert not source.folder.exists()
    with (
        pytest.raises(UserError, match="models:/fmbseg-street@nobody: not fetched from sqlite"),
        model_source("models:/fmbseg-street@nobody"),
    ):
        pass


def test_a_database_that_is_not_there_is_not_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    for name in ("FMBSEG_TRACKING_URI", "MLFLOW_TRACKING_URI"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(UserError, match=r"found no MLflow database .*mlflow\.db; go to the folder"):
        registry_uri()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:5000")
    assert registry_uri() == "http://127.0.0.1:5000"
    monkeypatch.setenv("FMBSEG_TRACKING_URI", "http://127.0.0.1:6000")
    assert registry_uri() == "http://127.0.0.1:6000"
    assert not list(tmp_path.iterdir())
