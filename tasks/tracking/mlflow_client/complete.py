"""Log the state of a workspace to MLflow from the files that its steps left."""

import contextlib
import logging
from collections.abc import Mapping

from mlflow.exceptions import MlflowException

from fmbseg.methods.table import METHODS
from fmbseg.steps import figures
from fmbseg.steps.workspace import Workspace
from fmbseg.store import read_json, sha_of
from fmbseg.store.names import markdown_text
from tasks.tracking import facts, promotion
from tasks.tracking.changes import changes
from tasks.tracking.mlflow_client import data_sets, methods, model, registry, runs
from tasks.tracking.mlflow_client.store import (
    RetryingClient,
    completion_lock,
    experiment_id,
    store_uri,
)
from tasks.tracking.mlflow_client.system import log_system

STATE = "key.state"
"""Tag of a run: hash of all its units' keys and of the registered model's name."""
MODEL = "registered_model"
"""Tag of a run: the registered model that its version belongs to."""
_log = logging.getLogger(__name__)


def log_state(root: str) -> str:
    """Complete the run of the training, or log one, with all that the steps left.

    A state that was logged before (same unit keys, same registered model) is not logged twice.

    Returns:
        The MLflow run's id.
    """
    workspace = Workspace.open(root)
    uri = store_uri(workspace)
    with completion_lock(workspace.root, uri):
        client = RetryingClient(uri)
        experiment = experiment_id(client, workspace)
        keys = facts.unit_keys(workspace)
        state = sha_of([keys, registry.registered_model(client, workspace)])[:16]
        train_key = facts.unit_key(workspace.train)
        begun = runs.unfinished_runs(client, experiment, workspace, train_key)
        finished = f"tags.`{STATE}` = '{state}' and attributes.status = 'FINISHED'"
        logged = client.search_runs([experiment], finished)
        if logged:
            for again in begun:  # the same bytes were trained once more
                client.set_tag(again.info.run_id, "same_as", logged[0].info.run_id)
                client.set_terminated(again.info.run_id)
                client.delete_run(again.info.run_id)
            runs.log_facts(client, logged[0].info.run_id, runs.experiment_tags(), {})
            _log_late_exports(client, workspace, logged[0].data.tags)
            return str(logged[0].info.run_id)
        if begun:
            run = str(begun[0].info.run_id)
        else:
            run = runs.create_run(client, experiment, workspace, train_key)
        try:
            _complete(client, experiment, workspace, run, keys, state)
        except BaseException:
            with contextlib.suppress(Exception):
                client.set_terminated(run, "FAILED")
            raise
        client.set_terminated(run, "FINISHED")
        return run


def _log_late_exports(
    client: RetryingClient, workspace: Workspace, tags: Mapping[str, str]
) -> None:
    """Log exports that were made after their model's run was complete."""
    if facts.exports_of(workspace) and "model_version" in tags:
        try:
            version = client.get_model_version(tags[MODEL], tags["model_version"])
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":  # somebody deleted it
                raise
        else:
            model.log_exports(client, workspace, version)


def _complete(
    client: RetryingClient,
    experiment: str,
    workspace: Workspace,
    run: str,
    keys: dict[str, str],
    state: str,
) -> None:
    params, tags = facts.flat_params(workspace), facts.tags(workspace, keys)
    tags |= {STATE: state, MODEL: registry.registered_model(client, workspace)}
    tags["mlflow.source.git.commit"] = tags["key.git_commit"]
    tags["changed"] = _changed(client, experiment, run, tags, params)
    words = {name: value for name, value in tags.items() if not name.startswith("key.")}
    runs.log_facts(client, run, words, params)
    data_sets.log_training_set(client, workspace, run)
    results = facts.results(workspace)
    data_sets.log_evaluation_sets(client, workspace, run, results)
    history = read_json(workspace.train / "history.json")
    runs.log_points(client, run, history, runs.last_step(client, run))
    curve = workspace.train / "validation.json"
    runs.log_validation(client, run, read_json(curve) if curve.is_file() else [])
    version = model.log_model(client, workspace, experiment, run)
    model.log_exports(client, workspace, version)
    trained = [name for name, method in METHODS.items() if method.trained]
    runs.log_figures(client, workspace, run, dict.fromkeys(trained, model.model_id(version)))
    runs.log_files(client, workspace, run, keys)
    for result in results:
        methods.log_method(client, workspace, experiment, run, result)
    scores = promotion.that_count(
        [
            promotion.score_of(result.figures, facts.scored_contents(workspace, result))
            for result in results
            if result.figures["method"] == workspace.params.tracking.primary_method
        ]
    )
    registry.describe(client, workspace, version, scores)
    decision = registry.promote(client, workspace, version, scores[0] if scores else None)
    word, why = "moved" if decision.promoted else "kept", decision.reason
    _log.info("champion: %s; %s", word, why)
    outcome = {"champion": word, "champion_reason": why, "model_version": str(version.version)}
    said = [f"Model version {version.version} of {tags[MODEL]}. Champion {word}: {why}."]
    if never := figures.never_found(workspace).words():
        outcome["never_found"] = never
        said.append(f"{never}.")
    said.append(f"Changed {tags['changed']}.")
    note = "\n\n".join([figures.markdown_table(workspace), *map(markdown_text, said)])
    hashes = {name: value for name, value in tags.items() if name not in words}
    runs.log_facts(client, run, {**outcome, runs.NOTE: note, **hashes}, {})
    log_system(client, workspace, run)
    if decision.promoted:
        registry.fetch_champion(str(workspace.root))


def _changed(
    client: RetryingClient, experiment: str, run: str, tags: dict[str, str], params: dict[str, str]
) -> str:
    """In what the run differs from the newest finished one of the same registered model."""
    finished = f"tags.{MODEL} = '{tags[MODEL]}' and attributes.status = 'FINISHED'"
    newest = client.search_runs([experiment], finished, order_by=["attributes.end_time DESC"])
    before = next((one for one in newest if one.info.run_id != run), None)
    if before is None:
        return f"the first run of {tags[MODEL]}"
    found = changes(before.data.params, before.data.tags, params, tags)
    return f"since {before.info.run_name}: {found}"
