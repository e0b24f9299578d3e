"""Which images of an export are `val`, and what every image is called in it."""

from collections.abc import Collection, Iterable, Sequence
from pathlib import Path, PurePosixPath

from fmbseg.export.labelled import ExportError, Split
from fmbseg.store.lot import lot


def splits(names: Sequence[str], val_fraction: float, seed: int) -> dict[str, Split]:
    """Draw the split of every image from its name and the seed.

    An image keeps its split when others come or go; a larger share only adds to `val`. So the
    share is met on average, and not to the image.
    """
    return {name: "val" if lot(name, seed) < val_fraction else "train" for name in names}


def listed_splits(names: Collection[str], file: Path) -> dict[str, Split]:
    """The split of every image, from a file that names those of `val`, one a line.

    Raises:
        ExportError: the file cannot be read, or it names an image that is not exported.
    """
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ExportError(f"export.val_list: {file} cannot be read ({error})") from None
    wanted = {line.strip() for line in lines if line.strip()}
    if unknown := sorted(wanted - set(names)):
        raise ExportError(
            f"export.val_list: {file} names {len(unknown)} images that are not exported, such as "
            f"{unknown[0]!r}; wanted names relative to the folder of images, such as "
            f"{min(names, default='a.jpg')!r}"
        )
    return {name: "val" if name in wanted else "train" for name in names}


def stems(names: Iterable[str]) -> dict[str, str]:
    """Name of every image to what its labels are called: its name without suffix.

    Where two would be called alike, on file systems without letter case too, the later one keeps
    its suffix, or gets a number.
    """
    found: dict[str, str] = {}
    taken: set[str] = set()
    for name in sorted(names):
        bare = str(PurePosixPath(name).with_suffix(""))
        candidate, number = bare, 1
        while candidate.casefold() in taken:
            candidate = name if number == 1 else f"{bare}-{number}"
            number += 1
        taken.add(candidate.casefold())
        found[name] = candidate
    return found
