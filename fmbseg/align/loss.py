"""The losses of the alignment: patches and class names in one space, exact and without an M x M.

M patches are compared with each other, so the textbook version holds an M x M matrix (188 MB at
5 images of 37 x 37 patches), several times over. Here the positives come from class sums, the
denominators from square tiles of the symmetric similarity matrix (only the upper half is
computed), and the backward pass computes every tile again instead of keeping it.

Labels are looked at on the CPU: with labels that lie there an accelerator is never waited for.
"""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn import functional

from fmbseg.models.device import moved, pinned
from fmbseg.types import IGNORE

Loss = Callable[..., Float[Tensor, ""]]
"""(patches [patch dim], labels [patch], texts [category dim], temperature, chunk) -> scalar."""

_SAFE_EXPONENT = {torch.float32: 80.0, torch.float64: 600.0}
"""Within this range of exponents one common shift neither overflows nor underflows."""


def prototype_supcon_loss(
    patches: Float[Tensor, "patch dim"],
    labels: Int64[Tensor, " patch"],
    texts: Float[Tensor, "category dim"],
    temperature: float,
    chunk: int = 1024,
) -> Float[Tensor, ""]:
    """Supervised contrast among patches, with each class's text as one more prototype.

    With z the labelled patches, t the texts, n_k the patches of class k, K texts, M patches:
    sum over present k of the mean over its patches of -log(exp(z_i.t_k/tau) / D_i), plus the sum
    over patches with a positive of -mean over positives of log(exp(z_i.z_p/tau) / E_i), all over
    K + M. E_i sums exp(z_i.z_j/tau) over the other patches, D_i = E_i + the sum over all texts.
    Time: 2 products of M x M x dim (half to get E, half to get it again, one for the gradient).
    Extra memory: a few copies of the patches, M x K, and two tiles of chunk x chunk.

    Args:
        patches: unit length; half precision is raised to float32. Not normalised here.
        labels: class index, or IGNORE: in neither numerator nor denominator; best on the CPU.
        texts: unit length, one per class; classes absent from `labels` count in D only.
        temperature: above 0; log-sum-exp keeps 0.01 and less stable.
        chunk: rows and columns of a tile of similarities.

    Returns:
        The scalar loss, differentiable in `patches` and `texts`; 0 when nothing is labelled.

    Raises:
        ValueError: shapes, labels, temperature or chunk do not fit.

    Paper: section 3.2, equations 1 to 4 (reconstructed).
    """
    patches, labels, texts = _labelled(patches, labels, texts, temperature, chunk)
    if len(labels) == 0:
        return _zero(patches, texts)
    counts = torch.bincount(labels, minlength=len(texts)).to(patches.dtype)[labels]
    paired = (counts > 1).nonzero().squeeze(1)
    labels, counts, paired = (beside(one, patches) for one in (labels, counts, paired))
    scaled = patches / temperature**0.5
    log_others = _log_sum_exp_of_others(scaled, chunk, 1 / temperature)

    to_texts = patches @ texts.T / temperature
    own_text = to_texts.gather(1, labels[:, None]).squeeze(1)
    log_all = torch.logaddexp(log_others, to_texts.logsumexp(1))
    prototype = ((log_all - own_text) / counts).sum()

    class_sums = scaled.new_zeros(len(texts), scaled.shape[1]).index_add(0, labels, scaled)
    positives = ((class_sums[labels] - scaled) * scaled).sum(1)
    contrast = (log_others[paired] - positives[paired] / (counts[paired] - 1)).sum()
    loss: Tensor = (prototype + contrast) / (len(texts) + len(labels))
    return loss


def cross_entropy_loss(
    patches: Float[Tensor, "patch dim"],
    labels: Int64[Tensor, " patch"],
    texts: Float[Tensor, "category dim"],
    temperature: float,
    chunk: int = 1024,
) -> Float[Tensor, ""]:
    """Cross entropy of each labelled patch over the texts, mean over patches (an ablation).

    Arguments, return value and errors as `prototype_supcon_loss`.
    """
    patches, labels, texts = _labelled(patches, labels, texts, temperature, chunk)
    if len(labels) == 0:
        return _zero(patches, texts)
    return functional.cross_entropy(patches @ texts.T / temperature, beside(labels, patches))


def clip_loss(
    patches: Float[Tensor, "patch dim"],
    labels: Int64[Tensor, " patch"],
    texts: Float[Tensor, "category dim"],
    temperature: float,
    chunk: int = 1024,
) -> Float[Tensor, ""]:
    """CLIP's symmetric contrast of the pairs (patch, its class's text) (an ablation).

    Every pair of the batch is a negative of every other, as in CLIP, even with an equal text: a
    text with n patches stands n times in a patch's denominator. Done by counts: M x K, not M x M.
    Arguments, return value and errors as `prototype_supcon_loss`.
    """
    patches, labels, texts = _labelled(patches, labels, texts, temperature, chunk)
    if len(labels) == 0:
        return _zero(patches, texts)
    counts = torch.bincount(labels, minlength=len(texts)).to(patches.dtype)
    labels, counts = beside(labels, patches), beside(counts, patches)
    to_texts = patches @ texts.T / temperature
    own_text = to_texts.gather(1, labels[:, None]).squeeze(1)
    over_texts = (to_texts + counts.log()).logsumexp(1)
    over_patches = to_texts.logsumexp(0)[labels]
    return (0.5 * (over_texts + over_patches) - own_text).mean()


LOSSES: dict[str, Loss] = {
    "prototype_supcon": prototype_supcon_loss,
    "cross_entropy": cross_entropy_loss,
    "clip": clip_loss,
}


def beside(given: Tensor, other: Tensor) -> Tensor:
    """A tensor of the CPU on the device of another; nothing waits for the copy."""
    return moved(pinned(given, other.device), other.device)


def _labelled(
    patches: Tensor, labels: Tensor, texts: Tensor, temperature: float, chunk: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Check the arguments; drop ignored patches; at least float32, labels on the CPU."""
    if patches.ndim != 2 or texts.ndim != 2 or patches.shape[1] != texts.shape[1]:
        raise ValueError(
            "patches and texts: wanted [patch dim] and [category dim] of one dim, found "
            f"{list(patches.shape)} and {list(texts.shape)}"
        )
    if labels.shape != patches.shape[:1]:
        raise ValueError(
            f"labels: wanted one per patch ({len(patches)}), found {list(labels.shape)}"
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
    if len(labels) > 0 and not (labels.min() >= 0 and labels.max() < len(texts)):
        raise ValueError(
            f"labels: wanted 0 to {len(texts) - 1} or IGNORE ({IGNORE}), "
            f"found {int(labels.min())} to {int(labels.max())}"
        )
    dtype = torch.promote_types(torch.promote_types(patches.dtype, texts.dtype), torch.float32)
    return patches.to(dtype), labels, texts.to(dtype)


def _zero(patches: Tensor, texts: Tensor) -> Tensor:
    """Zero with a graph, so that a batch without labels can go through `backward`."""
    return patches.sum() * 0 + texts.sum() * 0


def _log_sum_exp_of_others(
    rows: Float[Tensor, "patch dim"], chunk: int, promised: float
) -> Float[Tensor, " patch"]:
    """For each row, log of the sum over the other rows of exp(dot product).

    Args:
        rows: any.
        chunk: see `prototype_supcon_loss`.
        promised: the square of the rows' length. It is measured on the CPU alone, since an
            accelerator would have to be waited for.
    """
    result: Tensor = _LogSumExpOfOthers.apply(rows, chunk, promised)
    return result


def _tiles(rows: Tensor, chunk: int) -> Iterator[tuple[slice, slice, Tensor]]:
    """Tiles of `rows @ rows.T` on and above the diagonal; a row's match with itself is -inf."""
    spans = [slice(start, start + chunk) for start in range(0, len(rows), chunk)]
    for index, down in enumerate(spans):
        for across in spans[index:]:
            tile = rows[down] @ rows[across].T
            if down is across:
                tile.fill_diagonal_(float("-inf"))
            yield down, across, tile


class _LogSumExpOfOthers(torch.autograd.Function):
    """Tiled and recomputed. Rows of bounded length (|a.b| <= `bound`) need one exp per tile."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, chunk: int, promised: float) -> Tensor:
        """Sum the tiles; keep the rows and their [patch] results, no tile."""
        bound: Any = rows.square().sum(1).max()
        if rows.device.type == "cpu":
            bound = promised = float(bound)
        narrow = 2 * promised <= _SAFE_EXPONENT[rows.dtype]
        if narrow:
            sums = rows.new_zeros(len(rows))
            for down, across, tile in _tiles(rows, chunk):
                tile.sub_(bound).exp_()
                sums[down] += tile.sum(1)
                if down is not across:
                    sums[across] += tile.sum(0)
            result = sums.log_().add_(bound)
        else:
            result = rows.new_full((len(rows),), float("-inf"))
            for down, across, tile in _tiles(rows, chunk):
                result[down] = torch.logaddexp(result[down], tile.logsumexp(1))
                if down is not across:
                    result[across] = torch.logaddexp(result[across], tile.logsumexp(0))
        ctx.save_for_backward(rows, result)
        ctx.chunk, ctx.bound, ctx.narrow = chunk, bound, narrow
        return result

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[Tensor, None, None]:
        """d/d(a_i.a_j) is p_ij g_i + p_ji g_j: both halves joined before the one product."""
        rows, result = ctx.saved_tensors
        (grad,) = grads
        out = torch.zeros_like(rows)
        if len(rows) < 2:
            return out, None, None
        scale = grad * (ctx.bound - result).exp() if ctx.narrow else grad
        for down, across, tile in _tiles(rows, ctx.chunk):
            if ctx.narrow:
                tile.sub_(ctx.bound).exp_().mul_(scale[down, None] + scale[across])
            else:
                other = (tile - result[across]).exp_().mul_(scale[across])
                tile.sub_(result[down, None]).exp_().mul_(scale[down, None]).add_(other)
            out[down].addmm_(tile, rows[across])
            if down is not across:
                out[across].addmm_(tile.T, rows[down])
        return out, None, None
