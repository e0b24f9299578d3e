"""What a person might write below a picture of the miniature world: a sentence for all of it."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import UInt8

from fmbseg.miniature.world import STUFF

LEAST_SHARE = 0.01
"""Of the image; what is smaller goes unsaid."""
MOST_THINGS = 3
PLACE_SAID = 0.5
"""How often the place is named beside things."""


def captions(
    labels: UInt8[np.ndarray, "height width"],
    class_names: Sequence[str],
    rng: np.random.Generator,
    count: int,
) -> list[str]:
    """Name the things of a picture, and now and then where they are; or the stuff alone.

    Args:
        labels: index into `class_names` per pixel; only which classes there are, and how much of
            each, is looked at.
        class_names: of the world.
        rng: decides about words.
        count: how many captions are wanted, as several people would write them.

    Returns:
        Such as `a photo of a cat and a tree on grass` or `a photo of sky and water`.
    """
    shares = np.bincount(labels.ravel(), minlength=len(class_names))[: len(class_names)]
    seen = [class_names[i] for i in np.argsort(-shares) if shares[i] > LEAST_SHARE * labels.size]
    things = [name for name in seen if name not in STUFF][:MOST_THINGS]
    stuff = [name for name in seen if name in STUFF]
    return [_caption(things, stuff, rng) for _ in range(count)]


def _caption(things: Sequence[str], stuff: Sequence[str], rng: np.random.Generator) -> str:
    if not things:
        said = stuff if rng.random() < PLACE_SAID else stuff[:1]
        return "a photo of " + " and ".join(said)
    named = " and ".join(f"a {things[i]}" for i in rng.permutation(len(things)))
    place = f" on {rng.choice(stuff)}" if stuff and rng.random() < PLACE_SAID else ""
    return f"a photo of {named}{place}"
