"""Where the outputs of an image go: each image its own files, inside `--out`, over no image."""

import re
from collections.abc import Sequence
from pathlib import Path

from fmbseg.errors import UserError
from fmbseg.store import IMAGE_SUFFIXES, list_images

SUFFIXES = (
    ".png", ".overlay.png", ".similarity.png", ".similarities.npz", ".confidence.png",
)  # fmt: skip
"""What may be written for an image, after its output name."""
CLASSES = "classes.txt"
_WILD = re.compile(r"[*?[]")


def named_outputs(given: Sequence[Path], out: Path) -> dict[str, Path]:
    """Give every image a name for its outputs: its own below the folder given, without suffix.

    Where two images would write the same file, the later one keeps its suffix, or gets a number.
    Folders are searched to any depth; what lies in `out` inside them is left alone, as it is
    output of an earlier run. A pattern stands for the files and folders that fit it; outputs are
    named from its last folder without `*`, `?` or `[`.

    Args:
        given: image files, folders and patterns, `**` for any depth.
        out: the folder for outputs.

    Returns:
        Output name (relative, forward slashes) to image file.

    Raises:
        UserError: no such file, a pattern that nothing fits, no image at all, or an output would
            overwrite an image.
    """
    every = [found for path in given for found in _images(path, out)]
    images = {file.resolve(): (name, file) for name, file in reversed(every)}  # each file once
    if not images:
        raise UserError("found no image (png, jpg, bmp, tif, webp) in what was given")
    taken: set[str] = set()
    named: dict[str, Path] = {}
    for name, file in reversed(images.values()):
        stem = str(Path(name).with_suffix(""))
        numbered = (f"{stem}-{number}" for number in range(2, len(images) + 3))
        for candidate in (stem, name, *numbered):
            files = {f"{candidate}{suffix}".casefold() for suffix in SUFFIXES}
            if not files & taken:
                break
        taken |= files
        named[candidate] = file
        for suffix in SUFFIXES:
            if (out / f"{candidate}{suffix}").resolve() in images:
                raise UserError(
                    f"--out: {out / f'{candidate}{suffix}'} is one of the images and would be "
                    "overwritten; name another folder"
                )
    return named


def output_path(out: Path, name: str) -> Path:
    """The path of an image's outputs without their suffix; its folder is made.

    Raises:
        UserError: a link leads out of `out`.
    """
    target = out / name
    target.parent.mkdir(parents=True, exist_ok=True)
    if not target.parent.resolve().is_relative_to(out.resolve()):
        raise UserError(f"--out: {target.parent} is a link that leaves {out}; remove it")
    return target


def _images(path: Path, out: Path) -> list[tuple[str, Path]]:
    if path.is_file():
        return [(path.name, path)]
    if not path.is_dir():
        if _magic(path.parts):
            return _fitting(path, out)
        raise UserError(f"{path}: no such file or folder")
    return [
        (name, path / name) for name in list_images(path) if not _is_output(path / name, path, out)
    ]


def _is_output(file: Path, folder: Path, out: Path) -> bool:
    """Whether a file that was found in a folder lies in `out`, further inside that folder."""
    root, outputs = folder.resolve(), out.resolve()
    inside = outputs != root and outputs.is_relative_to(root)
    return inside and file.resolve().is_relative_to(outputs)


def _magic(parts: Sequence[str]) -> bool:
    return any(_WILD.search(part) for part in parts)


def _fitting(pattern: Path, out: Path) -> list[tuple[str, Path]]:
    """The images that fit a pattern, and those in folders that do; hidden ones are passed over."""
    wild = next(place for place, part in enumerate(pattern.parts) if _WILD.search(part))
    base = Path(*pattern.parts[:wild])
    try:
        fitting = sorted(base.glob(str(Path(*pattern.parts[wild:]))))
    except ValueError as error:  # such as "a**"
        raise UserError(f"{pattern}: {str(error).lower()}") from None
    found = []
    for path in fitting:
        inside = path.relative_to(base)
        if any(part.startswith(".") for part in inside.parts):
            continue
        if path.is_dir():
            found += [((inside / name).as_posix(), file) for name, file in _images(path, out)]
        elif path.suffix.lower() in IMAGE_SUFFIXES and not _is_output(path, base, out):
            found.append((inside.as_posix(), path))
    if not found:
        raise UserError(f"{pattern}: no image fits this pattern")
    return found
