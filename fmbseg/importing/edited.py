"""What a tool's file says of an image, in one form for all tools."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool

from fmbseg.store import encode_rles
from fmbseg.types import Rle


class EditError(ValueError):
    """Files of a tool cannot be read, or an image of theirs cannot; the text says what to do."""


@dataclass(frozen=True)
class Drawn:
    """A mask as a tool's file has it.

    Attributes:
        label: the name of its class there.
        rle: its pixels, maybe none; equal pixels have equal run lengths.
    """

    label: str
    rle: Rle

    @staticmethod
    def of(label: str, inside: Bool[np.ndarray, "height width"]) -> "Drawn":
        """The mask with these pixels."""
        return Drawn(label, encode_rles(inside[None])[0])


@dataclass(frozen=True, eq=False)
class EditedImage:
    """An image as a tool's file has it.

    Attributes:
        called: what the file calls the image.
        image_hw: its height and width, px, as the file says; None where it does not say.
        drawn: makes its masks for an image of a height and width, px: the first one lies lowest
            and the last one is seen. It raises `EditError` for what is no mask of that image,
            before it takes memory for any.
    """

    called: str
    image_hw: tuple[int, int] | None
    drawn: Callable[[tuple[int, int]], list[Drawn]]
