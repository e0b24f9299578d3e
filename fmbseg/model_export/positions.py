"""Position embeddings for a grid whose size is known only when the graph runs.

torch's antialiased bicubic interpolation has no counterpart in ONNX that runs everywhere, so the
same weights are written as two matrix products, whose matrices are made of the grid's size.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import timm.models.vision_transformer as vit
import torch
from jaxtyping import Float
from torch import Tensor

Size = int | torch.SymInt
"""A number of rows or columns: known, or a symbol while a graph is traced."""
_A = -0.5
"""Of the cubic kernel that torch and Pillow take when they antialias."""


def resample_positions(
    posemb: Float[Tensor, "1 position dim"],
    new_size: Sequence[Size],
    old_size: Sequence[int],
    num_prefix_tokens: int = 1,
    **_: Any,
) -> Tensor:
    """What timm's `resample_abs_pos_embed` answers, to rounding, in plain arithmetic.

    Args:
        posemb: the learned embeddings, those of the prefix tokens first.
        new_size: wanted rows and columns.
        old_size: rows and columns that they were learned at.
        num_prefix_tokens: these are left as they are.

    Returns:
        [1, new position, dim].
    """
    prefix, grid = posemb[:, :num_prefix_tokens], posemb[0, num_prefix_tokens:].float()
    down, across = (axis_weights(old, new) for old, new in zip(old_size, new_size, strict=True))
    # The learned ones on the left: a quantizer takes constants on the right for weights.
    table = grid.reshape(old_size[0], old_size[1] * grid.shape[-1]).T @ down.T
    rows = table.reshape(old_size[1], grid.shape[-1], -1).permute(2, 0, 1)
    resampled = (across @ rows).reshape(1, -1, grid.shape[-1])
    return torch.cat([prefix, resampled.to(posemb.dtype)], dim=1)


def axis_weights(cells: int, size: Size) -> Tensor:
    """How much each old cell counts for each new one: [size, cells], rows sum to 1."""
    scale: Any = cells / size  # a symbol is divided into a symbol
    reach: Any = torch.sym_max(scale, 1.0)
    centres = (torch.arange(size) + 0.5) * scale
    away = ((torch.arange(cells) + 0.5 - centres[:, None]) / reach).abs()
    near = ((_A + 2) * away - (_A + 3)) * away * away + 1
    far = (((away - 5) * away + 8) * away - 4) * _A
    weights = torch.where(away < 1, near, torch.where(away < 2, far, torch.zeros_like(away)))
    return weights / weights.sum(1, keepdim=True)


@contextmanager
def traceable_positions() -> Iterator[None]:
    """Meanwhile timm's ViTs interpolate their position embeddings by `resample_positions`."""
    kept = vit.resample_abs_pos_embed
    vit.resample_abs_pos_embed = resample_positions
    try:
        yield
    finally:
        vit.resample_abs_pos_embed = kept
