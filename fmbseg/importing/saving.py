"""Saving what an import found: all of it, also when the process is killed meanwhile."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from fmbseg.corrections.store import (
    ConflictError,
    CorrectedRegion,
    Correction,
    from_json,
    read_correction,
    save_correction,
    to_json,
)
from fmbseg.store import StoreError, read_json, sha_of, write_json

IMPORT_LOCK = ".import.lock"
"""Below the folder of corrections: one import works there at a time."""
_PENDING = ".importing.json"
"""The corrections of an import until the last of them is saved."""
_IMPORTED = ".imported.json"
"""Hash of an export's record to the images that were imported from it."""


@dataclass(frozen=True)
class Imported:
    """What was last imported of an image from an export.

    Attributes:
        revision: that its correction had then.
        regions: digest of the regions, see `regions_sha`.
    """

    revision: int
    regions: str


def save_all(folder: Path, export: str, corrections: Sequence[Correction]) -> list[str]:
    """Save corrections, each with the revision that it was read with.

    They are on the disk together before the first one is saved, so that `finish` can save the
    others after a kill.

    Args:
        folder: all corrections of a workspace; the caller holds `IMPORT_LOCK`.
        export: SHA-256 of the record of the export that was edited.
        corrections: at most one an image.

    Returns:
        Images that somebody else saved meanwhile, of which nothing was written.
    """
    content = {"export": export, "corrections": [to_json(one) for one in corrections]}
    write_json(folder / _PENDING, content, compact=True)
    return finish(folder)


def finish(folder: Path) -> list[str]:
    """Save what an import that was killed left to be saved.

    Returns:
        Images that somebody else saved meanwhile.

    Raises:
        StoreError: the file that lists it is damaged.
    """
    path, refused = folder / _PENDING, []
    if not path.is_file():
        return []
    found = read_json(path)
    try:
        corrections = [from_json(one) for one in found["corrections"]]
        export = str(found["export"])
    except (KeyError, TypeError, ValueError) as error:
        raise StoreError(f"{path}: is damaged ({error}); delete it and import again") from None
    every = _imported(folder)
    known = every.setdefault(export, {})
    for one in corrections:
        saved = replace(one, revision=one.revision + 1)
        if read_correction(folder, one.image) != saved:
            try:
                save_correction(folder, one)
            except ConflictError:
                refused.append(one.image)
                continue
        known[one.image] = Imported(saved.revision, regions_sha(one.regions))
    content = {
        sha: {name: asdict(one) for name, one in images.items()} for sha, images in every.items()
    }
    write_json(folder / _IMPORTED, content)
    with suppress(FileNotFoundError):
        path.unlink()
    return refused


def imported_before(folder: Path, export: str) -> dict[str, Imported]:
    """Images that were imported from an export, and what was last imported of each.

    Raises:
        StoreError: the file that keeps it is damaged.
    """
    return _imported(folder).get(export, {})


def regions_sha(regions: Sequence[CorrectedRegion]) -> str:
    """Digest of regions."""
    return sha_of([asdict(one) for one in regions])


def _imported(folder: Path) -> dict[str, dict[str, Imported]]:
    path = folder / _IMPORTED
    if not path.is_file():
        return {}
    try:
        return {
            sha: {name: Imported(**one) for name, one in images.items()}
            for sha, images in read_json(path).items()
        }
    except (AttributeError, TypeError):
        raise StoreError(
            f"{path}: is damaged; delete it, and what was imported before counts as corrected "
            "elsewhere"
        ) from None
