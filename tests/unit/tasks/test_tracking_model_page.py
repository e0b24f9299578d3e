"""What a version's page in MLflow shows: signature, example, card, and exports of the model."""

import json
import shutil
from pathlib import Path

import mlflow.models
import pytest

from fmbseg.align.settings import WEIGHTS
from fmbseg.steps.export_model import note_export
from fmbseg.steps.workspace import Workspace
from fmbseg.store import UnitKey, file_sha, run_unit
from tasks.tracking import track
from tasks.tracking.model_card import cut_card
from tests.support.tracked_workspaces import (
    Copy,
    client_of,
    parents,
    read_artifact,
)


def exported(folder: Path, weights_sha: str, content: bytes = b"onnx") -> None:
    """As `fmbseg export-model` leaves a folder."""

    def write(out: Path) -> None:
        (out / "words").mkdir()
        (out / "model.onnx").write_bytes(content)
        (out / "words" / "classes.json").write_text("[]")

    shutil.rmtree(folder, ignore_errors=True)
    run_unit(folder, UnitKey(inputs={WEIGHTS: weights_sha, "content": content.decode()}), write)


@pytest.mark.weights
@pytest.mark.slow
def test_a_models_page_has_signature_example_card_and_its_exports(copy: Copy, tmp_path: Path):
    root = copy("a")
    weights = file_sha(Workspace.open(root).train / WEIGHTS)
    exported(root / "exports" / "onnx", weights)
    exported(root / "exports" / "of-another", "0" * 64)
    (root / "exports" / "coco").mkdir()
    (root / "exports" / "coco" / "manifest.json").write_text("no JSON")
    run_id = track.fn(str(root))
    client = client_of(root)
    (version,) = client.search_model_versions("name = 'fmbseg-miniature'")
    model = client.get_logged_model(version.tags["model_id"])
    card = model.tags["mlflow.note.content"]
    for part in ("# fmbseg-miniature", "models:/fmbseg-miniature@champion", "## What it is not",
                 "IoU of each class", "## Licences"):  # fmt: skip
        assert part in card
    assert card in version.description
    assert str(root) not in card, "folders of this machine are nobody's business"
    assert model.params["train.epochs"] == "2"
    registered = json.loads(model.tags["mlflow.modelVersions"])
    assert registered == [{"name": "fmbseg-miniature", "version": 1}]

    def files(folder: str) -> set[str]:
        found = client.list_logged_model_artifacts(model.model_id, folder)
        return {Path(one.path).name for one in found}

    assert {"MLmodel", "MODEL_CARD.md", "input_example.json", "export"} <= files("")
    stored = Path(model.artifact_location.removeprefix("file://"))
    described = mlflow.models.Model.load(str(stored))
    assert described.signature.inputs.input_names() == ["image"]
    assert "classes" in {one.name for one in described.signature.params}
    assert files("export") == {"onnx"}
    assert files("export/onnx") == {"model.onnx", "words", "manifest.json"}
    assert files("export/onnx/words") == {"classes.json"}

    exported(root / "exports" / "int8", weights)
    for place in (tmp_path / "street", tmp_path / "elsewhere" / "onnx", tmp_path / "gone"):
        exported(place, weights)
        note_export(root / "models" / "train", place)
    shutil.rmtree(tmp_path / "gone")
    exported(root / "exports" / "onnx", weights, b"newer")
    assert track.fn(str(root)) == run_id, "the state was logged before"
    assert len(parents(client)) == 1
    exports = files("export")
    assert {"onnx", "int8", "street"} < exports, "what was exported later is added to the model"
    (twice,) = exports - {"onnx", "int8", "street"}
    assert twice.startswith("onnx-"), "two folders of one name"
    newer = stored / "export" / "onnx" / "model.onnx"
    assert newer.read_bytes() == b"newer"
    newer.unlink()
    track.fn(str(root))
    assert not newer.exists(), "an export that was logged is not logged again"
    assert read_artifact(client, run_id, "units.json", tmp_path / "1").is_file()


def test_a_long_card_ends_with_a_whole_line_and_says_where_the_rest_is():
    lines = "".join(f"line {number}\n" for number in range(2000))
    cut = cut_card(lines)
    assert len(cut) <= 5000
    kept, _, ending = cut.rpartition("\n\n")
    assert "MODEL_CARD.md" in ending
    assert lines.startswith(f"{kept}\n")
    assert cut_card("short\n") == "short\n"
