"""Images with labelled patches, cut into stacks of equal patch counts."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64, Integer
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from fmbseg.types import IGNORE

Features = Callable[[int], Float[Tensor, "rows cols dim"]]


@dataclass(frozen=True)
class Group:
    """Images of one batch with equally many patches; their grids may differ in shape.

    Attributes:
        features: all patches, float32.
        wanted: indices of the patches that take part in the loss, filled up with 0.
        valid: which entries of `wanted` are real.
        labels: classes of the real ones, row-major.
    """

    features: Float[Tensor, "image patch dim"]
    wanted: Int64[Tensor, "image wanted"]
    valid: Bool[Tensor, "image wanted"]
    labels: Int64[Tensor, " valid"]


def labelled_images(labels: Sequence[Integer[Tensor, "_rows _cols"]]) -> list[int]:
    """Indices of the images with at least one labelled patch.

    Raises:
        ValueError: there is none.
    """
    images = [index for index, one in enumerate(labels) if bool((one != IGNORE).any())]
    if not images:
        raise ValueError(
            f"labels: found no labelled patch in {len(labels)} images; check the pseudo masks"
        )
    return images


def cut_batch(
    features: Features,
    labels: Sequence[Integer[Tensor, "_rows _cols"]],
    images: Sequence[int] | np.ndarray,
    patches_per_image: int | None,
    rng: np.random.Generator,
) -> list[Group]:
    """Read the images' features and stack those with equally many patches.

    Args:
        features: patch features by image index.
        labels: class per patch, or IGNORE; every image here has a labelled patch.
        images: indices of the batch's images.
        patches_per_image: at most this many labelled patches each, drawn evenly over the classes
            of the image by `rng`, so that large stuff does not crowd out things; None for all.
        rng: used only where an image has more labelled patches than that.

    Raises:
        ValueError: an image's features and labels have different grids.
    """
    by_count: dict[int, list[tuple[Tensor, Tensor, Tensor]]] = {}
    for image in map(int, images):
        patches, target = features(image), labels[image]
        if patches.shape[:2] != target.shape:
            raise ValueError(
                f"image {image}: labels have the grid {list(target.shape)}, features "
                f"{list(patches.shape[:2])}; label the patches on the features' grid"
            )
        flat = target.flatten().long()
        wanted = (flat != IGNORE).nonzero().squeeze(1)
        if patches_per_image is not None and len(wanted) > patches_per_image:
            wanted = wanted[_even_draw(flat[wanted].numpy(), patches_per_image, rng)]
        entry = (patches.flatten(0, 1).float(), wanted, flat[wanted])
        by_count.setdefault(len(flat), []).append(entry)
    return [_stack(entries) for entries in by_count.values()]


def _even_draw(
    labels: Int64[np.ndarray, " patch"], count: int, rng: np.random.Generator
) -> Int64[Tensor, " drawn"]:
    """Draw `count` patches, one class in turn after the other until a class is used up."""
    shuffled = rng.permutation(len(labels))
    turn = np.empty(len(labels), np.int64)
    for value in np.unique(labels):
        mine = shuffled[labels[shuffled] == value]
        turn[mine] = np.arange(len(mine))
    drawn = shuffled[np.argsort(turn[shuffled], kind="stable")[:count]]
    return torch.from_numpy(np.sort(drawn))


def _stack(entries: list[tuple[Tensor, Tensor, Tensor]]) -> Group:
    features, wanted, labels = zip(*entries, strict=True)
    return Group(
        features=torch.stack(features),
        wanted=pad_sequence(list(wanted), batch_first=True),
        valid=pad_sequence([torch.ones_like(one, dtype=torch.bool) for one in wanted], True),
        labels=torch.cat(labels),
    )
