"""One page of an export: some of its images with their labels, the most doubtful ones first."""

import base64
import heapq
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from PIL import Image as PilImage

from fmbseg.export.labelled import NONE, LabelledImage
from fmbseg.export.regions import doubt_of
from fmbseg.pictures.colours import Palette, palette
from fmbseg.pictures.layers import compose, outlines_layer, resized
from fmbseg.store import encode_image, read_image, write_bytes
from fmbseg.store.names import printable

DATA_FILES = ("templates/*.j2",)
PAGE = "index.html"
DOUBTFUL = 24
"""So many of the most doubtful images are shown."""
OTHERS = 96
"""So many of the others, spread evenly."""
_LONG_SIDE_PX = 320


@dataclass(frozen=True)
class Thumbnail:
    """A small picture of an image with its labels.

    Attributes:
        name: of the image.
        doubt: 0 to 1, see `doubt_of`.
        classes: those of its labels.
        source: the picture, as a data URI.
    """

    name: str
    doubt: float
    classes: tuple[str, ...]
    source: str


class ContactSheet:
    """Collects thumbnails of images that go by; keeps no more of them than the page shows."""

    def __init__(self, class_names: Sequence[str], total: int) -> None:
        """Nothing is collected yet.

        Args:
            class_names: what the labels mean.
            total: number of images that will go by.
        """
        self._names, self._colours = class_names, palette(max(1, len(class_names)))
        self._every = max(1, total // OTHERS)
        self._seen = 0
        self._doubtful: list[tuple[float, int, Thumbnail]] = []
        self._spread: list[Thumbnail] = []
        self.doubts: dict[str, float] = {}
        """Name of every image so far to its doubt."""

    def over(self, images: Iterator[LabelledImage]) -> Iterator[LabelledImage]:
        """Hand the images on, and keep thumbnails of some."""
        for one in images:
            doubt = self.doubts[one.name] = doubt_of(one.confidence)
            spread = self._seen % self._every == 0
            entry = len(self._doubtful) < DOUBTFUL or doubt > self._doubtful[0][0]
            if spread or entry:
                picture = self._thumbnail(one, doubt)
                if entry:
                    heapq.heappush(self._doubtful, (doubt, -self._seen, picture))
                    if len(self._doubtful) > DOUBTFUL:
                        heapq.heappop(self._doubtful)
                if spread:
                    self._spread.append(picture)
            self._seen += 1
            yield one

    def write(self, out: Path, title: str, facts: Mapping[str, Any]) -> None:
        """Write the page into the export's folder.

        Args:
            out: the folder.
            title: of the page.
            facts: name of a fact to what it says, for its table.
        """
        first = [picture for _, _, picture in sorted(self._doubtful, key=lambda e: (-e[0], -e[1]))]
        shown = {picture.name for picture in first}
        folder = Path(__file__).parent / "templates"
        environment = Environment(
            loader=FileSystemLoader(folder), autoescape=True, undefined=StrictUndefined,
            trim_blocks=True, lstrip_blocks=True,
        )  # fmt: skip
        page = environment.get_template("sheet.html.j2").render(
            title=title, facts=facts, doubtful=first, printable=printable,
            others=[picture for picture in self._spread if picture.name not in shown],
            legend=[(name, _css(self._colours, index)) for index, name in enumerate(self._names)],
        )  # fmt: skip
        write_bytes(out / PAGE, page.encode())

    def _thumbnail(self, one: LabelledImage, doubt: float) -> Thumbnail:
        height, width = one.image_hw
        scale = min(1.0, _LONG_SIDE_PX / max(height, width))
        size_hw = max(1, round(height * scale)), max(1, round(width * scale))
        image = PilImage.fromarray(read_image(one.file)).resize(size_hw[::-1])
        outlines = outlines_layer(resized(one.labels, size_hw), self._colours, NONE)
        drawn = compose(np.asarray(image), outlines)
        data = encode_image(PilImage.fromarray(drawn), "JPEG", quality=80)
        present = sorted({region.class_index for region in one.regions})
        return Thumbnail(
            one.name, doubt, tuple(self._names[index] for index in present),
            f"data:image/jpeg;base64,{base64.b64encode(data).decode()}",
        )  # fmt: skip


def _css(colours: Palette, index: int) -> str:
    return "#{:02x}{:02x}{:02x}".format(*(int(value) for value in colours[index]))
