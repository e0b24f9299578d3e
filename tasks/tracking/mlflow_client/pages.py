"""The page of MLflow that shows the comparison that matters, and the server that shows it."""

import json
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mlflow.exceptions import MlflowException

from fmbseg.steps.workspace import Workspace
from tasks.tracking.mlflow_client.complete import MODEL
from tasks.tracking.mlflow_client.registry import holder
from tasks.tracking.mlflow_client.store import RetryingClient, store_uri
from tasks.tracking.promotion import CHALLENGER, CHAMPION


@dataclass(frozen=True)
class OpeningPage:
    """Where to look first.

    Attributes:
        fragment: of the address of MLflow's pages, from `#/` on.
        shows: what is seen there, in words.
    """

    fragment: str
    shows: str


def opening_page(workspace: Workspace) -> OpeningPage:
    """The champion beside the challenger, or what comes nearest to that.

    Of the registered model of the newest finished run: where it has no two aliases, its last two
    runs; where there is one run, that one; without any, the list of experiments.
    """
    client, name = RetryingClient(store_uri(workspace)), workspace.params.tracking.experiment
    found = client.get_experiment_by_name(name)
    if found is None:
        return OpeningPage("#/experiments", "no run yet: `make run` makes one")
    experiment = str(found.experiment_id)
    newest = _runs(client, experiment, f"tags.{MODEL} != ''")
    if not newest:
        return OpeningPage(f"#/experiments/{experiment}/runs", "no finished run yet")
    model = newest[0].data.tags[MODEL]
    aliases = {alias: holder(client, model, alias) for alias in (CHAMPION, CHALLENGER)}
    ids = {str(one.run_id) for one in aliases.values() if one and _is_there(client, one.run_id)}
    if len(ids) == 2:
        named = [f"{alias} (version {one.version})" for alias, one in aliases.items() if one]
        pair = [str(one.run_id) for one in aliases.values() if one]
        return OpeningPage(_compared(experiment, pair), f"{model}: {' beside '.join(named)}")
    last = _runs(client, experiment, f"tags.{MODEL} = '{model}'")[:2]
    runs = [str(one.info.run_id) for one in last]
    if len(runs) == 2:
        return OpeningPage(_compared(experiment, runs), f"{model}: the last two runs")
    return OpeningPage(f"#/experiments/{experiment}/runs/{runs[0]}", f"{model}: the only run")


def server_of(uri: str, port: int) -> tuple[list[str], Mapping[str, str]]:
    """The command that serves the pages of a database on loopback, and its environment."""
    command = [
        sys.executable, "-m", "mlflow", "ui", "--host", "127.0.0.1", "--port", str(port),
        "--workers", "1", "--backend-store-uri", uri,
    ]  # fmt: skip
    return command, {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}


def _runs(client: RetryingClient, experiment: str, wanted: str) -> list[Any]:
    """Finished runs of the pipeline, the newest first."""
    finished = f"{wanted} and attributes.status = 'FINISHED'"
    order = ["attributes.end_time DESC"]
    return list(client.search_runs([experiment], finished, order_by=order, max_results=50))


def _is_there(client: RetryingClient, run: str | None) -> bool:
    """Whether a version's run is there: versions made by hand have none, runs can be deleted."""
    try:
        return bool(run) and client.get_run(run).info.lifecycle_stage == "active"
    except MlflowException as error:
        if error.error_code == "RESOURCE_DOES_NOT_EXIST":
            return False
        raise


def _compared(experiment: str, ids: list[str]) -> str:
    return f"#/compare-runs?runs={_packed(ids)}&experiments={_packed([experiment])}"


def _packed(values: list[str]) -> str:
    """A list as MLflow's addresses have it."""
    return json.dumps(values, separators=(",", ":")).replace('"', "%22")
