"""The notebooks run from nothing, and show what they are about."""

import base64
from pathlib import Path

import pytest

from scripts.make_notebooks import NOTEBOOKS, executed, require_clean

pytest.importorskip("nbclient", reason="pip install 'fmbseg[notebooks]' (`make e2e` does)")
pytest.importorskip("ipykernel", reason="pip install 'fmbseg[notebooks]' (`make e2e` does)")
pytestmark = [pytest.mark.weights, pytest.mark.slow, pytest.mark.e2e]


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("path", sorted(NOTEBOOKS.glob("*.ipynb")), ids=lambda path: path.stem)
def test_a_notebook_runs_from_nothing_and_shows_predictions(path: Path, tmp_path: Path):
    before = path.read_bytes()
    notebook = executed(path, tmp_path)
    assert path.read_bytes() == before
    require_clean(notebook, path.name)
    shown = [output for cell in notebook.cells for output in cell.get("outputs", ())]
    predictions = [one.data for one in shown if "text/html" in one.get("data", {})]
    assert predictions
    for data in predictions:
        assert "<figure" in data["text/html"]
        assert base64.b64decode(data["image/png"]).startswith(b"\x89PNG")
        assert data["text/plain"].startswith("Prediction of 128 x 128 px: ")
