"""Reading pictures of any kind into RGB; one that cannot be read raises a short reason."""

import contextlib
import errno
import io
import os
import stat
import threading
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import PIL.ImageCms
import PIL.ImageOps
from jaxtyping import UInt8

from fmbseg.store.formats import HEAD_BYTES, UnreadableImageError, open_picture, require_picture
from fmbseg.store.hashes import hash_of, known_hash
from fmbseg.types import Image

MAX_PIXELS = 100_000_000
"""A picture with more pixels than this is not decoded."""
MAX_BYTES = 2**30
"""A larger file is not read: `MAX_PIXELS` of four 16-bit channels need less."""

_PIXELS_AT_ONCE = 2**24
_REASON_CHARACTERS = 160
_FLOAT_SLACK = 1e-3
_KINDS = {
    stat.S_IFDIR: "a folder", stat.S_IFIFO: "a FIFO (named pipe)", stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device", stat.S_IFBLK: "a device",
}  # fmt: skip
_OPEN_FLAGS = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
_PILLOWS_WORDS = ("not identified by this driver", "its header is damaged or of an unknown kind")
_PILLOW = threading.Lock()
"""Held while Pillow's process-wide settings are other than the process has them."""


def read_image(path: str | Path, *, max_pixels: int = MAX_PIXELS) -> Image:
    """Read the first frame of a picture as RGB, 0 to 255, turned upright.

    Grey, palette, CMYK, LAB and the like are converted; alpha is laid over white; 16 bits a
    channel are scaled to 8; 32-bit integers are read as 0 to 255 or, when larger ones occur, as 0
    to 65535, floats as 0 to 1 or 0 to 255. The EXIF orientation is applied; EXIF data that cannot
    be read are ignored. The content counts, not the suffix. Never waits: what is no regular file
    is refused unopened.

    Args:
        path: png, jpg, bmp, tif or webp.
        max_pixels: more than this many pixels are refused before decoding.

    Returns:
        UInt8 [height width 3].

    Raises:
        UnreadableImageError: empty, truncated, not a picture, too large, no such file, no file.
    """
    with open_regular(path) as stream:
        try:
            content = stream.read(HEAD_BYTES)
            if content:
                require_picture(content)  # before the rest is read
            content += stream.read()
        except OSError as error:
            raise UnreadableImageError(_failure(error)) from None
    return decode_image(content, max_pixels=max_pixels)


def decode_image(content: bytes, *, max_pixels: int = MAX_PIXELS) -> Image:
    """Read a picture that is in memory; see `read_image`.

    Raises:
        UnreadableImageError: empty, truncated, not a picture, too large.
    """
    if not content:
        raise UnreadableImageError("empty file")
    try:
        return _decode(content, max_pixels)
    except (Warning, PIL.Image.DecompressionBombError):
        pass  # of this process: warnings are errors, or Pillow's own limit is the lower one
    with _PILLOW, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        limit, PIL.Image.MAX_IMAGE_PIXELS = PIL.Image.MAX_IMAGE_PIXELS, None
        try:
            return _decode(content, max_pixels)
        finally:
            PIL.Image.MAX_IMAGE_PIXELS = limit


def encode_image(picture: PIL.Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    """The bytes of a picture's file.

    Args:
        picture: any that the kind can hold.
        kind: Pillow's name of it.
        options: of Pillow for that kind.
    """
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def image_sha(path: str | Path) -> str:
    """SHA-256 of a listed picture's content for a unit's key, hexadecimal.

    Never raises and never waits, so that a file which vanishes after it was listed is set aside
    when it is read, like any other bad one.

    Returns:
        The hash, or "unreadable: <reason>".
    """
    try:
        known = known_hash(path)
        if known is not None:
            return known
        with open_regular(path) as stream:
            return hash_of(stream, path)
    except UnreadableImageError as error:
        return f"unreadable: {error.reason}"
    except OSError as error:
        return f"unreadable: {_failure(error)}"


def open_regular(path: str | Path) -> io.BufferedReader:
    """Open a regular file of at most `MAX_BYTES`; FIFOs, devices and sockets are never opened.

    Raises:
        UnreadableImageError: it is something else, is too large, or may not be read.
    """
    try:
        problem = _problem(Path(path).stat())
        if problem is None:
            stream = os.fdopen(os.open(path, _OPEN_FLAGS), "rb")
            problem = _problem(os.fstat(stream.fileno()))  # it may have been replaced meanwhile
            if problem is None:
                return stream
            stream.close()
    except OSError as error:
        problem = _failure(error)
    except ValueError:  # a null character
        problem = "no such file"
    raise UnreadableImageError(problem)


def _problem(status: os.stat_result) -> str | None:
    if not stat.S_ISREG(status.st_mode):
        return f"{_KINDS.get(stat.S_IFMT(status.st_mode), 'something else')}, not a file"
    if status.st_size > MAX_BYTES:
        sizes = f"a file of {status.st_size / 1e9:.1f} GB; no picture above {MAX_BYTES / 1e9:.1f}"
        return f"{sizes} GB is read"
    return None


def _failure(error: OSError) -> str:
    if error.errno in (errno.ENOENT, errno.ENOTDIR):
        return "no such file"
    return f"cannot be read: {_one_line(error.strerror).lower()}"


def _one_line(text: object) -> str:
    words = " ".join(str(text).split())
    return "".join(c if c.isprintable() else "?" for c in words)[:_REASON_CHARACTERS]


def _decode(content: bytes, max_pixels: int) -> Image:
    kind = require_picture(content[:HEAD_BYTES])
    try:
        with open_picture(kind, content, max_pixels) as picture:
            picture.load()
            with contextlib.suppress(Exception):  # a damaged EXIF block makes no pixel bad
                PIL.ImageOps.exif_transpose(picture, in_place=True)
            return _to_rgb(picture)
    except (UnreadableImageError, Warning, PIL.Image.DecompressionBombError):
        raise
    except MemoryError:
        raise UnreadableImageError(f"not enough memory to decode this {kind}") from None
    except Exception as error:  # decoders raise anything on damaged data
        words = _one_line(error).replace(*_PILLOWS_WORDS) or type(error).__name__
        raise UnreadableImageError(f"cannot be decoded: {words}") from None


def _to_rgb(picture: PIL.Image.Image) -> UInt8[np.ndarray, "height width 3"]:
    if picture.mode == "F" or picture.mode.startswith("I"):
        grey = _from_floats(picture) if picture.mode == "F" else _from_integers(picture)
        return np.repeat(grey[:, :, None], 3, axis=2)
    if picture.mode == "LAB":
        lab, srgb = PIL.ImageCms.createProfile("LAB"), PIL.ImageCms.createProfile("sRGB")
        return np.array(PIL.ImageCms.profileToProfile(picture, lab, srgb, outputMode="RGB"))
    if picture.has_transparency_data:
        layer = picture.convert("RGBA")
        white = PIL.Image.new("RGBA", layer.size, (255, 255, 255, 255))
        picture = PIL.Image.alpha_composite(white, layer)
    return _pixels(picture if picture.mode == "RGB" else picture.convert("RGB"))


def _pixels(picture: PIL.Image.Image) -> UInt8[np.ndarray, "height width 3"]:
    """The pixels of an RGB picture, some rows at a time: Pillow hands them over as two copies."""
    width, height = picture.size
    pixels = np.empty((height, width, 3), np.uint8)
    step = max(1, _PIXELS_AT_ONCE // width)
    for top in range(0, height, step):
        bottom = min(top + step, height)
        pixels[top:bottom] = np.asarray(picture.crop((0, top, width, bottom)))
    return pixels


def _from_integers(picture: PIL.Image.Image) -> UInt8[np.ndarray, "height width"]:
    values = np.asarray(picture)
    low, high = int(values.min()), int(values.max())
    if low < 0 or high > 65535:
        raise UnreadableImageError(f"integer pixels from {low} to {high}; wanted 0 to 65535")
    if picture.mode == "I" and high <= 255:
        return values.astype(np.uint8)
    return ((values.astype(np.uint32) + 128) // 257).astype(np.uint8)


def _from_floats(picture: PIL.Image.Image) -> UInt8[np.ndarray, "height width"]:
    values = np.asarray(picture)
    low, high = float(values.min()), float(values.max())
    if not (low >= -_FLOAT_SLACK and high <= 255 * (1 + _FLOAT_SLACK)):
        raise UnreadableImageError(f"float pixels from {low:g} to {high:g}; wanted 0 to 255")
    scaled = values * np.float32(255 if high <= 1 + _FLOAT_SLACK else 1)
    return np.rint(scaled).clip(0, 255).astype(np.uint8)
