"""Every row against all other rows, without the matrix: log-sum-exp over tiles, both ways."""

from collections.abc import Iterator
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

_SAFE_EXPONENT = {torch.float32: 80.0, torch.float64: 600.0}
"""Within this range of exponents one common shift neither overflows nor underflows."""


def log_sum_exp_of_others(
    rows: Float[Tensor, "patch dim"], chunk: int, promised: float
) -> Float[Tensor, " patch"]:
    """For each row, log of the sum over the other rows of exp(dot product).

    Args:
        rows: any.
        chunk: see `fmbseg.align.loss.prototype_supcon_loss`.
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
