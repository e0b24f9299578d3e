"""The losses of the alignment: patches and class names in one space, exact and without an M x M.

M patches are compared with each other, so the textbook version holds an M x M matrix (188 MB at
5 images of 37 x 37 patches), several times over. Here the positives come from class sums, the
denominators from square tiles of the symmetric similarity matrix (only the upper half is
computed), and the backward pass computes every tile again instead of keeping it.

Labels are looked at on the CPU: with labels that lie there an accelerator is never waited for.
"""

from collections.abc import Callable

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn import functional

from fmbseg.align.others import log_sum_exp_of_others
from fmbseg.models.device import moved, pinned
from fmbseg.types import IGNORE

Loss = Callable[..., Float[Tensor, ""]]
"""From patches [patch dim], labels [patch], texts [category dim], temperature, chunk and weights
[patch] to a scalar."""


def prototype_supcon_loss(
    patches: Float[Tensor, "patch dim"],
    labels: Int64[Tensor, " patch"],
    texts: Float[Tensor, "category dim"],
    temperature: float,
    chunk: int = 1024,
    weights: Float[Tensor, " patch"] | None = None,
) -> Float[Tensor, ""]:
    """Supervised contrast among patches, with each class's text as one more prototype.

    With z the labelled patches, t the texts, n_k the patches of class k, K texts, M patches:
    sum over present k of the mean over its patches of -log(exp(z_i.t_k/tau) / D_i), plus the sum
    over patches with a positive of -mean over positives of log(exp(z_i.z_p/tau) / E_i), all over
    K + M. E_i sums exp(z_i.z_j/tau) over the other patches, D_i = E_i + the sum over all texts.
    Weights say how much a patch's own two terms count: the means over a class are weighted, and M
    is the sum of the weights. What others are compared with has none.
    Time: 2 products of M x M x dim (half to get E, half to get it again, one for the gradient).
    Extra memory: a few copies of the patches, M x K, and two tiles of chunk x chunk.

    Args:
        patches: unit length; half precision is raised to float32. Not normalised here.
        labels: class index, or IGNORE: in neither numerator nor denominator; best on the CPU.
        texts: unit length, one per class; classes absent from `labels` count in D only.
        temperature: above 0; log-sum-exp keeps 0.01 and less stable.
        chunk: rows and columns of a tile of similarities.
        weights: how much each patch counts, above 0; None: all the same. Best on the CPU.

    Returns:
        The scalar loss, differentiable in `patches` and `texts`; 0 when nothing is labelled.

    Raises:
        ValueError: shapes, labels, temperature or chunk do not fit.

    Paper: section 3.2, equations 1 to 4 (reconstructed).
    """
    patches, labels, texts, weights = _labelled(patches, labels, texts, temperature, chunk, weights)
    if len(labels) == 0:
        return _zero(patches, texts)
    counts = torch.bincount(labels, minlength=len(texts)).to(patches.dtype)[labels]
    paired, total, of_class = (counts > 1).nonzero().squeeze(1), float(len(labels)), None
    if weights is not None:
        total = float(weights.sum())
        of_class = weights.new_zeros(len(texts)).index_add(0, labels, weights)[labels] / weights
        of_class, weights = beside(of_class, patches), beside(weights, patches)
    labels, counts, paired = (beside(one, patches) for one in (labels, counts, paired))
    scaled = patches / temperature**0.5
    log_others = log_sum_exp_of_others(scaled, chunk, 1 / temperature)

    to_texts = patches @ texts.T / temperature
    own_text = to_texts.gather(1, labels[:, None]).squeeze(1)
    log_all = torch.logaddexp(log_others, to_texts.logsumexp(1))
    prototype = ((log_all - own_text) / (counts if of_class is None else of_class)).sum()

    class_sums = scaled.new_zeros(len(texts), scaled.shape[1]).index_add(0, labels, scaled)
    positives = ((class_sums[labels] - scaled) * scaled).sum(1)
    contrast = log_others[paired] - positives[paired] / (counts[paired] - 1)
    if weights is not None:
        contrast = contrast * weights[paired]
    loss: Tensor = (prototype + contrast.sum()) / (len(texts) + total)
    return loss


def cross_entropy_loss(
    patches: Float[Tensor, "patch dim"],
    labels: Int64[Tensor, " patch"],
    texts: Float[Tensor, "category dim"],
    temperature: float,
    chunk: int = 1024,
    weights: Float[Tensor, " patch"] | None = None,
) -> Float[Tensor, ""]:
    """Cross entropy of each labelled patch over the texts, mean over patches (an ablation).

    Arguments, return value and errors as `prototype_supcon_loss`.
    """
    patches, labels, texts, weights = _labelled(patches, labels, texts, temperature, chunk, weights)
    if len(labels) == 0:
        return _zero(patches, texts)
    to_texts, labels = patches @ texts.T / temperature, beside(labels, patches)
    if weights is None:
        return functional.cross_entropy(to_texts, labels)
    return _mean(functional.cross_entropy(to_texts, labels, reduction="none"), weights)


def clip_loss(
    patches: Float[Tensor, "patch dim"],
    labels: Int64[Tensor, " patch"],
    texts: Float[Tensor, "category dim"],
    temperature: float,
    chunk: int = 1024,
    weights: Float[Tensor, " patch"] | None = None,
) -> Float[Tensor, ""]:
    """CLIP's symmetric contrast of the pairs (patch, its class's text) (an ablation).

    Every pair of the batch is a negative of every other, as in CLIP, even with an equal text: a
    text with n patches stands n times in a patch's denominator. Done by counts: M x K, not M x M.
    Weights are those of the pairs in the mean, not of the negatives.
    Arguments, return value and errors as `prototype_supcon_loss`.
    """
    patches, labels, texts, weights = _labelled(patches, labels, texts, temperature, chunk, weights)
    if len(labels) == 0:
        return _zero(patches, texts)
    counts = torch.bincount(labels, minlength=len(texts)).to(patches.dtype)
    labels, counts = beside(labels, patches), beside(counts, patches)
    to_texts = patches @ texts.T / temperature
    own_text = to_texts.gather(1, labels[:, None]).squeeze(1)
    over_texts = (to_texts + counts.log()).logsumexp(1)
    over_patches = to_texts.logsumexp(0)[labels]
    return _mean(0.5 * (over_texts + over_patches) - own_text, weights)


LOSSES: dict[str, Loss] = {
    "prototype_supcon": prototype_supcon_loss,
    "cross_entropy": cross_entropy_loss,
    "clip": clip_loss,
}


def beside(given: Tensor, other: Tensor) -> Tensor:
    """A tensor of the CPU on the device of another; nothing waits for the copy."""
    return moved(pinned(given, other.device), other.device)


def _mean(terms: Float[Tensor, " patch"], weights: Tensor | None) -> Float[Tensor, ""]:
    if weights is None:
        return terms.mean()
    return (terms * beside(weights, terms)).sum() / float(weights.sum())


def _labelled(
    patches: Tensor,
    labels: Tensor,
    texts: Tensor,
    temperature: float,
    chunk: int,
    weights: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
    """Check the arguments; drop ignored patches; at least float32, labels on the CPU."""
    if patches.ndim != 2 or texts.ndim != 2 or patches.shape[1] != texts.shape[1]:
        raise ValueError(
            "patches and texts: wanted [patch dim] and [category dim] of one dim, found "
            f"{list(patches.shape)} and {list(texts.shape)}"
        )
    for name, one in (("labels", labels), ("weights", weights)):
        if one is not None and one.shape != patches.shape[:1]:
            raise ValueError(
                f"{name}: wanted one per patch ({len(patches)}), found {list(one.shape)}"
            )
    if not temperature > 0 or chunk < 1:
        raise ValueError(f"wanted temperature > 0 and chunk >= 1, found {temperature} and {chunk}")
    if not 0 < len(texts) <= IGNORE:
        raise ValueError(f"texts: wanted 1 to {IGNORE} ({IGNORE} is IGNORE), found {len(texts)}")
    labels = labels.long().cpu()
    kept = (labels != IGNORE).nonzero().squeeze(1)
    if len(kept) < len(labels):
        patches = patches.index_select(0, beside(kept, patches))
        labels = labels.index_select(0, kept)
        weights = None if weights is None else weights.cpu()[kept]
    if len(labels) > 0 and not (labels.min() >= 0 and labels.max() < len(texts)):
        raise ValueError(
            f"labels: wanted 0 to {len(texts) - 1} or IGNORE ({IGNORE}), "
            f"found {int(labels.min())} to {int(labels.max())}"
        )
    dtype = torch.promote_types(torch.promote_types(patches.dtype, texts.dtype), torch.float32)
    weights = None if weights is None else weights.to("cpu", dtype)
    return patches.to(dtype), labels, texts.to(dtype), weights


def _zero(patches: Tensor, texts: Tensor) -> Tensor:
    """Zero with a graph, so that a batch without labels can go through `backward`."""
    return patches.sum() * 0 + texts.sum() * 0
