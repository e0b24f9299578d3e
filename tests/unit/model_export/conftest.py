"""One trained folder and one export of it for all tests of exported models."""

from pathlib import Path
from typing import Any

import onnx
import pytest

from fmbseg.model_export import write
from fmbseg.model_export.graph import features_graph
from fmbseg.model_export.write import ModelExport
from fmbseg.runtime import Runner
from fmbseg.steps.export_model import run_into
from fmbseg.vocabulary import Vocabulary
from tests.support.shared_folder import shared_folder
from tests.support.trained_folder import trained_folder

BLOCKS, TEXT_DIM = 4, 128
"""Of the miniature's vision encoder, and of its CLIP."""
WORDS = Vocabulary.of(["sky", ["grass", "lawn"], "water", "road", "car", "house"])


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return shared_folder(tmp_path_factory, "export_trained", trained_folder)


@pytest.fixture(scope="session")
def exports(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What is traced once for all tests: the unit `open/`, and `features.onnx` that it is made of.

    The classes are left open, which holds all that the other kind holds.
    """

    def make(folder: Path) -> None:
        def kept(*arguments: Any, **options: Any) -> onnx.ModelProto:
            model = features_graph(*arguments, **options)
            onnx.save(model, folder / "features.onnx")
            return model

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(write, "features_graph", kept)
            assert run_into(trained, WORDS, ModelExport(words_are_open=True), folder / "open")

    return shared_folder(tmp_path_factory, "exports", make)


@pytest.fixture(scope="session")
def exported(exports: Path) -> Path:
    return exports / "open"


@pytest.fixture(scope="session")
def traced(exports: Path) -> onnx.ModelProto:
    """The graph of the features as the exporter wrote it."""
    return onnx.load(exports / "features.onnx")


@pytest.fixture(scope="session")
def runner(exported) -> Runner:
    return Runner(exported / "model.onnx", exported / "words.npz", threads=1)
