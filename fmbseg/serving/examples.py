"""Pictures of the miniature's world for whoever opens the page without a photograph."""

from dataclasses import dataclass
from functools import lru_cache

from PIL import Image

from fmbseg.miniature.world import CLASS_NAMES, SEEN_CLASS_NAMES, generate
from fmbseg.store import encode_image
from fmbseg.types import IGNORE

_SEED = 1
_NUMBERS = (17, 9, 19, 16)
"""Of the world's pictures, chosen by eye: different grounds, several things."""


@dataclass(frozen=True)
class Example:
    """A drawn picture.

    Attributes:
        content: its PNG.
        words: what it shows, and one thing that it does not, as they are typed.
    """

    content: bytes
    words: str


@lru_cache(1)
def examples() -> tuple[Example, ...]:
    """A few pictures, drawn at the first call; they are of no split of the shipped data set."""
    return tuple(_example(number) for number in _NUMBERS)


def _example(number: int) -> Example:
    (drawn,) = generate(_SEED, 1, "test", start=number)
    found = [CLASS_NAMES[index] for index in sorted({*drawn.labels.ravel().tolist()} - {IGNORE})]
    absent = next(name for name in reversed(SEEN_CLASS_NAMES) if name not in found)
    return Example(encode_image(Image.fromarray(drawn.image)), ", ".join([*found, absent]))
