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


_DECODERS: dict[str, Callable[[Any], ImageFile]] = {
    "PNG": PngImageFile, "JPEG": JpegImageFile, "BMP": BmpImageFile, "TIFF": _Tiff,
    "WebP": WebPImageFile,
}  # fmt: skip
_SIGNATURES = {
    "PNG": rb"\x89PNG\r\n\x1a\n",
    "JPEG": rb"\xff\xd8\xff",
    "BMP": rb"BM",
    "TIFF": rb"II[*+]\0|MM\0[*+]",
    "WebP": rb".{8}WEBP",
    "GIF": rb"GIF8",
    "JPEG 2000": rb"\0\0\0\x0cjP  |\xff\x4f\xff\x51",
    "JPEG XL": rb"\0\0\0\x0cJXL |\xff\x0a",
    "AVIF": rb".{4}ftypavi",
    "HEIC": rb".{4}ftyp(hei|mif1|msf1)",
    "a film": rb".{4}ftyp",
    "Photoshop": rb"8BPS",
    "an icon": rb"\x00\x00\x01\x00",
    "PDF": rb"%PDF",
    "PostScript": rb"%!PS",
    "a ZIP archive": rb"PK\x03\x04",
    "a gzip archive": rb"\x1f\x8b",
    "a program": rb"\x7fELF|MZ",
    "a Git LFS pointer (`git lfs pull` fetches the picture)": rb"version https://git-lfs",
}
"""How the files of each kind begin; the first that fits counts."""
_TEXT = string.printable.encode()
_JPEG_MARKER = re.compile(rb"\xff([\x01-\xcf\xd8-\xfe])")
_JPEG_END, _JPEG_SCAN, _JPEG_BARE = b"\xd9", b"\xda", b"\x01\xd8"


def require_picture(head: bytes) -> str:
    """Tell a picture's format (PNG, JPEG, BMP, TIFF or WebP) by its first `HEAD_BYTES`.

    Raises:
        UnreadableImageError: another format, or no picture at all.
    """
    kinds = (kind for kind, begin in _SIGNATURES.items() if re.match(begin, head, re.DOTALL))
    found = next(kinds, "")
    if found in _DECODERS:
        return found
    if not found and head and not head.strip(_TEXT):
        found = "SVG, HTML or other markup" if head.lstrip().startswith(b"<") else "text"
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

    Raises:
        UnreadableImageError: too large, or made to keep the decoder busy.
        Exception: whatever the parser raises on a damaged header.
    """
    picture = _DECODERS[kind](io.BytesIO(content))
    width, height = picture.size
    size = f"{width}x{height} px"
    if width * height > max_pixels:
        raise UnreadableImageError(f"{size} is more than the limit of {max_pixels} pixels")
    if max(width, height) > MAX_SIDE_PX:
        raise UnreadableImageError(f"{size} has a side of more than {MAX_SIDE_PX} px")
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
        at, marker = found.end(), found[1]
        if marker == _JPEG_END:
            break
        if marker not in _JPEG_BARE:
            at += max(2, int.from_bytes(content[at : at + 2], "big"))
        scans += marker == _JPEG_SCAN
    return scans
