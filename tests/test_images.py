import io
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from fmbseg.store import UnreadableImageError, UnsafeLinkError, list_images, read_image


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
        "folder.png": "cannot be decoded",
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


def test_links_that_leave_the_folder_are_refused(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "out").mkdir()
    (tmp_path / "out/secret.png").touch()
    (tmp_path / "in/a.png").touch()
    (tmp_path / "in/inside.png").symlink_to(tmp_path / "in/a.png")
    assert list_images(tmp_path / "in") == ["a.png", "inside.png"]
    (tmp_path / "in/link").symlink_to(tmp_path / "out")
    with pytest.raises(UnsafeLinkError, match="leaves the image folder"):
        list_images(tmp_path / "in")
    (tmp_path / "in/link").unlink()
    (tmp_path / "in/link.png").symlink_to("../out/secret.png")
    with pytest.raises(UnsafeLinkError, match=r"secret\.png"):
        list_images(tmp_path / "in")


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(NotADirectoryError, match="nowhere"):
        list_images(Path(tmp_path / "nowhere"))
