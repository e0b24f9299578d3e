"""One trained folder and one export of it for all tests of exported models."""

from pathlib import Path

import pytest

from fmbseg.model_export.write import ModelExport
from fmbseg.steps.export_model import run_into
from fmbseg.vocabulary import Vocabulary
from tests.support.shared_folder import shared_folder
from tests.support.trained_folder import trained_folder

WORDS = Vocabulary.of(["sky", ["grass", "lawn"], "water", "road", "car", "house"])


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return shared_folder(tmp_path_factory, "export_trained", trained_folder)


@pytest.fixture(scope="session")
def exported(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With the classes left open, which holds all that the other kind holds."""

    def make(folder: Path) -> None:
        assert run_into(trained, WORDS, ModelExport(words_are_open=True), folder / "open")

    return shared_folder(tmp_path_factory, "export_open", make) / "open"
