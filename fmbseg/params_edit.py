"""Changes values of a params.yaml and leaves everything else in it as it stands, comments too."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from filelock import FileLock
from ruamel.yaml import YAML

from fmbseg.params import load_params


def write_params(path: Path, overrides: dict[str, Any]) -> None:
    """Lay dotted keys over a params.yaml, keeping its comments; nothing is written on a bad value.

    Raises:
        ParamsError: an unknown key or a bad value.
    """
    if not overrides:
        return
    load_params(path, overrides)
    with FileLock(path.parent / ".scratch" / "params.lock"):
        lay_over(path, overrides, path)


def lay_over(path: Path, overrides: Mapping[str, Any], target: Path) -> None:
    """Write a params.yaml with dotted keys laid over it, comments kept, to another file.

    Args:
        path: of the params.yaml.
        overrides: dotted key to value.
        target: of what is written; where it is the same file, only if something changed.

    Raises:
        ParamsError: an unknown key or a bad value; nothing is written.
    """
    load_params(path, dict(overrides))
    yaml = round_trip_yaml()
    tree, changed = yaml.load(path), target != path
    for dotted, value in overrides.items():
        *sections, key = dotted.split(".")
        branch = tree
        for section in sections:
            branch = branch[section]
        if branch.get(key) != value:
            branch[key], changed = value, True
    if changed:
        temporary = target.parent / f".{target.name}.{os.getpid()}"
        yaml.dump(tree, temporary)
        os.replace(temporary, target)


def round_trip_yaml() -> YAML:
    """Reads and writes YAML as DVC does, so that lines that are not changed stay as they are."""
    yaml = YAML()
    yaml.preserve_quotes = True
    yaml.width = 4096
    return yaml
