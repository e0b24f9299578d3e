import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from flows import run
from flows.finished import nothing_to_do, remember

pytestmark = [pytest.mark.weights, pytest.mark.slow]


@pytest.fixture
def ended(small_run: Path, tmp_path: Path) -> Path:
    """A workspace whose last run did all there is to do."""
    root = Path(shutil.copytree(small_run, tmp_path / "run"))
    (root / "mlflow.db").write_bytes(b"a database")
    (root / "dvc.lock").write_text("a lock")
    remember(str(root), root / "mlflow.db")
    return root


def test_a_run_with_nothing_to_do_ends_without_a_server(
    ended: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    def no_server():
        raise AssertionError("a server was started")

    monkeypatch.setattr(run, "answering", lambda: None)
    monkeypatch.setattr(run, "own_server", no_server)
    monkeypatch.setattr(sys, "argv", ["python -m flows.run", "--workspace", str(ended)])
    assert run.main() == 0
    said = capsys.readouterr().out
    assert "nothing to do" in said
    assert "| `fmbseg` | miniature |" in said
    assert str(Path("reports") / "report" / "index.html") in said


def edit_params(root: Path) -> None:
    params = yaml.safe_load((root / "params.yaml").read_text())
    params["seed"] = params["seed"] + 1
    (root / "params.yaml").write_text(yaml.safe_dump(params))


@pytest.mark.parametrize(
    "change",
    [
        edit_params,
        lambda root: (root / "mlflow.db").unlink(),
        lambda root: (root / "dvc.lock").write_text("another lock"),
        lambda root: (root / "models/train/alignment.safetensors").write_bytes(b""),
        lambda root: shutil.rmtree(root / "reports/report"),
        lambda root: (root / ".scratch/finished.json").write_text("{"),
    ],
)
def test_whatever_changed_since_the_last_run_is_something_to_do(
    ended: Path, change: Callable[[Path], object]
):
    assert nothing_to_do(ended)
    change(ended)
    assert not nothing_to_do(ended)


def test_a_run_that_left_outputs_out_of_date_is_not_remembered(small_run: Path, tmp_path: Path):
    root = Path(shutil.copytree(small_run, tmp_path / "run"))
    shutil.rmtree(root / "reports/report")
    remember(str(root), None)
    assert not nothing_to_do(root)
