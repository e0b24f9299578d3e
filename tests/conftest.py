"""Offline, single-threaded, shapes checked."""

import os
import signal
import sys

# The tests start some hundred processes, of which each would compile all that it imports.
os.environ["PYTHONDONTWRITEBYTECODE"] = ""
os.environ["FMBSEG_OFFLINE"] = "1"
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TRANSFORMERS_OFFLINE"] = "1"
os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
os.environ["DO_NOT_TRACK"] = "true"
os.environ["PREFECT_SERVER_ANALYTICS_ENABLED"] = "false"
os.environ["PREFECT_LOGGING_LEVEL"] = "WARNING"
os.environ["PREFECT_SERVER_LOGGING_LEVEL"] = "CRITICAL"

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jaxtyping
import pytest
import torch
import yaml

from tests.support import shape_checks
from tests.support.shared_folder import shared_folder

sys.dont_write_bytecode = False
shape_checks.install()
REPOSITORY = Path(__file__).parents[1]
torch.set_num_threads(1)
# A shell's background jobs ignore Ctrl-C, and so would all processes that tests start.
signal.signal(signal.SIGINT, signal.default_int_handler)

SMALL: dict[str, dict[str, Any]] = {
    "data": {"train_images": 12, "val_images": 2, "test_images": 6, "shard_images": 5},
    "pseudo_masks": {"points_per_side": 6},
    "train": {"epochs": 2, "save_every_seconds": 0.0},
    "evaluate": {"examples": 1},
    "report": {"gallery_images": 2},
}


_LONGEST = ("test_serve.py", "test_dvc.py")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest files first, so that processes which share the files end at one time."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: (item.path.name not in _LONGEST, item.path not in slow))


@pytest.fixture
def unchecked() -> Iterator[None]:
    """Calls of the library whose arguments nobody checks, as users' calls are."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.fixture
def small_workspace(tmp_path: Path) -> Path:
    """A workspace whose params.yaml is the repository's, made small enough for seconds."""
    params = yaml.safe_load((REPOSITORY / "params.yaml").read_text())
    for section, values in SMALL.items():
        params[section] |= values
    params["tracking"]["uri"] = f"sqlite:///{tmp_path}/mlflow.db"
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(params))
    return tmp_path


@pytest.fixture(scope="session")
def small_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of `SMALL` in a folder that no test may change."""
    from fmbseg.steps.plan import STEPS, run_step
    from fmbseg.steps.workspace import Workspace

    def make(root: Path) -> None:
        params = yaml.safe_load((REPOSITORY / "params.yaml").read_text())
        for section, values in SMALL.items():
            params[section] |= values
        (root / "params.yaml").write_text(yaml.safe_dump(params))
        for step in STEPS:
            run_step(Workspace.open(root), step)

    return shared_folder(tmp_path_factory, "small_run", make)


@pytest.fixture(scope="session")
def prefect_server() -> Iterator[None]:
    """A Prefect server of the tests' own, for flows that run in this process."""
    from prefect.testing.utilities import prefect_test_harness

    with prefect_test_harness(server_startup_timeout=600):
        yield


@pytest.fixture
def dvc_site(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """What DVC keeps outside a repository lies below pytest's folder."""
    monkeypatch.setenv("DVC_SITE_CACHE_DIR", str(tmp_path_factory.getbasetemp() / "dvc-site"))
