"""Stage 1.1, step 2: which classes are in an image at all."""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor


def count_votes(
    cls: Float[Tensor, "crop dim"], texts: Float[Tensor, "category dim"]
) -> Int[Tensor, " category"]:
    """Let every crop vote for the class whose text is nearest to its class token.

    Args:
        cls: unit-length class tokens.
        texts: unit-length text features.

    Returns:
        Votes per class; they add up to the number of crops. A tie goes to the lower index.

    Paper: section 3.1.
    """
    nearest = (cls.float() @ texts.float().T).argmax(dim=1)
    return torch.bincount(nearest, minlength=len(texts))


def present_classes(votes: Int[Tensor, " category"], min_votes: int) -> list[int]:
    """Classes with more than `min_votes` votes.

    Args:
        votes: see `count_votes`.
        min_votes: a class needs more votes than this.

    Returns:
        Class indices, ascending, never none: when no class has enough votes (an image of a
        single crop can give one vote only), the class with the most votes, lowest index first.

    Paper: section 3.1 (more than 1 vote); the fallback is ours.
    """
    present = [int(index) for index in (votes > min_votes).nonzero()[:, 0]]
    return present or [int(votes.argmax())]


def given_classes(present: Sequence[int], num_classes: int) -> list[int]:
    """The classes of an image as someone who knows them says, in place of the crops' votes.

    Args:
        present: class indices, in any order.
        num_classes: how many classes there are.

    Returns:
        The indices, ascending, each once.

    Raises:
        ValueError: none, or one out of range.

    Paper: the semi-supervised variant, image labels given to stage 1.1.
    """
    known = sorted({int(index) for index in present})
    if not known or known[0] < 0 or known[-1] >= num_classes:
        raise ValueError(
            f"present: found the classes {known}; wanted at least one index from 0 to "
            f"{num_classes - 1}"
        )
    return known
