"""Step `download`: put a data set in place, or record the listing of the user's own folder."""

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

from fmbseg.miniature import world
from fmbseg.progress import tracked
from fmbseg.steps.corrections import CORRECTIONS, accepted, copy_accepted
from fmbseg.steps.running import run_unit
from fmbseg.steps.step import Step
from fmbseg.steps.workspace import DROPS, Listing, Workspace
from fmbseg.store import UnitKey, file_sha, list_images, sha_of, write_json
from fmbseg.vocabulary import read_classes

_DRAWN_BYTES = 40_000
"""About how much disk one drawn image and its labels take."""


class DataError(ValueError):
    """The images or classes that params.yaml names cannot be used."""


def units(workspace: Workspace) -> list[str]:
    """The data sets to put in place: `data.images`; `drops` and `corrections` once there is one."""
    dropped = _drops_apart(workspace) and _dropped(workspace)
    there = {DROPS: dropped, CORRECTIONS: bool(accepted(workspace))}
    return [
        workspace.data_set,
        *(name for name, found in there.items() if found or (workspace.downloads / name).is_dir()),
    ]


def key(workspace: Workspace, data_set: str) -> UnitKey:
    """Content key of a data set in place."""
    data = workspace.params.data
    if data_set == "miniature":
        names = {"train_images", "val_images", "test_images"}
        return workspace.key(
            "download", {}, {**data.model_dump(include=names), "seed": workspace.params.seed}
        )
    if data_set == CORRECTIONS:
        shas = {image: one.sha for image, one in accepted(workspace).items()}
        return workspace.key("download", shas, {"data_set": data_set})
    listing = Listing.scan(_source(workspace, data_set))
    refused = {f"refused {one['image']}": one["reason"] for one in listing.refused}
    beside = {} if data_set == DROPS else _beside(workspace)
    return workspace.key("download", listing.images, {"data_set": data_set, **beside, **refused})


def run(workspace: Workspace, data_set: str) -> bool:
    """Make `data/download/<data set>/`; True when there was something to do.

    The miniature is drawn (PNG images, labels, classes.txt). A folder of the user's own, and
    `data.drops`, stay where they are: only their listing with content hashes is recorded. Of
    corrections those that were accepted are copied.

    Raises:
        DataError: see `check`.
        VocabularyError: see `check`.
    """
    check(workspace)

    def compute(out: Path) -> None:
        if data_set == CORRECTIONS:
            copy_accepted(workspace, out)
            return
        source = _source(workspace, data_set)
        if data_set == "miniature":
            _draw(workspace, out)
            source = out / "train" / "images"
        listing = Listing.scan(source)
        write_json(
            out / "listing.json",
            {
                "data_set": data_set, "images": listing.images, "refused": list(listing.refused),
                **(_beside(workspace) if data_set == "folder" else {}),
            },
        )  # fmt: skip

    data = workspace.params.data
    drawn = data.train_images + data.val_images + data.test_images
    return run_unit(
        workspace, "download", workspace.downloads / data_set, key(workspace, data_set), compute,
        needs_bytes=_DRAWN_BYTES * drawn if data_set == "miniature" else 0,
    )  # fmt: skip


def _beside(workspace: Workspace) -> dict[str, str | None]:
    """Content hashes of the class file and of all label files, so that DVC sees them change."""
    labels = workspace.params.data.labels
    return {
        "classes": file_sha(workspace.classes_path()),
        "labels": labels and sha_of(Listing.scan(Path(labels)).images),
    }


def _source(workspace: Workspace, data_set: str) -> Path:
    return workspace.drops if data_set == DROPS else Path(workspace.params.data.images)


def _dropped(workspace: Workspace) -> bool:
    return workspace.drops.is_dir() and bool(list_images(workspace.drops))


def _drops_apart(workspace: Workspace) -> bool:
    """Whether `data.drops` lies outside `data.images`; inside, it is one more sub-folder."""
    return not workspace.drops.resolve().is_relative_to(workspace.images_root().resolve())


def check(workspace: Workspace) -> None:
    """Refuse images, classes or labels that no step could use, before any step starts.

    Raises:
        DataError: a folder or the class file does not exist, or there is no image.
        VocabularyError: the class file cannot be used.
    """
    for name, folder in ((DROPS, workspace.drops), (CORRECTIONS, workspace.corrections)):
        given = Path(getattr(workspace.params.data, name))
        if given.is_absolute() and not folder.is_dir():
            raise DataError(
                f"data.{name}: no folder {folder}; outside the workspace none is made: make it, "
                f"or name one inside, such as data/{name}"
            )
    if workspace.data_set != "miniature":
        _check_images(workspace)
    labels = workspace.params.data.labels
    if labels is not None and not Path(labels).is_dir():
        raise DataError(f"data.labels: no folder {labels}; wanted label PNGs, or null")
    if workspace.params.data.classes == "miniature" and workspace.data_set == "miniature":
        return
    if not workspace.classes_path().is_file():
        raise DataError(
            f"data.classes: no file {workspace.classes_path()}; wanted one class name a line"
        )
    read_classes(workspace.classes_path())


def _check_images(workspace: Workspace) -> None:
    data = workspace.params.data
    root = Path(data.images)
    if not root.is_dir():
        raise DataError(f"data.images: no folder {root}; wanted a folder of images")
    if not list_images(root):
        raise DataError(f"data.images: {root} holds no png, jpg, bmp, tif or webp image")
    if (root / DROPS).is_dir() and _drops_apart(workspace) and _dropped(workspace):
        raise DataError(
            f"data.images: {root} has a sub-folder {DROPS}, the name of what came through "
            f"data.drops ({data.drops}); rename it, or point data.drops at it"
        )


def _draw(workspace: Workspace, out: Path) -> None:
    data, seed = workspace.params.data, workspace.params.seed
    counts: tuple[tuple[world.Split, int], ...] = (
        ("train", data.train_images), ("val", data.val_images), ("test", data.test_images)
    )  # fmt: skip
    with ThreadPoolExecutor(workspace.params.runner.workers) as threads:
        for split, count in counts:
            drawn = threads.map(partial(_draw_image, seed, split, out / split), range(count))
            for _ in tracked(drawn, f"download: drawing {split}", total=count):
                pass
    (out / "classes.txt").write_text("\n".join(world.SEEN_CLASS_NAMES) + "\n")


def _draw_image(seed: int, split: world.Split, folder: Path, index: int) -> None:
    next(world.generate(seed, 1, split, start=index)).save(folder)


def _outcome(workspace: Workspace, data_set: str, line: Mapping[str, Any]) -> str:
    return f"{len(Listing.read(workspace.downloads / data_set).images)} images"


STEP = Step(
    name="download",
    writes="data/download",
    units=units,
    key=key,
    run=run,
    mapped=True,
    outcome=_outcome,
)
