"""Unusual and hostile picture files as bytes, most of them written by hand."""

import io
import struct
import zlib
from collections.abc import Iterable, Sequence

import numpy as np
import PIL.Image

Chunk = tuple[bytes, bytes]
ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2),
         (0, 1, 1, 2))  # fmt: skip
"""First column, first row, step across, step down of PNG's seven passes."""


def saved(picture: PIL.Image.Image | np.ndarray, kind: str, **options: object) -> bytes:
    """What Pillow writes."""
    if isinstance(picture, np.ndarray):
        picture = PIL.Image.fromarray(picture)
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def chunk(name: bytes, data: bytes, crc: int | None = None) -> bytes:
    check = zlib.crc32(name + data) if crc is None else crc
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", check)


def png(
    pixels: np.ndarray,
    colour: int,
    *,
    before: Sequence[Chunk] = (),
    after: Sequence[Chunk] = (),
    interlaced: bool = False,
    claimed_wh: tuple[int, int] | None = None,
    data: bytes | None = None,
) -> bytes:
    """A PNG of uint8 or uint16 pixels [height width channel].

    `colour` is PNG's type: 0 grey, 2 RGB, 4 grey + alpha, 6 RGBA.
    """
    height, width = pixels.shape[:2]
    big = pixels.astype(pixels.dtype.newbyteorder(">"))
    passes = ADAM7 if interlaced else ((0, 0, 1, 1),)
    raw = b"".join(
        b"\0" + row.tobytes()
        for left, top, across, down in passes
        for row in big[top::down, left::across]
        if row.size
    )
    size = claimed_wh or (width, height)
    header = struct.pack(">IIBBBBB", *size, 8 * pixels.itemsize, colour, 0, 0, int(interlaced))
    body = [(b"IHDR", header), *before, (b"IDAT", zlib.compress(raw) if data is None else data)]
    ends = [*after, (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(name, content) for name, content in body + ends)


def with_bad_crc(whole_png: bytes, name: bytes) -> bytes:
    """Spoil the checksum of the first chunk of a name."""
    at = whole_png.index(name) - 4
    end = at + 8 + int.from_bytes(whole_png[at : at + 4], "big")
    return whole_png[:end] + b"\0\0\0\0" + whole_png[end + 4 :]


def tiff(
    pixels: np.ndarray,
    photometric: int,
    *,
    order: str = "<",
    sample_format: int = 1,
    tile_px: int | None = None,
    claimed_wh: tuple[int, int] | None = None,
    more: Iterable[tuple[int, int, int]] = (),
) -> bytes:
    """An uncompressed TIFF [height width channel], as one strip or in square tiles.

    `more`: (tag, type 3 or 4, value) added or replaced.
    """
    height, width, samples = pixels.shape
    big = pixels.astype(pixels.dtype.newbyteorder(order))
    blocks = [big.tobytes()]
    if tile_px is not None:
        down, across = -(-height // tile_px), -(-width // tile_px)
        padding = ((0, down * tile_px - height), (0, across * tile_px - width), (0, 0))
        padded = np.pad(big, padding)
        blocks = [
            padded[y * tile_px : (y + 1) * tile_px, x * tile_px : (x + 1) * tile_px].tobytes()
            for y in range(down)
            for x in range(across)
        ]
    size = claimed_wh or (width, height)
    entries: dict[int, tuple[int, list[int]]] = {
        256: (4, [size[0]]), 257: (4, [size[1]]), 258: (3, [8 * pixels.itemsize] * samples),
        259: (3, [1]), 262: (3, [photometric]), 277: (3, [samples]),
        339: (3, [sample_format] * samples),
    }  # fmt: skip
    if tile_px is None:
        entries |= {273: (4, [0]), 278: (4, [size[1]]), 279: (4, [len(blocks[0])])}
    else:
        entries |= {322: (4, [tile_px]), 323: (4, [tile_px])}
        entries |= {324: (4, [0] * len(blocks)), 325: (4, [len(block) for block in blocks])}
    entries |= {tag: (kind, [value]) for tag, kind, value in more}
    sizes = {3: 2, 4: 4}
    spare = sum(len(v) * sizes[k] for k, v in entries.values() if len(v) * sizes[k] > 4)
    start = 8 + 2 + 12 * len(entries) + 4
    offsets = np.cumsum([start + spare, *[len(block) for block in blocks[:-1]]]).tolist()
    entries[273 if tile_px is None else 324] = (4, offsets)
    table, values = b"", b""
    for tag, (kind, numbers) in sorted(entries.items()):
        packed = struct.pack(f"{order}{len(numbers)}{'H' if kind == 3 else 'I'}", *numbers)
        if len(packed) > 4:
            place, values = struct.pack(f"{order}I", start + len(values)), values + packed
        else:
            place = packed.ljust(4, b"\0")
        table += struct.pack(f"{order}HHI", tag, kind, len(numbers)) + place
    head = (b"II" if order == "<" else b"MM") + struct.pack(f"{order}HI", 42, 8)
    return (
        head + struct.pack(f"{order}H", len(entries)) + table + bytes(4) + values + b"".join(blocks)
    )


def bmp(
    size_wh: tuple[int, int], bits: int, compression: int, data: bytes, palette: bytes = b"",
    masks: bytes = b"",
) -> bytes:  # fmt: skip
    """A BMP with a 40-byte header; a negative height means rows from the top."""
    offset = 14 + 40 + len(masks) + len(palette)
    header = struct.pack(
        "<IiiHHIIiiII", 40, *size_wh, 1, bits, compression, len(data), 0, 0, len(palette) // 4, 0
    )
    start = b"BM" + struct.pack("<IHHI", offset + len(data), 0, 0, offset)
    return start + header + masks + palette + data


def run_length_bmp(grey: np.ndarray) -> bytes:
    """Eight bits, run-length coded, grey palette; rows from the bottom."""
    rows = b"".join(
        b"".join(bytes((1, int(value))) for value in row) + b"\0\0" for row in grey[::-1]
    )
    palette = b"".join(bytes((v, v, v, 0)) for v in range(256))
    return bmp((grey.shape[1], grey.shape[0]), 8, 1, rows + b"\0\1", palette)


def high_colour_bmp(rgb: np.ndarray) -> tuple[bytes, np.ndarray]:
    """16 bits a pixel (5, 6, 5), rows from the top; and the colours that are left."""
    r, g, b = (rgb[:, :, c].astype(np.uint16) for c in range(3))
    packed = (r >> 3 << 11) | (g >> 2 << 5) | (b >> 3)
    masks = struct.pack("<III", 0xF800, 0x07E0, 0x001F)
    left = np.stack([(r >> 3) * 255 // 31, (g >> 2) * 255 // 63, (b >> 3) * 255 // 31], axis=2)
    height, width = rgb.shape[:2]
    return bmp((width, -height), 16, 3, packed.tobytes(), masks=masks), left.astype(np.uint8)


def with_jpeg_segment(jpeg: bytes, marker: int, data: bytes) -> bytes:
    """Put a segment right behind the start."""
    return jpeg[:2] + bytes((0xFF, marker)) + struct.pack(">H", len(data) + 2) + data + jpeg[2:]


def without_jpeg_segment(jpeg: bytes, marker: int) -> bytes:
    """Take the first segment of a kind out."""
    at = jpeg.index(bytes((0xFF, marker)))
    return jpeg[:at] + jpeg[at + 2 + int.from_bytes(jpeg[at + 2 : at + 4], "big") :]


def with_jpeg_size(jpeg: bytes, width: int, height: int) -> bytes:
    """Claim another size in the frame header."""
    at = max(jpeg.find(b"\xff\xc0\0\x11"), jpeg.find(b"\xff\xc2\0\x11"))
    return jpeg[: at + 5] + struct.pack(">HH", height, width) + jpeg[at + 9 :]


def with_many_scans(progressive: bytes, count: int) -> bytes:
    """Repeat the last scan of a progressive JPEG."""
    last = progressive.rindex(b"\xff\xda")
    return progressive[:-2] + progressive[last:-2] * count + progressive[-2:]


def exif(orientation: int) -> PIL.Image.Exif:
    found = PIL.Image.Exif()
    found[0x0112] = orientation
    return found


def laid_down(rgb: np.ndarray, orientation: int) -> np.ndarray:
    """Pixels as a camera stores them that writes this EXIF orientation."""
    return {
        1: rgb, 2: rgb[:, ::-1], 3: rgb[::-1, ::-1], 4: rgb[::-1], 5: rgb.transpose(1, 0, 2),
        6: np.rot90(rgb), 7: rgb[::-1, ::-1].transpose(1, 0, 2), 8: np.rot90(rgb, -1),
    }[orientation].copy()  # fmt: skip
