"""Which workspace a run works in: whose it is, and which params.yaml rules there."""

import contextlib
import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock

from fmbseg.params import ParamsError, load_params
from fmbseg.params_edit import lay_over, write_params
from fmbseg.params_yaml import flatten, read_tree
from fmbseg.project_files import PARAMS, default_params
from fmbseg.steps.download import check
from fmbseg.steps.workspace import Listing, Workspace, folder_name
from fmbseg.store import StoreError, image_sha, scan_images
from fmbseg.store.names import printable

RUNS = Path("runs")
LOCK = Path(".scratch") / "workspaces.lock"
"""One command at a time chooses a workspace, so that two folders of one name get two."""
_OF_THE_DATA = ("images", "classes", "labels", "ignore_label")
_COMPARED = 16
"""Number of images that are compared to tell a moved folder from a different one."""
_SHOWN = 8


class WorkspaceError(ValueError):
    """The workspace that the command line names holds another folder's run."""


@dataclass(frozen=True)
class Asked:
    """What the command line of `make run` or `fmbseg run` names.

    Attributes:
        images: folder of the user's own images; None for what params.yaml names.
        classes: class file for them.
        labels: folder of label PNGs for them, or None.
        ignore_label: the number that means "no label" in them; None keeps what stands there.
        profile: for `models.profile`; None keeps what stands there.
        workspace: where outputs go; None for a folder below runs/, or the current folder.
        reset_params: begin again with the current folder's params.yaml.
    """

    images: Path | None = None
    classes: Path | None = None
    labels: Path | None = None
    ignore_label: int | None = None
    profile: str | None = None
    workspace: Path | None = None
    reset_params: bool = False


def open_workspace(asked: Asked, say: Callable[[str], None] = print) -> Path:
    """The workspace of a run, with the command line's values in its params.yaml.

    A workspace without a params.yaml gets the current folder's, or else the installed defaults.
    Everything is checked first; nothing is made or written when something is wrong.

    Args:
        asked: what the command line names.
        say: is handed lines on whose workspace it is and which params.yaml rules.

    Raises:
        ParamsError: a value is out of range, or params.yaml cannot be read.
        DataError: images, classes or labels are not there.
        VocabularyError: the class file cannot be used.
        WorkspaceError: the workspace belongs to another folder of images.
    """
    if asked.images is None and (asked.classes or asked.labels or asked.ignore_label is not None):
        raise ParamsError("--classes, --labels and --ignore-label need --images: whose they are")
    if asked.images is not None and asked.classes is None:
        raise ParamsError("--images needs --classes: a text file with one class name a line")
    with FileLock(LOCK) if asked.images else contextlib.nullcontext():
        root = _choose(asked, say)
        own = root / "params.yaml"
        elsewhere = own.resolve() != PARAMS.resolve()
        if asked.reset_params and not elsewhere:
            raise ParamsError(f"--reset-params: {own} is the current folder's own; edit it")
        changes = _changes(asked)
        if asked.reset_params and own.is_file():
            kept = read_tree(own).get("data") or {}
            kept = {f"data.{key}": kept[key] for key in _OF_THE_DATA if key in kept}
            changes = kept | changes
        fresh = asked.reset_params or not own.exists()
        params = load_params(default_params() if fresh else own, changes)
        check(Workspace(root, params))
        own.parent.mkdir(parents=True, exist_ok=True)
        if fresh:
            lay_over(default_params(), changes, own)
        else:
            write_params(own, changes)
    say(f"==> {own} rules this run (models.profile: {params.models.profile})")
    if elsewhere and PARAMS.is_file() and (found := differences(own)):
        more = f" and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
        say(
            f"==> params.yaml of this folder differs and plays no part here: "
            f"{'; '.join(found[:_SHOWN])}{more}. Edit {own}, or take all of it over: "
            "RESET_PARAMS=1 (--reset-params)"
        )
    return root


def differences(own: Path) -> list[str]:
    """Keys in which a workspace's params.yaml differs from the current folder's, but `data.*`."""
    try:
        here, there = load_params(own).public(), load_params(PARAMS).public()
    except ParamsError:
        return []
    here, there = flatten(here), flatten(there)
    return [
        f"{key} {_shown(there.get(key))} (here {_shown(here.get(key))})"
        for key in here | there
        if not key.startswith("data.") and here.get(key) != there.get(key)
    ]


def _shown(value: Any) -> str:
    text = "null" if value is None else str(value)
    return printable(text if len(text) <= 40 else f"{text[:37]}...")


def _changes(asked: Asked) -> dict[str, Any]:
    changes: dict[str, Any] = {}
    if asked.images is not None:
        changes = {
            "data.images": str(asked.images),
            "data.classes": str(asked.classes),
            "data.labels": str(asked.labels) if asked.labels else None,
        }
    given = {"data.ignore_label": asked.ignore_label, "models.profile": asked.profile}
    return changes | {key: value for key, value in given.items() if value is not None}


def _choose(asked: Asked, say: Callable[[str], None]) -> Path:
    if asked.images is None:
        return asked.workspace or Path()
    source, named = asked.images.resolve(), asked.workspace
    places = [RUNS / name for name in _names(asked.images)] if named is None else [named]
    owners = {place: owner(place) for place in places}
    for place in places:
        if owners[place] == source:
            return place
    for place in places:
        if _moved(place, owners[place], source, say):
            return place
    for place in places:
        empty = not place.is_dir() or not any(place.iterdir())
        if owners[place] is None and (empty or place == named):
            if place != places[0]:
                say(f"==> {_belongs(places[0], owners[places[0]])}; {source} gets {place}")
            return place
    if named is not None:
        raise WorkspaceError(
            f"{_belongs(named, owners[named])}, not {source}, whose run would delete its masks; "
            "leave WORKSPACE (--workspace) out, or name another folder"
        )
    raise WorkspaceError(
        f"{', '.join(map(str, places))} all hold something else; name a new folder: "
        "WORKSPACE= (--workspace)"
    )


def _belongs(place: Path, whose: Path | None) -> str:
    if whose is None:
        return f"{place} holds something else"
    if whose.is_dir():
        return f"{place} belongs to {whose}"
    return (
        f"{place} belongs to {whose}, which is gone (to go on there with its images under a new "
        f"name, set data.images in {place / 'params.yaml'}, then run with "
        f"WORKSPACE={place} (--workspace))"
    )


def _names(images: Path) -> list[str]:
    """Names for the workspace of a folder, the simplest first."""
    folder = images.resolve()
    if images.name == "images" and folder.parent.name:
        folder = folder.parent
    name = folder_name(images)
    short = hashlib.sha256(str(images.resolve()).encode()).hexdigest()[:8]
    parent = folder.parent.name
    return [name, *([f"{name}-{parent}"] if parent else []), f"{name}-{short}"]


def owner(root: Path) -> Path | None:
    """The folder of images that a workspace belongs to; None when it is free.

    Raises:
        ParamsError: its params.yaml cannot be read.
    """
    file = root / "params.yaml"
    if not file.exists():
        return None
    data = read_tree(file).get("data")
    images = data.get("images") if isinstance(data, dict) else None
    if not isinstance(images, str) or images == "miniature":
        drawn = root / "data" / "download" / "miniature"
        return drawn.resolve() if drawn.is_dir() else None
    return Path(images).resolve()


def _moved(root: Path, was: Path | None, now: Path, say: Callable[[str], None]) -> bool:
    """Whether a workspace's folder of images is gone, and its very images lie in another now."""
    if was is None or was.exists() or not now.is_dir():
        return False
    try:
        listed = Listing.read(root / "data" / "download" / "folder").images
    except (StoreError, KeyError, TypeError):
        return False
    names = sorted(listed)
    if not names or names != sorted(scan_images(now).names):
        return False
    some = names[:: max(1, len(names) // _COMPARED)]
    try:
        same = all(image_sha(now / name) == listed[name] for name in some)
    except OSError:
        return False
    if same:
        say(f"==> {was} is now {now}, with the same images: {root} goes on")
    return same
