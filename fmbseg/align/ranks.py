"""Training by several processes: torch's DDP, and a loss over the patches of all of them.

A loss that compares patches with each other is no mean over images: every process needs all of
them. Each computes the same whole loss; what flows back to its own patches is all there is of
their gradient, and DDP's mean over the processes is undone by their number.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel

from fmbseg.align.batches import Group
from fmbseg.align.head import AlignmentHead
from fmbseg.align.loss import beside


@dataclass(frozen=True)
class Ranks:
    """The processes that train together, joined in torch's default process group.

    Attributes:
        rank: number of this one, from 0; that one alone writes.
        count: of the processes.
    """

    rank: int = 0
    count: int = 1

    @property
    def writes(self) -> bool:
        """Whether this is the process that writes files and tells of progress."""
        return self.rank == 0

    def told(self, value: Any) -> Any:
        """What the first process says, in every process."""
        if self.count == 1:
            return value
        box = [value]
        distributed.broadcast_object_list(box)
        return box[0]

    def model(self, head: AlignmentHead) -> nn.Module:
        """What gives the patches of groups, its gradients joined over the processes."""
        own = PatchesOfGroups(head)
        return own if self.count == 1 else DistributedDataParallel(own)

    def gathered(
        self, patches: Float[Tensor, "own dim"], counts: Sequence[int]
    ) -> Float[Tensor, "patch dim"]:
        """The patches of all processes, those of the first one first; differentiable.

        Args:
            patches: this process's own.
            counts: how many each process has.
        """
        if self.count == 1:
            return patches
        found: Tensor = _Gathered.apply(patches, self.rank, tuple(counts))
        return found


ALONE = Ranks()
"""One process."""


class PatchesOfGroups(nn.Module):
    """The head over the groups of a batch at once, as DDP wants it; none of them may be there."""

    def __init__(self, head: AlignmentHead) -> None:
        """Around a head, whose parameters it shares."""
        super().__init__()
        self.head = head

    def forward(self, groups: Sequence[Group]) -> Float[Tensor, "patch text_dim"]:
        """The real patches of all groups, in order."""
        found = [_real(one, self.head.answer(one.asking, one.seen)) for one in groups]
        if not found:  # of no length, but with a gradient, which DDP waits for
            nothing = torch.cat([one.flatten()[:0] for one in self.parameters()])
            return nothing.view(0, self.head.text_dim)
        return torch.cat(found) if len(found) > 1 else found[0]


def _real(group: Group, aligned: Tensor) -> Float[Tensor, "patch text_dim"]:
    """Without those that are filled up, if there are any."""
    flat = aligned.flatten(0, 1)
    if len(group.real) < len(flat):
        flat = flat.index_select(0, beside(group.real, flat))
    return flat


class _Gathered(torch.autograd.Function):
    """All processes' patches, filled up to equal numbers on the way."""

    @staticmethod
    def forward(ctx: Any, patches: Tensor, rank: int, counts: tuple[int, ...]) -> Tensor:
        """Exchange them."""
        ctx.own, ctx.processes = slice(sum(counts[:rank]), sum(counts[: rank + 1])), len(counts)
        filled = patches.new_zeros(max(counts), patches.shape[1])
        filled[: len(patches)] = patches
        parts = [torch.empty_like(filled) for _ in counts]
        distributed.all_gather(parts, filled)
        return torch.cat([part[:count] for part, count in zip(parts, counts, strict=True)])

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[Tensor, None, None]:
        """The gradient of the own patches, times the processes that DDP takes the mean over."""
        return grads[0][ctx.own] * ctx.processes, None, None
