"""What the makers of screenshots share: pictures on the disk."""

from pathlib import Path

from PIL import Image

from scripts.browser import Page


def save(
    page: Page, out: Path, size_wh: tuple[int, int], from_xy: tuple[int, int] = (0, 0)
) -> None:
    """Save a part of what the browser shows, by default its top left, all sizes in px."""
    page.save(out)
    left, top = from_xy
    with Image.open(out) as picture:
        cropped = picture.crop((left, top, left + size_wh[0], top + size_wh[1])).convert("RGB")
    cropped.save(out, optimize=True)
    print(f"wrote {out} ({size_wh[0]} x {size_wh[1]} px)")


def fewer_colours(path: Path) -> None:
    """Write a picture again with the noise of a photograph left out, at a third of the size."""
    with Image.open(path) as picture:
        few = picture.point(lambda value: round(value / 5) * 5)
    few.save(path, optimize=True)
