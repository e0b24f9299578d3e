"""The image files of an export: copied, linked or left, and always the way up that labels are."""

from pathlib import Path, PurePosixPath
from typing import Any

from PIL import Image as PilImage
from PIL.ExifTags import Base
from PIL.ImageFile import ImageFile

from fmbseg.export.labelled import ExportError, ExportPlan, LabelledImage
from fmbseg.store import MAX_PIXELS, UnreadableImageError, decode_image, encode_image, write_bytes
from fmbseg.store.formats import HEAD_BYTES, open_picture, require_picture
from fmbseg.store.images import open_regular

_UPRIGHT: dict[str, dict[str, Any]] = {
    "JPEG": {"quality": 95, "subsampling": 0}, "WebP": {"lossless": True}
}  # fmt: skip


class ImagePlacer:
    """Puts images beside their labels as the plan says.

    Labels belong to an image turned upright. Some programs obey the EXIF orientation and some do
    not, so an image that has one is written upright, without EXIF data, and fits its labels in
    all of them: JPEG at quality 95, other kinds without loss. All others stay as they are, byte
    for byte.
    """

    def __init__(self, plan: ExportPlan) -> None:
        self._plan = plan
        self._turned = 0
        self._renamed = 0

    def place(self, one: LabelledImage, target: Path) -> None:
        """Put one image at `target`, or do nothing where images are left.

        Raises:
            ExportError: the file has gone or is no picture any more, or the disk takes no links.
        """
        try:
            with open_regular(one.file) as stream:
                content = stream.read()
            upright = _upright(content)
        except UnreadableImageError as error:
            raise ExportError(
                f"{one.file}: {error.reason}; wanted the image that was labelled. Put it back, or "
                "run again without it"
            ) from None
        self._turned += upright is not None
        self._renamed += one.stem != str(PurePosixPath(one.name).with_suffix(""))
        if self._plan.images == "leave":
            return
        if upright is None and self._plan.images == "link":
            target.parent.mkdir(parents=True, exist_ok=True)
            try:
                target.symlink_to(one.file.resolve())
            except OSError as error:
                raise ExportError(
                    f"{target}: the disk takes no link ({error.strerror}); copy the images"
                ) from None
            return
        write_bytes(target, content if upright is None else upright)

    def notes(self) -> dict[str, object]:
        """What the user should know of the images, by name; nothing where all is plain.

        Images with an EXIF orientation, and images that are left under a name whose stem is not
        their labels' stem.
        """
        left = self._plan.images == "leave"
        counts = {
            "images_with_exif_orientation": self._turned,
            "images_called_unlike_their_labels": self._renamed if left else 0,
        }
        return {name: count for name, count in counts.items() if count}


def image_name(one: LabelledImage) -> str:
    """What a placed image is called: its stem with its own suffix."""
    return one.stem + PurePosixPath(one.name).suffix


def named_image(one: LabelledImage, plan: ExportPlan) -> str:
    """What labels call the image: as it is placed, or by its own name where it is left."""
    return one.name if plan.images == "leave" else image_name(one)


def escaped_folders(stem: str, reserved: str) -> str:
    """A stem of which no folder has the reserved name, and still unlike any other stem.

    Args:
        stem: with forward slashes.
        reserved: a name that a tool looks for in paths, such as `images`.
    """
    *folders, last = stem.split("/")
    return "/".join([*(f"{n}_" if n.rstrip("_") == reserved else n for n in folders), last])


def _upright(content: bytes) -> bytes | None:
    kind = require_picture(content[:HEAD_BYTES])
    with open_picture(kind, content, MAX_PIXELS) as picture:
        if _orientation(picture) == 1:
            return None
    turned = PilImage.fromarray(decode_image(content))
    return encode_image(turned, kind.upper(), **_UPRIGHT.get(kind, {}))


def _orientation(picture: ImageFile) -> int:
    try:
        found = picture.getexif().get(Base.Orientation, 1)
    except Exception:  # a damaged EXIF block turns nothing, as when images are read
        return 1
    return found if found in range(2, 9) else 1
