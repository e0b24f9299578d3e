"""In what a run differs from the run before it of the same registered model, in words."""

import json
from collections.abc import Mapping

from tasks.tracking.facts import UNITS

_MOST = 25
_LONGEST = 80
Texts = Mapping[str, str]


def changes(old_params: Texts, old_tags: Texts, params: Texts, tags: Texts) -> str:
    """What differs from the run before: parameters, images, labels, classes, code, packages."""
    found = [*_params(old_params, params), *_sources(old_tags, tags)]
    if not found:
        found = [_units(old_tags, tags)]
    more = f"; and {len(found) - _MOST} more" if len(found) > _MOST else ""
    return f"{'; '.join(found[:_MOST])}{more}"


def _params(old: Texts, params: Texts) -> list[str]:
    names = [*params, *(name for name in old if name not in params)]
    return [
        f"{name} {_short(old.get(name, 'absent'))} → {_short(params.get(name, 'absent'))}"
        for name in names
        if old.get(name) != params.get(name)
    ]


def _sources(old: Texts, tags: Texts) -> list[str]:
    found = []
    if old.get("key.images") != tags["key.images"]:
        counts = (old.get("images"), tags["images"])
        same = f"{counts[0]} with other names or contents"
        found.append(f"images {same if counts[0] == counts[1] else ' → '.join(map(str, counts))}")
    for name, words in (("classes", "other class file"), ("labels", "other labels")):
        if old.get(f"key.{name}") != tags.get(f"key.{name}"):
            found.append(words)
    if old.get("key.corrections") != tags.get("key.corrections"):
        counts = (old.get("corrections", "0"), tags.get("corrections", "0"))
        same = f"{counts[0]} that say something else"
        found.append(f"corrections {same if counts[0] == counts[1] else ' → '.join(counts)}")
    for name in ("code", "packages"):
        if old.get(name) != tags[name]:
            found.append(f"{name} {old.get(name, 'unknown')} → {tags[name]}")
    return found


def _units(old_tags: Texts, tags: Texts) -> str:
    """Units that were made anew though nothing that is listed differs."""
    old, new = old_tags.get(UNITS), tags[UNITS]
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
