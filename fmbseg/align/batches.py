"""Images with labelled patches, cut into stacks of equal patch counts."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int64, Integer
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from fmbseg.align.head import normed
from fmbseg.models.device import moved, pinned
from fmbseg.types import IGNORE

Features = Callable[[int], Float[Tensor, "rows cols dim"]]
"""Patch features by image index."""
View = tuple[Integer[Tensor, "_rows _cols"], Callable[[], Float[Tensor, "rows cols dim"]]]
"""An image as one epoch sees it: its patch labels, of which at least one is no IGNORE, and what
reads its features on the same grid."""
Labels = Sequence[Integer[Tensor, "_rows _cols"]] | Mapping[int, Integer[Tensor, "_rows _cols"]]


@dataclass(frozen=True)
class Drawn:
    """The patches of an image that take part in a step.

    Attributes:
        image: its index.
        grid: rows and columns of all its patches.
        wanted: indices of the patches, row-major and in order.
        labels: their classes.
    """

    image: int
    grid: tuple[int, int]
    wanted: Int64[Tensor, " wanted"]
    labels: Int64[Tensor, " wanted"]


@dataclass(frozen=True)
class Group:
    """Images of one batch with equally many patches; their grids may differ in shape.

    Attributes:
        asking: features of the patches that take part in the loss, filled up with the image's
            first patch; float32, like `seen` on the device of the head.
        seen: all patches, normalised, as the self-attention sees them.
        real: places in `asking`, its first two axes flattened, that are not filled up; on the CPU.
    """

    asking: Float[Tensor, "image wanted dim"]
    seen: Float[Tensor, "image patch dim"]
    real: Int64[Tensor, " real"]


class Norms:
    """Normalised features, the same in every epoch: kept in memory up to a budget."""

    def __init__(self, budget_bytes: float) -> None:
        """Begin with none."""
        self._left_bytes, self._kept = budget_bytes, dict[int, Tensor]()

    def of(self, image: int, patches: Float[Tensor, "patch dim"]) -> Float[Tensor, "patch dim"]:
        """An image's patches, normalised; with the same image come the same patches."""
        found = self._kept.get(image)
        if found is None:
            found = normed(patches)
            if found.nbytes <= self._left_bytes:
                self._kept[image] = found
                self._left_bytes -= found.nbytes
        return found


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


def draw_patches(
    labels: Labels,
    images: Sequence[int] | np.ndarray,
    patches_per_image: int | None,
    rng: np.random.Generator,
) -> list[list[Drawn]]:
    """Choose the patches of a batch; images with equally many patches stand together.

    Args:
        labels: class per patch, or IGNORE; every image here has a labelled patch.
        images: indices of the batch's images.
        patches_per_image: at most this many labelled patches each, drawn evenly over the classes
            of the image by `rng`, so that large stuff does not crowd out things; None for all.
        rng: used only where an image has more labelled patches than that.
    """
    by_count: dict[int, list[Drawn]] = {}
    for image in map(int, images):
        target = labels[image]
        flat = target.flatten().numpy()
        wanted = np.flatnonzero(flat != IGNORE)
        if patches_per_image is not None and len(wanted) > patches_per_image:
            wanted = wanted[_even_draw(flat[wanted], patches_per_image, rng)]
        classes = flat[wanted].astype(np.int64)
        one = Drawn(
            image, (target.shape[0], target.shape[1]),
            torch.from_numpy(wanted), torch.from_numpy(classes),
        )  # fmt: skip
        by_count.setdefault(len(flat), []).append(one)
    return list(by_count.values())


def share_of(drawn: Sequence[Sequence[Drawn]], images: Collection[int]) -> list[list[Drawn]]:
    """Of the groups, those images alone; groups that are empty then are left out."""
    shares = [[one for one in group if one.image in images] for group in drawn]
    return [share for share in shares if share]


def labels_of(drawn: Sequence[Sequence[Drawn]]) -> Int64[Tensor, " patch"]:
    """The classes of all patches drawn, in the order of the groups."""
    return torch.cat([torch.zeros(0, dtype=torch.int64), *(k.labels for one in drawn for k in one)])


def weights_of(
    shares: Sequence[Sequence[Sequence[Drawn]]], weights: Sequence[float] | None
) -> Float[Tensor, " patch"] | None:
    """The weights of all patches drawn, share after share in the order of `labels_of`.

    Args:
        shares: the groups of each process.
        weights: of the images; None where they are all the same.
    """
    if weights is None:
        return None
    every = (one for share in shares for group in share for one in group)
    return torch.cat([torch.full((len(one.labels),), weights[one.image]) for one in every])


def read_group(
    drawn: Sequence[Drawn],
    features: Features,
    norms: Norms | None = None,
    device: torch.device | str = "cpu",
) -> Group:
    """Read and stack the features of images with equally many patches.

    Args:
        drawn: the images.
        features: patch features by image index.
        norms: of these features on the CPU; None: they are normalised on the device.
        device: of the head.

    Raises:
        ValueError: an image's features and labels have different grids.
    """
    patches = [_patches(one, features(one.image)) for one in drawn]
    wanted = pad_sequence([one.wanted for one in drawn], batch_first=True)
    real = torch.arange(wanted.shape[1]) < torch.tensor([[len(one.wanted)] for one in drawn])
    if norms is None:
        stacked, at = (_on(device, one) for one in (torch.stack(patches), wanted))
        index = at[..., None].expand(-1, -1, stacked.shape[2])
        asking, seen = stacked.gather(1, index), normed(stacked)
    else:
        asking = torch.stack([one[at] for one, at in zip(patches, wanted, strict=True)])
        pairs = zip(drawn, patches, strict=True)
        seen = torch.stack([norms.of(one.image, its) for one, its in pairs])
    return Group(asking, seen, real.flatten().nonzero().squeeze(1))


def _on(device: torch.device | str, given: Tensor) -> Tensor:
    there = torch.device(device)
    return moved(pinned(given, there), there)


def _patches(one: Drawn, features: Tensor) -> Float[Tensor, "patch dim"]:
    if features.shape[:2] != one.grid:
        raise ValueError(
            f"image {one.image}: labels have the grid {list(one.grid)}, features "
            f"{list(features.shape[:2])}; label the patches on the features' grid"
        )
    return features.flatten(0, 1).float()


def _even_draw(
    labels: Integer[np.ndarray, " patch"], count: int, rng: np.random.Generator
) -> Int64[np.ndarray, " drawn"]:
    """Draw `count` patches, one class in turn after the other until a class is used up."""
    shuffled = rng.permutation(len(labels))
    by_class = np.argsort(labels[shuffled], kind="stable")
    ordered = labels[shuffled][by_class]
    first = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]]))
    sizes = np.diff(first, append=len(labels))
    turn = np.empty(len(labels), np.int64)
    turn[by_class] = np.arange(len(labels)) - np.repeat(first, sizes)
    return np.sort(shuffled[np.argsort(turn, kind="stable")[:count]])
