"""What arrived in `data.drops`, and which corrections people accepted, since the last finished run.

Names, sizes and times say whether there is anything to look at; only files that are new by those
are read, once, and what was found is remembered in `.scratch/drops.json`. Losing that file costs
reading them again.
"""

import time
from collections.abc import Mapping
from dataclasses import astuple, dataclass, field
from pathlib import Path

from fmbseg.steps.corrections import accepted
from fmbseg.steps.finished import finished_path, last_finished
from fmbseg.steps.workspace import Workspace
from fmbseg.store import (
    StoreError,
    UnreadableImageError,
    file_sha,
    image_sha,
    read_image,
    read_json,
    scan_images,
    sha_of,
    write_bytes,
    write_json,
)


@dataclass(frozen=True)
class Look:
    """The state of the folder at one moment, found without reading a file.

    Attributes:
        files: name to (size in bytes, time of change in ns, inode).
        refused: name to the reason why the listing does not hold it.
        corrections: image to (digest of what its accepted correction says, time of change in ns).
    """

    files: Mapping[str, tuple[int, int, int]]
    refused: Mapping[str, str] = field(default_factory=dict)
    corrections: Mapping[str, tuple[str, int]] = field(default_factory=dict)

    @property
    def digest(self) -> str:
        """SHA-256 over the whole state."""
        files = {name: list(stamp) for name, stamp in self.files.items()}
        return sha_of([files, dict(self.refused), self.corrected])

    @property
    def corrected(self) -> dict[str, str]:
        """Image to digest of what its accepted correction says."""
        return {image: content for image, (content, _) in self.corrections.items()}

    def fresh(self, seconds: float) -> list[str]:
        """Names of files that changed within the last seconds; a date in the future is not one."""
        return [n for n, (_, changed, _) in self.files.items() if _is_fresh(changed, seconds)]

    def fresh_corrections(self, seconds: float) -> list[str]:
        """Names of images whose correction was accepted within the last seconds."""
        found = self.corrections.items()
        return [image for image, (_, changed) in found if _is_fresh(changed, seconds)]


@dataclass(frozen=True)
class News:
    """How `data.drops` and the corrections differ from what the last finished run covered.

    Attributes:
        added: names of readable new images.
        replaced: names whose content changed.
        removed: names that are gone.
        bad: `{"image", "reason"}` of files that cannot be used.
        digest: of the whole content of the folder and of the corrections.
        corrected: names of images whose accepted correction is new, says something else, or is
            one no more.
    """

    added: tuple[str, ...]
    replaced: tuple[str, ...]
    removed: tuple[str, ...]
    bad: tuple[dict[str, str], ...]
    digest: str
    corrected: tuple[str, ...] = ()

    @property
    def wants_run(self) -> bool:
        """Whether there is something to train on, or to forget; bad files alone are not."""
        return bool(self.added or self.replaced or self.removed or self.corrected)


def look(workspace: Workspace) -> Look:
    """The folder's files by name, size, time and inode; none when there is no folder."""
    root = workspace.drops
    people = {k: (one.content, one.changed_ns) for k, one in accepted(workspace).items()}
    if not root.is_dir():
        return Look({}, corrections=people)
    files, found = {}, scan_images(root)
    for name in found.names:
        try:
            status = (root / name).stat()
        except OSError:  # gone since it was listed
            continue
        files[name] = (status.st_size, status.st_mtime_ns, status.st_ino)
    return Look(files, {one.image: one.reason for one in found.refused}, people)


def news(workspace: Workspace, seen: Look) -> News:
    """Compare the folder with what the last finished run covered.

    Args:
        workspace: the run's.
        seen: a look at the folder; files that are new by it are read.
    """
    last = last_finished(workspace) or {"drops": {}, "corrections": {}}
    covered, before = last["drops"], last["corrections"]
    found, limit = _remembered(workspace), workspace.params.data.max_megapixels
    try:
        for name, stamp in seen.files.items():
            if name not in found or found[name].stamp != stamp:
                found[name] = _read(workspace, name, stamp, covered.get(name))
    finally:
        found = {name: found[name] for name in seen.files if name in found}
        files = {name: astuple(one) for name, one in found.items()}
        content = {"max_megapixels": limit, "files": files}
        write_json(_memory_path(workspace), content, compact=True)
    shas = {name: one.sha for name, one in found.items()}
    usable = {name: one.sha for name, one in found.items() if one.reason is None}
    reasons = {name: one.reason for name, one in found.items() if one.reason is not None}
    reasons |= seen.refused
    changed = [name for name, sha in usable.items() if covered.get(name) != sha]
    return News(
        added=tuple(name for name in changed if name not in covered),
        replaced=tuple(name for name in changed if name in covered),
        removed=tuple(sorted(covered.keys() - shas.keys())),
        bad=tuple({"image": name, "reason": reason} for name, reason in sorted(reasons.items())),
        digest=sha_of([shas, seen.corrected]),
        corrected=tuple(sorted({image for image, _ in before.items() ^ seen.corrected.items()})),
    )


def is_settled(workspace: Workspace, seen: Look) -> bool:
    """Whether this state of the folder was handled already and no run has finished since."""
    path = _settled_path(workspace)
    return path.is_file() and path.read_text() == _stamp(workspace, seen)


def settle(workspace: Workspace, seen: Look) -> None:
    """Record that this state of the folder needs no further work."""
    write_bytes(_settled_path(workspace), _stamp(workspace, seen).encode())


def _settled_path(workspace: Workspace) -> Path:
    return workspace.root / ".scratch" / "drops-settled"


def _stamp(workspace: Workspace, seen: Look) -> str:
    data, finished = workspace.params.data, finished_path(workspace)
    covered = file_sha(finished) if finished.is_file() else None
    return sha_of([seen.digest, covered, data.drops, data.corrections, data.max_megapixels])


def _is_fresh(changed_ns: int, seconds: float) -> bool:
    return 0 <= time.time() - changed_ns / 1e9 < seconds


@dataclass(frozen=True)
class _File:
    """What a file holds in one state: SHA-256 and, when it cannot be used, why."""

    stamp: tuple[int, int, int]
    sha: str
    reason: str | None


def _memory_path(workspace: Workspace) -> Path:
    return workspace.root / ".scratch" / "drops.json"


def _remembered(workspace: Workspace) -> dict[str, _File]:
    """What was found in files before, by name; nothing where that is damaged."""
    try:
        saved = read_json(_memory_path(workspace))
        if saved["max_megapixels"] == workspace.params.data.max_megapixels:
            files = saved["files"].items()
            return {name: _File(tuple(stamp), *found) for name, (stamp, *found) in files}
    except (StoreError, KeyError, TypeError, ValueError):
        pass
    return {}


def _read(
    workspace: Workspace, name: str, stamp: tuple[int, int, int], covered_sha: str | None
) -> _File:
    path, limit = workspace.drops / name, workspace.params.data.max_megapixels
    sha = image_sha(path)
    if sha == covered_sha:  # the run that covered it has read it
        return _File(stamp, sha, None)
    try:
        read_image(path, max_pixels=round(limit * 1e6))
    except UnreadableImageError as error:
        return _File(stamp, sha, error.reason)
    return _File(stamp, sha, None)
