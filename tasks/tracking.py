"""MLflow: the task `track` at the end of a run, the log of a training that runs, the champion.

All of it reads the steps' files, so a run holds the same whether steps ran, were cached, or were
made by DVC. Only this file's neighbours `tracking_*.py` and `segmenter_model.py` import mlflow.
"""

import contextlib
import logging
import threading
from typing import Any

from prefect import task
from prefect.cache_policies import NO_CACHE

from fmbseg.params import redact
from fmbseg.steps import figures
from fmbseg.steps.workspace import Workspace
from fmbseg.store import read_json, sha_of
from tasks import tracking_champion as champions
from tasks import tracking_facts as facts
from tasks import tracking_model as model
from tasks import tracking_run as content
from tasks.tracking_live import begun_runs, create_run, training_log
from tasks.tracking_store import PatientClient, experiment_id, is_momentary, one_at_a_time

__all__ = ["connect_early", "fetch_champion", "track", "training_log"]
_log = logging.getLogger(__name__)


def _store_was_busy(task: Any, task_run: Any, state: Any) -> bool:
    """Prefect asks whether to try again: only where waiting can help."""
    try:
        state.result()
    except Exception as error:
        return is_momentary(error)
    return False


@task(
    name="track",
    cache_policy=NO_CACHE,
    retries=3,
    retry_delay_seconds=[2, 10, 60],
    retry_condition_fn=_store_was_busy,
)
def track(root: str) -> str:
    """Complete the run of the training, or log one, with all that the steps left.

    A state that was logged before (same unit keys) is not logged twice.

    Returns:
        The MLflow run's id.
    """
    workspace = Workspace.open(root)
    tracking = workspace.params.tracking
    with one_at_a_time(workspace.root, tracking.uri):
        client = PatientClient(tracking.uri)
        experiment = experiment_id(client, tracking)
        keys = facts.unit_keys(workspace)
        state, train_key = sha_of(keys)[:16], facts.unit_key(workspace.train)
        begun = begun_runs(client, experiment, workspace, train_key)
        finished = f"tags.state = '{state}' and attributes.status = 'FINISHED'"
        logged = client.search_runs([experiment], finished)
        if logged:
            for again in begun:  # the same bytes were trained once more
                client.set_tag(again.info.run_id, "same_as", logged[0].info.run_id)
                client.set_terminated(again.info.run_id)
                client.delete_run(again.info.run_id)
            return str(logged[0].info.run_id)
        if begun:
            run = str(begun[0].info.run_id)
        else:
            run = create_run(client, experiment, workspace, train_key)
        try:
            _complete(client, experiment, workspace, run, keys, state)
        except BaseException:
            with contextlib.suppress(Exception):
                client.set_terminated(run, "FAILED")
            raise
        client.set_terminated(run, "FINISHED")
        return run


def connect_early(root: str) -> None:
    """Connect in the background: a new database takes seconds, which stage 1 leaves free.

    Whoever needs the store then finds it open, or meets the error that is kept quiet here.
    """
    uri = Workspace.open(root).params.tracking.uri

    def connect() -> None:
        with contextlib.suppress(Exception):
            PatientClient(uri, waits_s=())

    threading.Thread(target=connect, name="connect to MLflow", daemon=True).start()


def fetch_champion(root: str) -> str | None:
    """Put the registry's champion into models/champion/ when training is to start from it.

    Returns:
        The folder; None when `train.init_from` is not `champion` or there is none to fetch. What
        was fetched before then stays as it is.
    """
    workspace = Workspace.open(root)
    if workspace.params.train.init_from != "champion":
        return None
    try:
        client = PatientClient(workspace.params.tracking.uri)
        folder = champions.download_champion(client, workspace)
    except Exception as error:
        _log.warning("train.init_from: the champion was not fetched: %s", redact(str(error)))
        return None
    if folder is None:
        _log.warning("train.init_from: the registry has no champion yet")
    return str(folder) if folder else None


def _complete(
    client: PatientClient,
    experiment: str,
    workspace: Workspace,
    run: str,
    keys: dict[str, str],
    state: str,
) -> None:
    marks = facts.tags(workspace, keys)
    facts.log_facts(client, run, {**marks, "state": state}, facts.flat_params(workspace))
    facts.log_data_set(client, workspace, run)
    history = read_json(workspace.train / "history.json")
    content.log_points(client, run, history, content.last_step(client, run))
    version = model.log_model(client, workspace, experiment, run)
    found = facts.results(workspace)
    primary = workspace.params.tracking.primary_method
    content.log_figures(client, workspace, run, {"fmbseg": model.model_id(version)})
    content.log_files(client, workspace, run, keys)
    for result in found:
        content.log_method(client, experiment, run, result)
    scores = [
        champions.figure_of(workspace, result)
        for result in found
        if result.figures["method"] == primary
    ]
    champions.describe(client, workspace, version, scores)
    moved, why = champions.crown(client, workspace, version, scores[0] if scores else None)
    word = "moved" if moved else "kept"
    _log.info("champion: %s; %s", word, why)
    outcome_words = f"Model version {version.version}. Champion {word}: {why}."
    note = f"{figures.markdown_table(workspace)}\n\n{outcome_words}"
    outcome = {"champion": word, "champion_reason": why, "model_version": str(version.version)}
    facts.log_facts(client, run, {**outcome, "mlflow.note.content": note}, {})
    if moved:
        fetch_champion(str(workspace.root))
