"""Reading pictures of any kind into RGB, and listing them; a bad one has a reason, not a trace."""

import os
from pathlib import Path

import numpy as np
import PIL.Image
from jaxtyping import UInt8

from fmbseg.types import Image

IMAGE_SUFFIXES: tuple[str, ...] = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp")
MAX_PIXELS = 100_000_000
"""A picture with more pixels than this is not decoded."""

_ORIENTATION_TAG = 0x0112
_TURNS = {
    2: PIL.Image.Transpose.FLIP_LEFT_RIGHT,
    3: PIL.Image.Transpose.ROTATE_180,
    4: PIL.Image.Transpose.FLIP_TOP_BOTTOM,
    5: PIL.Image.Transpose.TRANSPOSE,
    6: PIL.Image.Transpose.ROTATE_270,
    7: PIL.Image.Transpose.TRANSVERSE,
    8: PIL.Image.Transpose.ROTATE_90,
}


class UnreadableImageError(ValueError):
    """A picture cannot be used; `reason` is one short line without the path."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class UnsafeLinkError(ValueError):
    """A symbolic link points out of the image folder."""


def read_image(path: str | Path, *, max_pixels: int = MAX_PIXELS) -> Image:
    """Read the first frame of a picture as RGB, 0 to 255, turned upright.

    Grey, palette, CMYK and the like are converted; alpha is laid over white; 16 bits a channel
    are scaled by 1/257; floats are read as 0 to 1 or, when larger ones occur, as 0 to 255. The
    EXIF orientation is applied; EXIF data that cannot be read are ignored.

    Args:
        path: png, jpg, bmp, tif or webp (whatever Pillow decodes).
        max_pixels: more than this many pixels are refused before decoding.

    Returns:
        UInt8 [height width 3].

    Raises:
        UnreadableImageError: empty, truncated, not a picture, too large, no such file.
    """
    path = Path(path)
    try:
        if path.stat().st_size == 0:
            raise UnreadableImageError("empty file")
        with PIL.Image.open(path) as picture:
            width, height = picture.size
            if width * height > max_pixels:
                raise UnreadableImageError(
                    f"{width}x{height} px is more than the limit of {max_pixels} pixels"
                )
            picture.load()
            return _to_rgb(_upright(picture))
    except UnreadableImageError:
        raise
    except FileNotFoundError:
        raise UnreadableImageError("no such file") from None
    except PIL.UnidentifiedImageError:
        raise UnreadableImageError("not a picture in a known format") from None
    except Exception as error:  # decoders raise anything on damaged data
        text = " ".join(str(error).replace(str(path), "").split())
        raise UnreadableImageError(f"cannot be decoded: {text or type(error).__name__}") from None


def list_images(folder: str | Path) -> list[str]:
    """List the pictures below a folder, at any depth.

    Files are told by suffix (any case). Names with a leading dot are skipped. Links to files
    inside the folder count; linked folders are not entered.

    Args:
        folder: where to look.

    Returns:
        Names relative to `folder`, with forward slashes, sorted.

    Raises:
        NotADirectoryError: no such folder.
        UnsafeLinkError: a link leaves the folder.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise NotADirectoryError(f"{folder}: no such folder; wanted a folder of images")
    root = folder.resolve()
    names: list[str] = []
    for parent, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in folders:
            _refuse_outside(Path(parent) / name, root)
        for name in files:
            path = Path(parent) / name
            if name.startswith(".") or path.suffix.lower() not in IMAGE_SUFFIXES:
                continue
            _refuse_outside(path, root)
            names.append(path.relative_to(folder).as_posix())
    return sorted(names)


def _refuse_outside(path: Path, root: Path) -> None:
    if path.is_symlink() and not path.resolve().is_relative_to(root):
        raise UnsafeLinkError(
            f"{path}: this link leaves the image folder (to {path.resolve()}); "
            "copy the file in, or give the folder it is in"
        )


def _upright(picture: PIL.Image.Image) -> PIL.Image.Image:
    try:
        turn = _TURNS.get(int(picture.getexif().get(_ORIENTATION_TAG, 1)))
    except Exception:  # a damaged EXIF block does not make the pixels bad
        return picture
    return picture if turn is None else picture.transpose(turn)


def _to_rgb(picture: PIL.Image.Image) -> UInt8[np.ndarray, "height width 3"]:
    if picture.mode.startswith("I"):
        values = np.asarray(picture).astype(np.int64).clip(0, 65535)
        return _grey(((values + 128) // 257).astype(np.uint8))
    if picture.mode == "F":
        floats = np.asarray(picture, np.float64)
        low, high = float(floats.min()), float(floats.max())
        if not (low >= 0 and high <= 255):
            raise UnreadableImageError(f"float pixels from {low:g} to {high:g}; wanted 0 to 255")
        return _grey(np.rint(floats * (255 if high <= 1 else 1)).astype(np.uint8))
    if picture.has_transparency_data:
        layer = picture.convert("RGBA")
        white = PIL.Image.new("RGBA", layer.size, (255, 255, 255, 255))
        picture = PIL.Image.alpha_composite(white, layer)
    return np.array(picture.convert("RGB"))


def _grey(values: UInt8[np.ndarray, "height width"]) -> UInt8[np.ndarray, "height width 3"]:
    return np.repeat(values[:, :, None], 3, axis=2)
