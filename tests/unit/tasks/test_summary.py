"""What Prefect's pages show at the end of a run."""

from pathlib import Path
from typing import Any

import pytest

from fmbseg.steps import evaluate
from fmbseg.steps.workspace import Workspace
from fmbseg.store import read_json, write_json
from tasks import summary
from tasks.tracking import track
from tasks.tracking.mlflow_client import links as tracking_links
from tests.support.shared_folder import shared_folder
from tests.support.tracked_workspaces import Copy, client_of, copies, new_database, set_params
from tests.unit.tasks.test_tracking_text import HOSTILE

pytestmark = [pytest.mark.weights, pytest.mark.slow]
NAME = "<b>x</b>|`y` [z](http://evil.example) \u202e*"


@pytest.fixture
def copy(small_run: Path, tmp_path_factory: pytest.TempPathFactory, tmp_path: Path) -> Copy:
    return copies(small_run, shared_folder(tmp_path_factory, "mlflow", new_database), tmp_path)


@pytest.fixture
def artifacts(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Key of what was handed to Prefect to its content and description."""
    made: dict[str, Any] = {}

    def keep(content: Any, *, key: str, **more: str) -> None:
        made[key] = {"content": content, **more}

    for kind in ("markdown", "table", "link"):
        monkeypatch.setattr(summary, f"create_{kind}_artifact", keep)
    return made


def test_prefect_links_the_copy_of_the_report_that_mlflow_serves(
    copy: Copy, artifacts: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    root = copy("a")
    monkeypatch.chdir(tmp_path)  # whose mlflow.db `make mlflow` serves
    run = client_of(root).get_run(track.fn(str(root))).info
    summary.summarise.fn(str(root), run.run_id)
    page = f"http://127.0.0.1:5000/#/experiments/{run.experiment_id}/runs/{run.run_id}"
    report = artifacts["report"]
    assert report["content"] == f"{page}/artifacts/report/index.html"
    assert "make mlflow" in report["link_text"]
    assert "make mlflow" in report["description"]
    assert f"[`{run.run_id}`]({page})" in artifacts["figures"]["content"]
    assert "file://" not in str(artifacts)
    assert [a.path for a in client_of(root).list_artifacts(run.run_id, "report")] == [
        "report/index.html"
    ]


def test_an_address_of_mlflows_pages_follows_the_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    server = tracking_links._server
    assert server(f"sqlite:///{tmp_path}/mlflow.db") == ("http://127.0.0.1:5000", "make mlflow")
    address, first = server("sqlite:////else where/a.db")
    assert address == "http://127.0.0.1:5000"
    assert first == "mlflow ui --backend-store-uri 'sqlite:////else where/a.db'"
    assert server("https://me:hidden@mlflow.example/base/?token=1") == (
        "https://mlflow.example/base", ""
    )  # fmt: skip
    assert server("postgresql://me:hidden@host/db")[1].endswith("'postgresql://***@host/db'")
    assert server("databricks") == (None, "")


def test_never_found_classes_are_a_warning_in_prefect(
    copy: Copy, artifacts: dict[str, Any], tmp_path: Path
):
    root = copy("a")
    run = track.fn(str(root))
    classes = root / "data" / "download" / "miniature" / "classes.txt"
    classes.write_text(classes.read_text() + "walrus\n")
    summary.summarise.fn(str(root), run)
    assert (
        "**Warning:** 1 of 15 classes was never found in 12 images: walrus; try synonyms."
        in artifacts["figures"]["content"]
    )


def test_hostile_class_names_and_parameters_are_text_in_prefect_and_mlflow(
    copy: Copy, artifacts: dict[str, Any]
):
    root = copy("a")
    workspace = Workspace.open(root)
    for folder in (workspace.evaluate / unit for unit in evaluate.scored(workspace)):
        found = read_json(folder / "metrics.json")
        others = dict.fromkeys((*HOSTILE, "a/b", "a:b"), 0.5)
        write_json(folder / "metrics.json", found | {"iou": {NAME: 0.0, **others}})
        write_json(folder / "confusion.json", [[1] * (len(others) + 2)] * (len(others) + 1))
    classes = root / "data" / "download" / "miniature" / "classes.txt"
    dead = NAME.replace("\u202e", "")  # which a class file may not hold
    classes.write_text(classes.read_text().replace("cat\n", f"{dead}\n"))
    template = "a <script>{}</script>\u202e\n|`"
    workspace = set_params(root, models={"template": template})
    run = track.fn(str(root))
    client = client_of(root)
    logged = client.get_run(run)
    assert logged.data.params["models.template"] == "a <script>{}</script>\\u202e\\n|`"
    summary.summarise.fn(str(root), run)
    for text in (logged.data.tags["mlflow.note.content"], artifacts["figures"]["content"]):
        assert "&#60;b&#62;x&#60;/b&#62;&#124;&#96;y&#96; &#91;z&#93;(http&#58;//evil" in text
        assert not any(mark in text for mark in ("<b>", "](http://evil", "\u202e", "|`y`"))
        assert len({line.count("|") for line in text.splitlines() if line[:1] == "|"}) == 1
    assert dead in logged.data.tags["never_found"]
    assert "\u202e" not in str(logged.data.tags)
    (nested, *_) = client.search_runs(
        [logged.info.experiment_id], f"tags.mlflow.parentRunId = '{run}'"
    )
    ious = {name for name in nested.data.metrics if name.startswith("iou.")}
    assert len(ious) == len(HOSTILE) + 3, "no name overwrites another's figure"


def test_the_table_has_protocol_and_seed_of_every_figure(artifacts: dict[str, Any], copy):
    root = copy("table")
    summary.summarise.fn(str(root), track.fn(str(root)))
    rows = artifacts["miou"]["content"]
    workspace = Workspace.open(root)
    assert [row["method"] for row in rows] == list(workspace.params.evaluate.methods)
    for row, unit in zip(rows, evaluate.scored(workspace), strict=True):
        found = read_json(workspace.evaluate / unit / "metrics.json")
        assert row["mIoU"] == pytest.approx(found["miou"], abs=1e-4)
        assert (row["protocol"], row["seed"]) == (found["protocol_hash"], found["seed"])
