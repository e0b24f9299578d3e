"""In what a run differs from the run before it of the same registered model, in words."""

import json
from typing import Any

from tasks.tracking.facts import UNITS
from tasks.tracking.mlflow_client.store import PatientClient

MODEL = "registered_model"
"""Tag of a run: the registered model that its version belongs to."""
_MOST = 25
_LONGEST = 80


def changed(
    client: PatientClient,
    experiment: str,
    run: str,
    tags: dict[str, str],
    params: dict[str, str],
) -> str:
    """What differs from the run before: parameters, images, labels, classes, code, packages.

    Args:
        client: of the store.
        experiment: its id.
        run: the run that is described.
        tags: of the run.
        params: of the run.
    """
    finished = f"tags.{MODEL} = '{tags[MODEL]}' and attributes.status = 'FINISHED'"
    newest = client.search_runs([experiment], finished, order_by=["attributes.end_time DESC"])
    before = next((one for one in newest if one.info.run_id != run), None)
    if before is None:
        return f"the first run of {tags[MODEL]}"
    found = [*_params(before, params), *_sources(before, tags)]
    if not found:
        found = [_units(before, tags)]
    more = f"; and {len(found) - _MOST} more" if len(found) > _MOST else ""
    return f"since {before.info.run_name}: {'; '.join(found[:_MOST])}{more}"


def _params(before: Any, params: dict[str, str]) -> list[str]:
    old = before.data.params
    names = [*params, *(name for name in old if name not in params)]
    return [
        f"{name} {_short(old.get(name, 'absent'))} → {_short(params.get(name, 'absent'))}"
        for name in names
        if old.get(name) != params.get(name)
    ]


def _sources(before: Any, tags: dict[str, str]) -> list[str]:
    old, found = before.data.tags, []
    if old.get("key.images") != tags["key.images"]:
        counts = (old.get("images"), tags["images"])
        same = f"{counts[0]} with other names or contents"
        found.append(f"images {same if counts[0] == counts[1] else ' → '.join(map(str, counts))}")
    for name, words in (("classes", "other class file"), ("labels", "other labels")):
        if old.get(f"key.{name}") != tags.get(f"key.{name}"):
            found.append(words)
    for name in ("code", "packages"):
        if old.get(name) != tags[name]:
            found.append(f"{name} {old.get(name, 'unknown')} → {tags[name]}")
    return found


def _units(before: Any, tags: dict[str, str]) -> str:
    """Units that were made anew though nothing that is listed differs."""
    old, new = before.data.tags.get(UNITS), tags[UNITS]
    if old == new:
        return "nothing"
    try:
        known = json.loads(old or "{}")
    except ValueError:  # cut, being too long for a tag
        known = {}
    anew = sorted(name for name, key in json.loads(new).items() if known.get(name) != key)
    return f"none of parameters, images, code and packages, yet made anew: {', '.join(anew)}"


def _short(value: str) -> str:
    return value if len(value) <= _LONGEST else f"{value[:_LONGEST]}…"
