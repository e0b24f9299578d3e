"""Paths that a trained model's description names: which of them may be opened.

A trained folder may come from somebody else, and its `segmenter.json` may name folders and files
for the foundation models. They are opened when they lie inside the trained folder, when the
params.yaml of the workspace that the folder is part of names the same, when they lie below a
folder of the environment variable `FMBSEG_TRUSTED_PATHS`, or when the caller allows all.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from fmbseg.models.weights import ModelError

TRUSTED = "FMBSEG_TRUSTED_PATHS"
"""Environment variable: folders, separated as in PATH, that a trained model may refer to."""
_LOCAL = "local-dir:"
_KEYS = ("name", "pretrained", "checkpoint")


class UntrustedPathError(ModelError):
    """A trained model names a path that nobody on this machine has vouched for."""


def trusted_overrides(
    overrides: Mapping[str, Mapping[str, Any] | None],
    folder: Path,
    *,
    allow_paths: bool = False,
) -> dict[str, dict[str, Any]]:
    """The overrides of a trained model, with the paths inside its folder made absolute.

    Args:
        overrides: "clip", "sam", "vision" of its `segmenter.json`.
        folder: the trained folder, which holds that file.
        allow_paths: open whatever paths it names.

    Returns:
        The overrides to build the models from.

    Raises:
        UntrustedPathError: a path leaves the folder, and nobody vouches for it.
    """
    checked: dict[str, dict[str, Any]] = {}
    for model, keys in overrides.items():
        checked[model] = dict(keys or {})
        for key in _KEYS:
            value = (keys or {}).get(key)
            if isinstance(value, str) and _is_path(key, value):
                where = f"{folder / 'segmenter.json'}: models.{model}.{key}"
                checked[model][key] = _checked(value, folder, where, model, key, allow_paths)
    return checked


def _is_path(key: str, value: str) -> bool:
    """Whether a value is opened as a path, and not looked up as a name.

    A weight file's tag or published name has no separator and is no file.
    """
    if key == "name":
        return value.startswith(_LOCAL)
    return "/" in value or os.sep in value or Path(value).is_file()


def _checked(value: str, folder: Path, where: str, model: str, key: str, allow_paths: bool) -> str:
    prefix = _LOCAL if value.startswith(_LOCAL) else ""
    named = Path(value.removeprefix(prefix))
    inside = folder / named
    if not named.is_absolute() and inside.exists() and _stays_inside(inside, folder):
        return f"{prefix}{inside}"
    if allow_paths or _below_trusted(named) or _workspace_names(folder, model, key, value):
        return value
    raise UntrustedPathError(
        f"{where} names {str(named)[:120]!r}, which is outside the trained folder; if you trust "
        f"whoever made it, allow it: Segmenter.load(..., allow_paths=True), fmbseg predict "
        f"--trust-paths, or {TRUSTED}=<folder>"
    )


def _stays_inside(path: Path, folder: Path) -> bool:
    """Whether a path and everything below it lies in the folder, links followed."""
    root = folder.resolve()
    below = [path, *path.rglob("*")] if path.is_dir() else [path]
    return all(one.resolve().is_relative_to(root) for one in below)


def _below_trusted(path: Path) -> bool:
    folders = [one for one in os.environ.get(TRUSTED, "").split(os.pathsep) if one]
    return any(path.resolve().is_relative_to(Path(one).resolve()) for one in folders)


def _workspace_names(folder: Path, model: str, key: str, value: str) -> bool:
    """Whether the folder is models/train of a workspace whose params.yaml names the same.

    A run there would open that path too.
    """
    real = folder.resolve()
    params = real.parent.parent / "params.yaml"
    if (real.parent.name, real.name) != ("models", "train") or not params.is_file():
        return False
    try:
        tree = yaml.safe_load(params.read_bytes())
        return bool(tree["models"][model][key] == value)
    except (OSError, yaml.YAMLError, UnicodeDecodeError, KeyError, TypeError):
        return False
