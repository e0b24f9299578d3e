import errno
import io
import os
import random
import time
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from fmbseg.store import (
    UnreadableImageError,
    list_images,
    read_image,
    scan_images,
)
from fmbseg.store.listing import ImageScan
from tests.support.hostile_pictures import exif, saved


@pytest.fixture
def picture():
    return np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)


def corner_picture():
    """16 x 24, black but for a white block at the top left, to see turns."""
    pixels = np.zeros((16, 24, 3), np.uint8)
    pixels[:8, :8] = 255
    return pixels


def test_an_rgb_png_comes_back_pixel_for_pixel(tmp_path, picture):
    PIL.Image.fromarray(picture).save(tmp_path / "a.png")
    read = read_image(tmp_path / "a.png", max_pixels=35)
    assert read.dtype == np.uint8
    np.testing.assert_array_equal(read, picture)


def test_a_picture_over_the_pixel_limit_is_refused_with_its_size(tmp_path, picture):
    PIL.Image.fromarray(picture).save(tmp_path / "a.png")
    with pytest.raises(UnreadableImageError, match="7x5 px is more than the limit of 34"):
        read_image(tmp_path / "a.png", max_pixels=34)


@pytest.mark.parametrize("mode", ["1", "L", "P", "CMYK", "YCbCr", "LA", "RGBA"])
@pytest.mark.parametrize("kind", ["tiff", "png"])
def test_every_mode_becomes_three_channels(tmp_path, picture, mode, kind):
    if kind == "png" and mode in ("CMYK", "YCbCr"):
        pytest.skip("png has no such mode")
    PIL.Image.fromarray(picture).convert(mode).save(tmp_path / f"a.{kind}")
    assert read_image(tmp_path / f"a.{kind}").shape == (5, 7, 3)


def test_a_cmyk_jpeg_keeps_its_colours(tmp_path):
    red = np.full((16, 24, 3), (200, 20, 30), np.uint8)
    PIL.Image.fromarray(red).convert("CMYK").save(tmp_path / "a.jpg", quality=95)
    assert np.abs(read_image(tmp_path / "a.jpg").astype(int) - (200, 20, 30)).max() < 12


def test_sixteen_bits_are_scaled_not_clipped(tmp_path):
    values = np.array([[0, 257, 32896], [65535, 128, 129]], np.uint16)
    PIL.Image.fromarray(values).save(tmp_path / "a.png")
    expected = np.array([[0, 1, 128], [255, 0, 1]])
    np.testing.assert_array_equal(read_image(tmp_path / "a.png")[:, :, 1], expected)


@pytest.mark.parametrize(("top", "factor"), [(1.0, 255), (200.0, 1)])
def test_float_pixels_are_read_as_one_or_as_255(tmp_path, top, factor):
    PIL.Image.fromarray(np.array([[0, top / 2, top]], np.float32)).save(tmp_path / "a.tif")
    read = read_image(tmp_path / "a.tif")[0, :, 0]
    np.testing.assert_allclose(read, [0, top / 2 * factor, top * factor], atol=0.51)


def test_float_pixels_out_of_range_are_refused(tmp_path):
    PIL.Image.fromarray(np.array([[-3, np.nan, 900]], np.float32)).save(tmp_path / "a.tif")
    with pytest.raises(UnreadableImageError, match="float"):
        read_image(tmp_path / "a.tif")


def test_alpha_lies_over_white(tmp_path):
    pixels = np.zeros((2, 3, 4), np.uint8)
    pixels[0, :, 3] = 255
    PIL.Image.fromarray(pixels).save(tmp_path / "a.png")
    read = read_image(tmp_path / "a.png")
    assert (read[0] == 0).all()
    assert (read[1] == 255).all()


def test_a_transparent_palette_colour_becomes_white(tmp_path):
    palette = PIL.Image.new("P", (4, 3), 1)
    palette.putpalette([10, 20, 30, 40, 50, 60])
    palette.save(tmp_path / "a.png", transparency=1)
    assert (read_image(tmp_path / "a.png") == 255).all()


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tif"])
@pytest.mark.parametrize(
    ("orientation", "corner"),
    [(1, "tl"), (2, "tr"), (3, "br"), (4, "bl"), (5, "tl"), (6, "tr"), (7, "br"), (8, "bl")],
)
def test_exif_orientation_turns_the_picture_upright(tmp_path, suffix, orientation, corner):
    exif = PIL.Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / f"a.{suffix}"
    PIL.Image.fromarray(corner_picture()).save(path, exif=exif, quality=95)
    read = read_image(path)
    assert read.shape[:2] == ((16, 24) if orientation < 5 else (24, 16))
    corners = {
        "tl": read[2, 2, 0],
        "tr": read[2, -3, 0],
        "bl": read[-3, 2, 0],
        "br": read[-3, -3, 0],
    }
    assert max(corners, key=lambda name: corners[name]) == corner
    assert sorted(corners.values())[2] < 60


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
def test_a_damaged_exif_block_does_not_make_the_pixels_bad(tmp_path, picture):
    PIL.Image.fromarray(picture).save(tmp_path / "a.jpg", exif=b"Exif\0\0II*\0\xff\xff\xff\xff")
    assert read_image(tmp_path / "a.jpg").shape == (5, 7, 3)


def test_bad_files_are_refused_with_a_reason(tmp_path):
    (tmp_path / "empty.png").touch()
    (tmp_path / "text.png").write_text("hello, not a picture")
    buffer = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    PIL.Image.fromarray(noise).save(buffer, "jpeg")
    (tmp_path / "cut.jpg").write_bytes(buffer.getvalue()[: len(buffer.getvalue()) // 2])
    buffer = io.BytesIO()
    PIL.Image.fromarray(noise).save(buffer, "png")
    (tmp_path / "cut.png").write_bytes(buffer.getvalue()[:4000])
    (tmp_path / "folder.png").mkdir()
    for name, words in {
        "empty.png": "empty file",
        "text.png": "not a picture",
        "cut.jpg": "truncated",
        "cut.png": "cannot be decoded",
        "folder.png": "^a folder, not a file$",
        "null\0.png": "no such file",
        "absent.png": "no such file",
    }.items():
        with pytest.raises(UnreadableImageError, match=words) as caught:
            read_image(tmp_path / name)
        assert str(tmp_path) not in caught.value.reason
        assert "\n" not in caught.value.reason


def test_listing_finds_pictures_at_any_depth_in_sorted_order(tmp_path):
    for name in ("b.JPG", "a.png", "deep/er/c.webp", "ä ö.tiff", "notes.txt", ".hidden.png"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    assert list_images(tmp_path) == ["a.png", "b.JPG", "deep/er/c.webp", "ä ö.tiff"]


def test_links_that_leave_the_folder_are_refused_one_by_one(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "out").mkdir()
    (tmp_path / "out/secret.png").touch()
    (tmp_path / "in/a.png").touch()
    (tmp_path / "in/inside.png").symlink_to(tmp_path / "in/a.png")
    assert scan_images(tmp_path / "in") == ImageScan(("a.png", "inside.png"), ())
    (tmp_path / "in/link").symlink_to(tmp_path / "out")
    (tmp_path / "in/link.png").symlink_to("../out/secret.png")
    found = scan_images(tmp_path / "in")
    assert found.names == ("a.png", "inside.png")
    assert [one.image for one in found.refused] == ["link", "link.png"]
    assert all("leaves the image folder; copy" in one.reason for one in found.refused)
    assert list_images(tmp_path / "in") == ["a.png", "inside.png"]


def test_a_link_to_the_image_folder_itself_is_followed(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in/a.png").touch()
    (tmp_path / "in/b.png").symlink_to("a.png")
    (tmp_path / "door").symlink_to("in")
    assert list_images(tmp_path / "door") == ["a.png", "b.png"]


def test_folders_nested_deeper_than_python_calls_are_listed(tmp_path):
    folders = [tmp_path]
    for _ in range(1200):
        folders.append(folders[-1] / "d")
        folders[-1].mkdir()
    (folders[-1] / "a.png").touch()
    try:
        assert list_images(tmp_path) == ["d/" * 1200 + "a.png"]
    finally:  # the test runner cannot remove it, it recurses
        (folders[-1] / "a.png").unlink()
        for folder in reversed(folders[1:]):
            folder.rmdir()


@pytest.mark.parametrize("broken", ["stat", "listing", "opening"])
def test_what_the_system_refuses_is_named_and_the_rest_listed(tmp_path, monkeypatch, broken):
    (tmp_path / "sub").mkdir()
    for name in ("a.png", "sub/b.png", "c.png"):
        (tmp_path / name).touch()
    real = {"stat": Path.stat, "listing": os.scandir, "opening": os.open}[broken]

    def denied(path, *arguments, **options):
        if Path(os.fspath(path)).name == ("sub" if broken == "listing" else "c.png"):
            raise PermissionError(errno.EACCES, "Permission denied")
        return real(path, *arguments, **options)

    target = {"stat": (Path, "stat"), "listing": (os, "scandir"), "opening": (os, "open")}[broken]
    monkeypatch.setattr(*target, denied)
    found = scan_images(tmp_path)
    bad, words = ("sub", "listed") if broken == "listing" else ("c.png", "permission denied")
    assert [one.image for one in found.refused] == [bad]
    assert words in found.refused[0].reason
    assert len(found.names) == 2


def test_a_file_that_became_a_fifo_after_it_was_looked_at_is_not_waited_for(tmp_path, monkeypatch):
    path, real = tmp_path / "a.png", Path.stat
    path.touch()

    def replaced(self, **options):
        status = real(self, **options)
        path.unlink()
        os.mkfifo(path)
        return status

    monkeypatch.setattr(Path, "stat", replaced)
    with pytest.raises(UnreadableImageError, match=r"a FIFO \(named pipe\), not a file"):
        read_image(path)


@pytest.mark.parametrize("kind", ["png", "jpeg", "bmp", "tiff", "webp"])
def test_pillows_own_limit_does_not_lower_ours_and_stays_as_it_is(
    tmp_path, picture, monkeypatch, kind
):
    monkeypatch.setattr(PIL.Image, "MAX_IMAGE_PIXELS", 10)
    PIL.Image.fromarray(picture).save(tmp_path / "a", kind)
    assert read_image(tmp_path / "a", max_pixels=35).shape == (5, 7, 3)
    assert PIL.Image.MAX_IMAGE_PIXELS == 10
    with pytest.raises(UnreadableImageError, match="more than the limit of 34 pixels"):
        read_image(tmp_path / "a", max_pixels=34)
    monkeypatch.setattr(PIL.Image, "MAX_IMAGE_PIXELS", 30)  # now only a warning of Pillow's
    assert read_image(tmp_path / "a", max_pixels=35).shape == (5, 7, 3)


def test_no_memory_is_a_reason(tmp_path, picture, monkeypatch):
    def full(self):
        raise MemoryError

    PIL.Image.fromarray(picture).save(tmp_path / "a.png")
    monkeypatch.setattr("PIL.PngImagePlugin.PngImageFile.load", full)
    with pytest.raises(UnreadableImageError, match="not enough memory to decode this PNG"):
        read_image(tmp_path / "a.png")


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("png", {}), ("jpeg", {}), ("jpeg", {"progressive": True}), ("bmp", {}), ("webp", {}),
        ("webp", {"lossless": True}), ("tiff", {}), ("tiff", {"compression": "tiff_lzw"}),
        ("tiff", {"compression": "jpeg"}), ("tiff", {"compression": "tiff_adobe_deflate"}),
    ],
)  # fmt: skip
@pytest.mark.filterwarnings("ignore")
def test_bytes_changed_at_random_give_a_picture_or_a_reason_in_time(tmp_path, kind, options):
    rng, reasons = random.Random(0), []
    noise = np.random.default_rng(0).integers(0, 256, (24, 40, 3), dtype=np.uint8)
    sound, path = saved(noise, kind, exif=exif(6), **options), tmp_path / "a"
    for _ in range(150):
        data = bytearray(sound)
        for _ in range(rng.randint(1, 5)):
            at = rng.randrange(min(len(data), 400) if rng.random() < 0.7 else len(data))
            data[at] = rng.choice((0, 255, rng.randrange(256)))
        path.write_bytes(data[: rng.randrange(len(data))] if rng.random() < 0.2 else data)
        began = time.perf_counter()
        try:
            read = read_image(path)
            assert read.dtype == np.uint8
            assert read.ndim == 3
        except UnreadableImageError as error:
            reasons.append(error.reason)
        assert time.perf_counter() - began < 10
    assert len(reasons) > 10
    assert all(reason and reason.isprintable() for reason in reasons)


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(NotADirectoryError, match="nowhere"):
        list_images(Path(tmp_path / "nowhere"))
