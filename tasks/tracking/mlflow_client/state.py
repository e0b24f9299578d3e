"""Log the state of a workspace to MLflow from the files that its steps left."""

import contextlib
import logging

from fmbseg.steps import figures
from fmbseg.steps.workspace import Workspace
from fmbseg.store import read_json, sha_of
from fmbseg.store.names import markdown_text
from tasks.tracking import facts, promotion
from tasks.tracking.changes import MODEL, changed
from tasks.tracking.mlflow_client import model
from tasks.tracking.mlflow_client import run as content
from tasks.tracking.mlflow_client.champion import fetch_champion
from tasks.tracking.mlflow_client.live import begun_runs, create_run, experiment_tags
from tasks.tracking.mlflow_client.names import registered_model
from tasks.tracking.mlflow_client.store import (
    PatientClient,
    experiment_id,
    one_at_a_time,
    store_uri,
)
from tasks.tracking.mlflow_client.system import log_system

STATE = "key.state"
"""Tag of a run: hash of all its units' keys and of the registered model's name."""
_log = logging.getLogger(__name__)


def log_state(root: str) -> str:
    """Complete the run of the training, or log one, with all that the steps left.

    A state that was logged before (same unit keys, same registered model) is not logged twice.

    Returns:
        The MLflow run's id.
    """
    workspace = Workspace.open(root)
    uri = store_uri(workspace)
    with one_at_a_time(workspace.root, uri):
        client = PatientClient(uri)
        experiment = experiment_id(client, workspace)
        keys = facts.unit_keys(workspace)
        state = sha_of([keys, registered_model(client, workspace)])[:16]
        train_key = facts.unit_key(workspace.train)
        begun = begun_runs(client, experiment, workspace, train_key)
        finished = f"tags.`{STATE}` = '{state}' and attributes.status = 'FINISHED'"
        logged = client.search_runs([experiment], finished)
        if logged:
            for again in begun:  # the same bytes were trained once more
                client.set_tag(again.info.run_id, "same_as", logged[0].info.run_id)
                client.set_terminated(again.info.run_id)
                client.delete_run(again.info.run_id)
            facts.log_facts(client, logged[0].info.run_id, experiment_tags(), {})
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


def _complete(
    client: PatientClient,
    experiment: str,
    workspace: Workspace,
    run: str,
    keys: dict[str, str],
    state: str,
) -> None:
    params, marks = facts.flat_params(workspace), facts.tags(workspace, keys)
    marks |= {STATE: state, MODEL: registered_model(client, workspace)}
    marks["changed"] = changed(client, experiment, run, marks, params)
    words = {name: value for name, value in marks.items() if not name.startswith("key.")}
    facts.log_facts(client, run, words, params)
    facts.log_data_set(client, workspace, run)
    history = read_json(workspace.train / "history.json")
    content.log_points(client, run, history, content.last_step(client, run))
    curve = workspace.train / "validation.json"
    content.log_validation(client, run, read_json(curve) if curve.is_file() else [])
    version = model.log_model(client, workspace, experiment, run)
    found = facts.results(workspace)
    primary = workspace.params.tracking.primary_method
    content.log_figures(client, workspace, run, {"fmbseg": model.model_id(version)})
    dead = figures.never_found(workspace)
    content.log_files(client, workspace, run, keys, dead)
    for result in found:
        content.log_method(client, experiment, run, result)
    scores = [
        promotion.figure_of(workspace, result)
        for result in found
        if result.figures["method"] == primary
    ]
    promotion.describe(client, workspace, version, scores)
    moved, why = promotion.promote(client, workspace, version, scores[0] if scores else None)
    word = "moved" if moved else "kept"
    _log.info("champion: %s; %s", word, why)
    outcome = {"champion": word, "champion_reason": why, "model_version": str(version.version)}
    said = [f"Model version {version.version} of {marks[MODEL]}. Champion {word}: {why}."]
    if dead.classes:
        outcome["never_found"] = dead.words()
        said.append(f"{dead.words()}.")
    said.append(f"Changed {marks['changed']}.")
    note = "\n\n".join([figures.markdown_table(workspace), *map(markdown_text, said)])
    hashes = {name: value for name, value in marks.items() if name not in words}
    facts.log_facts(client, run, {**outcome, facts.NOTE: note, **hashes}, {})
    log_system(client, workspace, run)
    if moved:
        fetch_champion(str(workspace.root))
