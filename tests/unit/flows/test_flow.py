import re
from pathlib import Path

import pytest
import yaml
from mlflow import MlflowClient
from prefect import get_client
from prefect.artifacts import Artifact

from fmbseg.steps.workspace import Workspace

pytestmark = [pytest.mark.weights, pytest.mark.slow]


def task_states() -> dict[str, str]:
    """Task run name to state name of the newest flow run."""
    with get_client(sync_client=True) as client:
        flow_run = client.read_flow_runs(sort="START_TIME_DESC", limit=1)[0]
        assert flow_run.state is not None
        found = client.read_task_runs(limit=200)
    mine = [run for run in found if run.flow_run_id == flow_run.id]
    return {re.sub("-[0-9a-f]{3}$", "", run.name): str(run.state.name) for run in mine}


def test_the_flow_runs_then_every_step_is_cached_and_mlflow_holds_its_figures(
    prefect_server, dvc_site: None, small_workspace: Path, monkeypatch: pytest.MonkeyPatch
):
    from flows.pipeline import fmbseg

    monkeypatch.chdir(small_workspace)
    assert fmbseg.name == "fmbseg"
    page = Path(fmbseg("."))
    assert page.is_file()
    first = task_states()
    assert set(first.values()) == {"Completed"}
    assert {"download miniature", "subsample", "train", "report"} <= set(first)
    assert len([name for name in first if name.startswith("pseudo_masks")]) == 3

    fmbseg(".")
    second = task_states()
    uncached = {name: second.pop(name) for name in ("version", "track", "summarise")}
    assert set(uncached.values()) == {"Completed"}
    assert set(second.values()) == {"Cached"}, second

    workspace = Workspace.open(small_workspace)
    (workspace.train / "alignment.safetensors").unlink()
    for record in Path(".prefect-results").iterdir():  # as a cut of power leaves them
        record.write_bytes(bytes(record.stat().st_size))
    fmbseg(".")
    third = task_states()
    assert third["train"] == "Completed"
    assert third["download miniature"] == "Cached"
    assert third["subsample"] == "Cached"

    client = MlflowClient(tracking_uri=workspace.params.tracking.uri)
    experiment = client.get_experiment_by_name("fmbseg")
    runs = client.search_runs([experiment.experiment_id])
    parents = [run for run in runs if "mlflow.parentRunId" not in run.data.tags]
    assert len(parents) == 1, "one run a state, cached or not"
    parent = parents[0]
    losses = client.get_metric_history(parent.info.run_id, "loss")
    assert len(losses) >= 2
    assert "miou.fmbseg.miniature" in parent.data.metrics
    assert parent.data.metrics["system/process_memory_megabytes"] > 50
    shown = str(Artifact.get("report").data)
    assert f"/runs/{parent.info.run_id}/artifacts/report/index.html" in shown
    assert parent.info.run_id in str(Artifact.get("figures").data)
    assert parent.data.params["train.epochs"] == "2"
    nested = {r.data.params["method"] for r in runs if "mlflow.parentRunId" in r.data.tags}
    methods = yaml.safe_load((small_workspace / "params.yaml").read_text())["evaluate"]["methods"]
    assert nested == set(methods)
    child = next(r for r in runs if r.data.params.get("method") == "fmbseg")
    names = {a.path for a in client.list_artifacts(child.info.run_id)}
    assert {"iou_per_class.json", "confusion.json", "examples", "protocol.json"} <= names
