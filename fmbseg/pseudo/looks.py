"""Looks: which images CLIP sees as near one another, such as the frames of one scene."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float32, Int64
from torch import Tensor

ALIKE = 0.9
"""Images share a look whose features, seen from the middle of all, are at least this near (cosine).
On the miniature a copy that is moved by three pixels and has some noise has .95 or more to its
original, and of other pairs one in a hundred has .73 or more."""
SAME = 0.995
"""Or whose features themselves are this near: in a folder of one scene, only noise is left else."""
MOST_LOOKS = 64
"""So many looks are told apart, at most; of more than so many every image joins the nearest."""


def feature_of(cls: Float[Tensor, "crop dim"]) -> tuple[float, ...]:
    """What CLIP sees of a whole image: the mean of its crops' class tokens, at unit length.

    The numbers are rounded to 16 bits, so that a file of them gives back the same ones.
    """
    mean = cls.float().mean(0)
    return tuple((mean / mean.norm().clamp(min=1e-12)).half().tolist())


def spread(
    features: Float[np.ndarray, "image dim"], most: int, alike: float = ALIKE
) -> Int64[np.ndarray, " leader"]:
    """Images as unlike one another as can be: each one next is the least like all before it.

    The first is the one nearest to the middle of all. It ends after `most` images, or when every
    image is `alike` one of them.

    Args:
        features: one row an image.
        most: so many images, at most.
        alike: cosine, seen from the middle of all, from which two images count as the same.

    Returns:
        Rows of the images, in that order; none where there is no image. Ties go to the lower row.
    """
    if len(features) == 0:
        return np.zeros(0, np.int64)
    middle = features.mean(0)
    found = [int(((features - middle) ** 2).sum(1).argmin())]
    nearest = np.full(len(features), -np.inf)
    while True:
        nearest = np.maximum(nearest, _nearness(middle, features, features[found[-1:]])[:, 0])
        nearest[found[-1]] = 1.0
        if len(found) == most or nearest.min() >= alike:
            return np.array(found, np.int64)
        found.append(int(nearest.argmin()))


@dataclass(frozen=True)
class Looks:
    """Looks that images are sorted into.

    Attributes:
        middle: of the features that the looks were made of.
        leaders: the feature of one image a look.
    """

    middle: Float32[np.ndarray, " dim"]
    leaders: Float32[np.ndarray, "look dim"]

    @staticmethod
    def among(features: Float32[np.ndarray, "image dim"]) -> "Looks":
        """The looks of some images, of which there is at least one; see `spread`."""
        return Looks(features.mean(0), features[spread(features, MOST_LOOKS)])

    def of(self, features: Float32[np.ndarray, "image dim"]) -> Int64[np.ndarray, " image"]:
        """Number of the look of every image: that of the nearest leader."""
        nearest: Int64[np.ndarray, " image"] = _nearness(
            self.middle, features, self.leaders
        ).argmax(1)
        return nearest


def _nearness(
    middle: Float[np.ndarray, " dim"],
    features: Float[np.ndarray, "image dim"],
    leaders: Float[np.ndarray, "look dim"],
) -> Float[np.ndarray, "image look"]:
    """Cosine of images and leaders as seen from the middle; 1 where they are all but the same.

    CLIP's features of any two images have much in common, hence the middle.
    """
    seen = _unit(features - middle) @ _unit(leaders - middle).T
    return np.where(_unit(features) @ _unit(leaders).T >= SAME, 1.0, seen)


def _unit(vectors: Float[np.ndarray, "row dim"]) -> Float[np.ndarray, "row dim"]:
    lengths: Float[np.ndarray, "row 1"] = np.linalg.norm(vectors, axis=1, keepdims=True)
    found: Float[np.ndarray, "row dim"] = vectors / np.maximum(lengths, 1e-12)
    return found
