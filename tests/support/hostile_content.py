"""What the files of the hostile folder hold: unusual pictures, and what is none."""

import gzip
import zipfile
import zlib
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import PIL.Image
import PIL.ImageCms

from tests.support import hostile_pictures as make
from tests.support.hostile_pictures import saved

SIZE_HW = (96, 128)
"""Of every good picture."""
_MARKS = {
    "gif": b"GIF89a", "jpeg 2000": b"\0\0\0\x0cjP  \r\n\x87\n", "jpeg xl": b"\xff\x0a",
    "avif": b"\0\0\0\x20ftypavif", "heic": b"\0\0\0\x20ftypheic", "film": b"\0\0\0\x20ftypmp42",
    "photoshop": b"8BPS\0\1", "icon": b"\0\0\1\0\1\0", "pdf": b"%PDF-1.7",
    "postscript": b"%!PS-Adobe",
    "program": b"\x7fELF\2\1\1", "zip": b"PK\3\4", "gzip": gzip.compress(b"text", mtime=0),
}  # fmt: skip


@dataclass
class HostileFolder:
    """What lies in the folder.

    Attributes:
        root: the folder.
        bad: name as it is reported to a pattern of its reason; refused when listed or when read.
        good: name to the pixels it must give.
        off: name to the mean difference that its format costs, where it is not 0.
        too_small: of the bad, those that can be read but not used: too small or too elongated.
    """

    root: Path
    bad: dict[str, str] = field(default_factory=dict)
    good: dict[str, np.ndarray] = field(default_factory=dict)
    off: dict[str, float] = field(default_factory=dict)
    too_small: set[str] = field(default_factory=set)

    def add_good(self, name: str, data: bytes, pixels: np.ndarray, off: float = 0.0) -> None:
        self.write(name, data)
        self.good[name] = pixels
        if off:
            self.off[name] = off

    def add_bad(self, name: str, data: bytes, reason: str) -> None:
        self.write(name, data)
        self.bad[name] = reason

    def write(self, name: str, data: bytes) -> None:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


def add_formats(folder: HostileFolder, rgb: np.ndarray) -> None:
    picture = PIL.Image.fromarray(rgb)
    other = PIL.Image.fromarray(255 - rgb)
    frames = {"save_all": True, "append_images": [other]}
    add = folder.add_good
    add("plain.png", saved(rgb, "png"), rgb)
    add("plain.bmp", saved(rgb, "bmp"), rgb)
    add("plain.jpg", saved(rgb, "jpeg", quality=95), rgb, 12)
    add("progressive.jpeg", saved(rgb, "jpeg", quality=95, progressive=True), rgb, 12)
    add("restarts.jpg", saved(rgb, "jpeg", quality=95, restart_marker_rows=1), rgb, 12)
    add("lossy.webp", saved(rgb, "webp", quality=95), rgb, 12)
    add("lossless.webp", saved(rgb, "webp", lossless=True), rgb)
    for compression in ("raw", "tiff_lzw", "tiff_adobe_deflate", "packbits"):
        add(f"{compression}.tif", saved(rgb, "tiff", compression=compression), rgb)
    add("jpeg inside.tiff", saved(rgb, "tiff", compression="jpeg", quality=95), rgb, 12)
    add("big.tif", saved(rgb, "tiff", big_tiff=True), rgb)
    add("tiles.tif", make.tiff(rgb, 2, tile_px=48), rgb)
    add("bottom up.tif", make.tiff(rgb, 2, order=">"), rgb)
    add("two frames.tif", saved(rgb, "tiff", **frames), rgb)
    add("animated.png", saved(rgb, "png", **frames), rgb)
    add("animated.webp", saved(rgb, "webp", lossless=True, **frames), rgb)
    add("stereo.jpg", saved(rgb, "mpo", quality=95, **frames), rgb, 12)
    add("interlaced.png", make.png(rgb, 2, interlaced=True), rgb)
    add("empty chunks.png", make.png(rgb, 2, before=[(b"IDAT", b"")] * 3), rgb)
    add("unknown chunk.png", make.png(rgb, 2, before=[(b"xxXx", bytes(99))]), rgb)
    add("data checksum.png", make.with_bad_crc(make.png(rgb, 2), b"IDAT"), rgb)
    add("trailing.jpg", saved(rgb, "jpeg", quality=95) + b"\xff\xda garbage" * 500, rgb, 12)
    add("trailing.png", saved(rgb, "png") + bytes(5000), rgb)
    add("png inside.jpg", saved(rgb, "png"), rgb)
    add("jpeg inside.png", saved(rgb, "jpeg", quality=95), rgb, 12)
    add("webp inside.jpeg", saved(rgb, "webp", lossless=True), rgb)
    add("bmp inside.tif", saved(rgb, "bmp"), rgb)
    add("large profile.jpg", saved(rgb, "jpeg", quality=95, icc_profile=bytes(200_000)), rgb, 12)
    inks = picture.convert("CMYK")
    adobe = saved(inks, "jpeg", quality=95)
    add("inks.jpg", adobe, rgb, 12)
    add("inks without mark.jpg", make.without_jpeg_segment(adobe, 0xEE), rgb, 12)
    add("inks.tif", saved(inks, "tiff"), rgb)
    add("luma.tif", saved(picture.convert("YCbCr"), "tiff"), rgb, 3)
    lab, srgb = PIL.ImageCms.createProfile("LAB"), PIL.ImageCms.createProfile("sRGB")
    in_lab = PIL.ImageCms.profileToProfile(picture, srgb, lab, outputMode="LAB")
    add("lab.tif", saved(in_lab, "tiff"), rgb, 3)
    colours, left = make.high_colour_bmp(rgb)
    add("high colour, from the top.bmp", colours, left)


def add_depths(folder: HostileFolder, rgb: np.ndarray) -> None:
    picture = PIL.Image.fromarray(rgb)
    grey = np.asarray(picture.convert("L"))
    as_rgb = np.repeat(grey[:, :, None], 3, axis=2)
    add = folder.add_good
    add("grey.png", saved(grey, "png"), as_rgb)
    add("grey.jpg", saved(grey, "jpeg", quality=95), as_rgb, 12)
    add("run lengths.bmp", make.run_length_bmp(grey), as_rgb)
    one_bit = picture.convert("1")
    for kind in ("png", "bmp", "tiff"):
        add(f"one bit.{kind}", saved(one_bit, kind), np.asarray(one_bit.convert("RGB")))
    palette = picture.quantize(16)
    for kind in ("png", "bmp", "tiff"):
        add(f"palette.{kind}", saved(palette, kind), np.asarray(palette.convert("RGB")))
    holes = np.asarray(palette.convert("RGB")).copy()
    holes[np.asarray(palette) == 3] = 255
    add("palette with a hole.png", saved(palette, "png", transparency=3), holes)
    alpha = np.zeros(grey.shape, np.uint8)
    alpha[:, 40:] = 255
    white = np.full_like(rgb, 255)
    add("alpha.png", saved(np.dstack([rgb, alpha]), "png"), np.where(alpha[..., None], rgb, white))
    add(
        "grey and alpha.png", make.png(np.dstack([grey, alpha]), 4),
        np.where(alpha[..., None], as_rgb, white),
    )  # fmt: skip
    add(
        "alpha.webp", saved(np.dstack([rgb, alpha]), "webp", lossless=True, exact=True),
        np.where(alpha[..., None], rgb, white),
    )  # fmt: skip
    deep, deep_grey = rgb.astype(np.uint16) * 257, (grey.astype(np.uint16) * 257)[..., None]
    add("16 bits.png", make.png(deep, 2), rgb)
    add("16 bits grey.png", make.png(deep_grey, 0), as_rgb)
    add("16 bits interlaced.png", make.png(deep_grey, 0, interlaced=True), as_rgb)
    for order, name in (("<", "little"), (">", "big")):
        add(f"16 bits {name}.tif", make.tiff(deep, 2, order=order), rgb)
        add(f"16 bits grey {name}.tif", make.tiff(deep_grey, 1, order=order), as_rgb)
    wide = deep_grey.astype(np.int32)
    add("32 bits.tif", make.tiff(wide, 1, sample_format=2), as_rgb)
    add("32 bits to 255.tif", make.tiff(wide // 257, 1, sample_format=2), as_rgb)
    floats = (grey.astype(np.float32) / 255)[..., None]
    add("floats to 1.tif", make.tiff(floats, 1, sample_format=3), as_rgb)
    add("floats to 255.tif", make.tiff(floats * 255, 1, sample_format=3), as_rgb)
    add("smallest.png", saved(rgb[:8, :8], "png"), rgb[:8, :8])
    add(
        "longest.png",
        saved(rgb[:1].repeat(8, 0).repeat(3, 1), "png"),
        rgb[:1].repeat(8, 0).repeat(3, 1),
    )


def add_exif(folder: HostileFolder, rgb: np.ndarray) -> None:
    for turn in range(1, 9):
        lying = make.laid_down(rgb, turn)
        data = saved(lying, "jpeg", quality=100, subsampling=0, exif=make.exif(turn))
        folder.add_good(f"exif/turned {turn}.jpg", data, rgb, 2)
    lying = make.laid_down(rgb, 6)
    for kind in ("png", "webp", "tiff"):
        lossless = {"lossless": True} if kind == "webp" else {}
        data = saved(lying, kind, exif=make.exif(6), **lossless)
        folder.add_good(f"exif/turned 6.{kind}", data, rgb)
    plain = saved(rgb, "jpeg", quality=100, subsampling=0)
    for name, block in {
        "cut": b"Exif\0\0II*\0\xff\xff\xff\xff", "noise": b"Exif\0\0" + bytes(range(256)),
        "empty": b"Exif\0\0", "unknown turn": make.exif(9).tobytes(),
    }.items():  # fmt: skip
        folder.add_good(f"exif/{name}.jpg", make.with_jpeg_segment(plain, 0xE1, block), rgb, 2)
    nowhere = make.tiff(lying, 2, more=[(274, 3, 6), (34665, 4, 999_999), (34853, 4, 20)])
    folder.add_good("exif/turned, rest damaged.tif", nowhere, rgb)


def add_kinds(folder: HostileFolder) -> None:
    add = folder.add_bad
    add("bad/empty.png", b"", "^empty file$")
    add("bad/one byte.jpg", b"\xff", "not a picture in a known format")
    add("bad/text.png", b"hello, I am no picture\n", "found text")
    add(
        "bad/lfs.jpg", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "git lfs pull"
    )
    add("bad/markup.png", b"<!DOCTYPE html><html>404</html>", "SVG, HTML")
    add("bad/drawing.png", b'<svg xmlns="http://www.w3.org/2000/svg"/>', "SVG, HTML")
    add("bad/noise.png", np.random.default_rng(0).bytes(5000), "not a picture")
    add("bad/zeros.png", bytes(5000), "not a picture")
    for name, mark in _MARKS.items():
        add(f"bad/{name}.png", mark + bytes(600), "not a picture in a known format .found")
    with zipfile.ZipFile(folder.root / "bad/archive.jpg", "w") as archive:
        archive.writestr("a.png", b"x")
    folder.bad["bad/archive.jpg"] = "ZIP archive"


def add_damage(folder: HostileFolder, rgb: np.ndarray) -> None:
    add = folder.add_bad
    noise = np.random.default_rng(0).integers(0, 256, (96, 128, 3), dtype=np.uint8)
    for kind, options in {
        "png": {}, "jpeg": {}, "webp": {}, "bmp": {}, "tiff": {"compression": "tiff_lzw"},
    }.items():  # fmt: skip
        whole = saved(noise, kind, **options)
        add(f"bad/half.{kind}", whole[: len(whole) // 2], "^cannot be decoded: ")
        add(f"bad/head.{kind}", whole[:20], "^cannot be decoded: ")
    progressive = saved(noise, "jpeg", progressive=True)
    add("bad/half progressive.jpg", progressive[: len(progressive) // 2], "truncated")
    raw = make.tiff(noise, 2)
    add("bad/half raw.tif", raw[: len(raw) // 2], "truncated|cannot be decoded")
    add(
        "bad/header checksum.png",
        make.with_bad_crc(make.png(rgb, 2), b"IHDR"),
        "checksum in b'IHDR'",
    )
    text = make.png(rgb, 2, before=[(b"tEXt", b"a\0b")])
    add("bad/text checksum.png", make.with_bad_crc(text, b"tEXt"), "checksum in b'tEXt'")
    add("bad/junk data.png", make.png(rgb, 2, data=b"junk" * 20), "cannot be decoded")
    add("bad/no data.png", make.png(rgb, 2, data=b""), "cannot be decoded")
    flipped = bytearray(saved(noise, "png"))
    flipped[len(flipped) // 2] ^= 0x40
    add("bad/flipped bit.png", bytes(flipped), "cannot be decoded")
    for size in ((0, 96), (128, 0)):
        name = f"bad/{size[0]} by {size[1]}"
        add(f"{name}.png", make.png(rgb, 2, claimed_wh=size), "header is damaged")
        add(f"{name}.jpg", make.with_jpeg_size(saved(rgb, "jpeg"), *size), "header is damaged")
        add(f"{name}.tif", make.tiff(rgb, 2, claimed_wh=size), "cannot be decoded")
    add("bad/unknown bits.bmp", make.bmp((128, 96), 7, 0, bytes(9999)), "Unsupported BMP")
    add("bad/no such directory.tif", b"II*\0\xff\xff\xff\x7f" + bytes(99), "cannot be decoded")
    add("bad/five channels.tif", make.tiff(rgb.repeat(3, axis=2), 2), "cannot be decoded")
    add("bad/frame header only.jpg", saved(rgb, "jpeg")[:170], "cannot be decoded")
    add("bad/riff.webp", b"RIFF\x30\0\0\0WEBPVP8 " + bytes(300), "cannot be decoded")


def add_bombs(folder: HostileFolder, rgb: np.ndarray) -> None:
    add = folder.add_bad
    over, huge = "more than the limit of", (65_000, 65_000)
    jpeg = saved(rgb, "jpeg")
    add("bad/huge.png", make.png(rgb, 2, claimed_wh=huge), over)
    add("bad/huge.jpg", make.with_jpeg_size(jpeg, *huge), over)
    add("bad/huge.tif", make.tiff(rgb, 2, claimed_wh=huge), over)
    add("bad/huge.bmp", make.bmp(huge, 24, 0, bytes(99)), over)
    add("bad/huge.webp", b"RIFF\x12\0\0\0WEBPVP8L\x05\0\0\0/\xff\xff\xff\x0f\0", over)
    add(
        "bad/long.bmp",
        make.bmp((90_000_000, 1), 8, 1, b"\0\2\xff\xff" * 9, bytes(1024)),
        "a side of",
    )
    bomb = b"a\0\0" + zlib.compress(bytes(30_000_000), 9)
    add("bad/text bomb.png", make.png(rgb, 2, before=[(b"zTXt", bomb)]), "too large")
    add("bad/profile bomb.png", make.png(rgb, 2, before=[(b"iCCP", bomb)]), "too large")
    add("bad/late text bomb.png", make.png(rgb, 2, after=[(b"zTXt", bomb)]), "too large")
    tile = make.tiff(rgb, 2, tile_px=32, more=[(322, 4, 40_000), (323, 4, 40_000)])
    add("bad/tile bomb.tif", tile, "tiles of 40000x40000")
    scans = make.with_many_scans(saved(rgb, "jpeg", progressive=True), 5000)
    add("bad/scan bomb.jpg", scans, "more than 100 scans")
    with (folder.root / "bad/sparse.png").open("wb") as sparse:
        sparse.truncate(2**31)
    folder.bad["bad/sparse.png"] = "a file of 2.1 GB"


def add_values(folder: HostileFolder) -> None:
    ramp = np.linspace(0, 1, 96 * 128, dtype=np.float32).reshape(96, 128, 1)
    for name, value in {"nan": np.nan, "inf": np.inf, "minus inf": -np.inf, "below": -3}.items():
        spoiled = ramp.copy()
        spoiled[5, 7] = value
        data = make.tiff(spoiled, 1, sample_format=3)
        folder.add_bad(f"bad/float {name}.tif", data, "^float pixels from ")
    folder.add_bad("bad/float 1000.tif", make.tiff(ramp * 1000, 1, sample_format=3), "to 1000")
    for name, factor in {"below": -99, "above": 2**30}.items():
        data = make.tiff((ramp * factor).astype(np.int32), 1, sample_format=2)
        folder.add_bad(f"bad/integer {name}.tif", data, "^integer pixels from ")
    for name, size_hw in {"dot": (1, 1), "strip": (7, 100), "needle": (10, 600)}.items():
        words = "too elongated" if name == "needle" else "is smaller than 8 px"
        folder.add_bad(f"bad/{name}.png", saved(np.zeros((*size_hw, 3), np.uint8), "png"), words)
        folder.too_small.add(f"bad/{name}.png")
