"""Which picture formats are decoded, told by content; everything else is named and refused.

Only the five decoders that our suffixes stand for are ever handed a file: png, jpg, bmp, tif and
webp. Pillow knows forty more, among them ones that start other programs or read whole films.
"""

import io
import re
import string
from collections.abc import Callable
from typing import Any

from PIL.BmpImagePlugin import BmpImageFile
from PIL.ImageFile import ImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import TILELENGTH, TILEWIDTH, TiffImageFile
from PIL.WebPImagePlugin import WebPImageFile

HEAD_BYTES = 512
"""So much of a file tells its kind."""
MAX_SIDE_PX = 65_535
"""A longer side is refused: JPEG has no longer one, and some decoders allocate rows by the 255."""
MAX_JPEG_SCANS = 100
"""As libtiff: progressive files have about ten; thousands of empty ones keep a decoder busy."""


class UnreadableImageError(ValueError):
    """A picture cannot be used; `reason` is one short line without the path."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class _Tiff(TiffImageFile):
    """Pillow reads EXIF inside `load`; here damaged EXIF data do not make the pixels bad."""

    def load_end(self) -> None:
        try:
            super().load_end()
        except Exception:  # the parser of EXIF raises anything on damaged data
            self.info.pop("exif", None)


_OPENERS: dict[str, Callable[[Any], ImageFile]] = {
    "PNG": PngImageFile,
    "JPEG": JpegImageFile,
    "BMP": BmpImageFile,
    "TIFF": _Tiff,
    "WebP": WebPImageFile,
}
_SIGNATURES: tuple[tuple[int, bytes, str], ...] = (
    (0, b"\x89PNG\r\n\x1a\n", "PNG"),
    (0, b"\xff\xd8\xff", "JPEG"),
    (0, b"BM", "BMP"),
    (0, b"II*\0", "TIFF"),
    (0, b"MM\0*", "TIFF"),
    (0, b"II+\0", "TIFF"),
    (0, b"MM\0+", "TIFF"),
    (8, b"WEBP", "WebP"),
    (0, b"GIF8", "GIF"),
    (0, b"\0\0\0\x0cjP  ", "JPEG 2000"),
    (0, b"\xff\x4f\xff\x51", "JPEG 2000"),
    (0, b"\0\0\0\x0cJXL ", "JPEG XL"),
    (0, b"\xff\x0a", "JPEG XL"),
    (4, b"ftypavi", "AVIF"),
    (4, b"ftyphei", "HEIC"),
    (4, b"ftypmif1", "HEIC"),
    (4, b"ftypmsf1", "HEIC"),
    (4, b"ftyp", "a film"),
    (0, b"8BPS", "Photoshop"),
    (0, b"\0\0\1\0", "an icon"),
    (0, b"%PDF", "PDF"),
    (0, b"%!PS", "PostScript"),
    (0, b"PK\3\4", "a ZIP archive"),
    (0, b"\x1f\x8b", "a gzip archive"),
    (0, b"\x7fELF", "a program"),
    (0, b"MZ", "a program"),
    (0, b"version https://git-lfs", "a Git LFS pointer (`git lfs pull` fetches the picture)"),
)
_TEXT = frozenset(string.printable.encode())
_JPEG_MARKER = re.compile(rb"\xff[\x01-\xcf\xd8-\xfe]")
_JPEG_END, _JPEG_SCAN, _JPEG_BARE = 0xD9, 0xDA, (0x01, 0xD8)


def require_picture(head: bytes) -> str:
    """Tell a picture's format by its first bytes; its name plays no part.

    Args:
        head: the first `HEAD_BYTES` of the file, or all of it.

    Returns:
        PNG, JPEG, BMP, TIFF or WebP.

    Raises:
        UnreadableImageError: another format, or no picture at all.
    """
    found = next((name for at, mark, name in _SIGNATURES if head.startswith(mark, at)), None)
    if found in _OPENERS:
        return str(found)
    if found is None and head and all(byte in _TEXT for byte in head):
        markup = head.lstrip()[:1] == b"<"
        found = "SVG, HTML or other markup" if markup else "text"
    words = f"found {found}; " if found else ""
    raise UnreadableImageError(
        f"not a picture in a known format ({words}wanted png, jpg, bmp, tif or webp)"
    )


def open_picture(kind: str, content: bytes, max_pixels: int) -> ImageFile:
    """Parse a picture's header with the one decoder of its format; no pixel is decoded yet.

    Pillow's `open` is not used: its list of formats and its pixel limit belong to the process.

    Args:
        kind: what `require_picture` said.
        content: the whole file.
        max_pixels: more than this many pixels, also of one TIFF tile, are refused.

    Returns:
        The picture, its size known.

    Raises:
        UnreadableImageError: too large, or made to keep the decoder busy.
        Exception: whatever the parser raises on a damaged header.
    """
    picture = _OPENERS[kind](io.BytesIO(content))
    width, height = picture.size
    if width * height > max_pixels:
        raise UnreadableImageError(
            f"{width}x{height} px is more than the limit of {max_pixels} pixels"
        )
    if max(width, height) > MAX_SIDE_PX:
        raise UnreadableImageError(f"{width}x{height} px has a side of more than {MAX_SIDE_PX} px")
    if isinstance(picture, TiffImageFile):
        tile = [picture.tag_v2.get(tag, 1) for tag in (TILEWIDTH, TILELENGTH)]
        if not all(isinstance(side, int) for side in tile) or tile[0] * tile[1] > max_pixels:
            raise UnreadableImageError(f"a TIFF with tiles of {tile[0]}x{tile[1]} px")
    if kind == "JPEG" and _count_scans(content) > MAX_JPEG_SCANS:
        raise UnreadableImageError(f"a JPEG with more than {MAX_JPEG_SCANS} scans")
    return picture


def _count_scans(content: bytes) -> int:
    """Scans of a JPEG up to its end marker; markers inside other segments do not count."""
    scans, at = 0, 2
    while scans <= MAX_JPEG_SCANS and (found := _JPEG_MARKER.search(content, at)):
        at, marker = found.end(), content[found.end() - 1]
        if marker == _JPEG_END:
            break
        if marker not in _JPEG_BARE:
            at += max(2, int.from_bytes(content[at : at + 2], "big"))
        scans += marker == _JPEG_SCAN
    return scans
