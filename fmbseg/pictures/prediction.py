"""A label map that shows itself in a notebook: a picture, a legend, and the same in words."""

import base64
import html
from dataclasses import dataclass, fields

import numpy as np
from jaxtyping import UInt8
from PIL import Image as PilImage

from fmbseg.pictures.answers import NONE, overlay_png, painted
from fmbseg.pictures.colours import palette
from fmbseg.pictures.drawing import colourise
from fmbseg.pictures.large import label_counts
from fmbseg.pictures.layers import resized
from fmbseg.store import encode_image
from fmbseg.store.names import printable
from fmbseg.types import IGNORE, Image, LabelMap

Picture = UInt8[np.ndarray, "shown_height shown_width 3"]
"""RGB, 0 to 255, at the size at which it is shown."""
SHOWN_PX = 640
"""The longer side of a shown picture, at most."""
_SMALL_PX = 320
"""A smaller picture is shown enlarged, each pixel a square."""
_LISTED = 24
"""So many classes stand in the legend, the largest first; the others are counted."""
_SWATCH = (
    "display:inline-block;width:1em;height:1em;margin-right:.4em;vertical-align:-.15em;"
    "border:1px solid #888;background:"
)


@dataclass(frozen=True, repr=False)
class Prediction(LabelMap):
    """A label map with the image that it is of; Jupyter shows both.

    Attributes:
        picture: the image, made smaller where its longer side has more than `SHOWN_PX` pixels.
    """

    picture: Picture | None = None

    @staticmethod
    def of(found: LabelMap, image: Image | None) -> "Prediction":
        """A label map as a prediction.

        Args:
            found: the label map.
            image: what it is of, same size; None where it is not at hand: colours alone are shown.
        """
        values = {field.name: getattr(found, field.name) for field in fields(LabelMap)}
        return Prediction(**values, picture=None if image is None else _small(image))

    def __repr__(self) -> str:
        """Size and classes by area."""
        height, width = self.labels.shape
        return printable(f"Prediction of {width} x {height} px: {self._in_words()}")

    def shares(self) -> dict[str | None, float]:
        """Each class's share of the area, the largest first; under None that of no class."""
        ordered = sorted(label_counts(self.labels).items(), key=lambda one: -one[1])
        return {
            None if label == IGNORE else self.class_names[label]: count / self.labels.size
            for label, count in ordered
        }

    def _in_words(self) -> str:
        found = [f"{name or NONE} {share:.0%}" for name, share in self.shares().items()]
        more = [f"and {len(found) - _LISTED} more"] if len(found) > _LISTED else []
        return ", ".join([*found[:_LISTED], *more])

    def _repr_png_(self) -> bytes:
        """Image, classes and legend as one PNG."""
        image, labels = self._shown()
        present = list(label_counts(labels))
        names = [printable(name) for name in self.class_names]
        return overlay_png(image, labels, names, palette(len(names)), present)

    def _repr_html_(self) -> str:
        """The picture with its text alternative, and a legend of real text."""
        image, labels = self._shown()
        drawn = painted(image, labels, palette(len(self.class_names)))
        data = base64.b64encode(encode_image(PilImage.fromarray(drawn))).decode()
        words = f"The image with its classes drawn over it: {printable(self._in_words())}"
        return (
            '<figure style="margin:0">'
            f'<img alt="{html.escape(words)}" width="{drawn.shape[1]}" height="{drawn.shape[0]}" '
            f'style="max-width:100%;height:auto" src="data:image/png;base64,{data}">'
            f"<figcaption>{self._legend()}</figcaption></figure>"
        )

    def _legend(self) -> str:
        colours = [bytes(colour).hex() for colour in palette(len(self.class_names))]
        places = {name: place for place, name in enumerate(self.class_names)}
        shares = self.shares()
        items = [
            f'<span style="display:inline-block;margin-right:1.2em"><span style="{_SWATCH}'
            f'#{"ffffff" if name is None else colours[places[name]]}"></span>'
            f"<bdi>{html.escape(printable(name or NONE))}</bdi> {share:.0%}</span>"
            for name, share in list(shares.items())[:_LISTED]
        ]
        more = [f"and {len(shares) - _LISTED} more"] if len(shares) > _LISTED else []
        return "".join([*items, *more])

    def _shown(self) -> tuple[Picture, np.ndarray]:
        """Image and labels at the size at which they are shown; colours without an image."""
        height, width = self.labels.shape
        longest = max(height, width)
        scale = min(1.0, SHOWN_PX / longest) if longest >= _SMALL_PX else -(-_SMALL_PX // longest)
        size_hw = max(1, round(height * scale)), max(1, round(width * scale))
        labels = resized(self.labels, size_hw)
        if self.picture is None:
            return colourise(labels, palette(len(self.class_names))), labels
        return np.ascontiguousarray(resized(self.picture, size_hw)), labels


def _small(image: Image) -> Picture:
    """At most `SHOWN_PX` a side; of a large image few pixels are read, so that it takes no time."""
    longest = max(image.shape[:2])
    if longest <= SHOWN_PX:
        return image
    step = max(1, longest // (4 * SHOWN_PX))
    size_hw = [max(1, round(side * SHOWN_PX / longest)) for side in image.shape[:2]]
    few = PilImage.fromarray(np.ascontiguousarray(image[::step, ::step]))
    return np.asarray(few.resize((size_hw[1], size_hw[0]), PilImage.Resampling.BOX))
