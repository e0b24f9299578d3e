"""One step of the alignment's training, its rate, its optimizer, kernels that repeat."""

import math
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.optim.swa_utils import AveragedModel

from fmbseg.align.batches import Group
from fmbseg.align.head import AlignmentHead
from fmbseg.align.loss import LOSSES
from fmbseg.align.ranks import ALONE, Ranks
from fmbseg.align.settings import TrainParams


def take_step(
    model: nn.Module,
    optimizer: torch.optim.SGD,
    groups: list[Group],
    labels: Sequence[Int64[Tensor, " _patch"]],
    texts: Tensor,
    settings: TrainParams,
    rate: float,
    ranks: Ranks = ALONE,
    weights: Float[Tensor, " patch"] | None = None,
) -> float:
    """One step of SGD; returns the loss.

    An accelerator is waited for once, for the loss.

    Args:
        model: gives the patches of groups; see `Ranks.model`.
        optimizer: of its parameters.
        groups: of the images that this process reads.
        labels: of the patches of every process's groups, on the CPU.
        texts: one per class.
        settings: the section `train` of params.yaml.
        rate: learning rate of the step.
        ranks: the processes that train together.
        weights: of all these patches in the loss, on the CPU; None: all the same.
    """
    for parameters in optimizer.param_groups:
        parameters["lr"] = rate
    with repeatable_attention(texts.device):
        found = model(groups)
    patches = ranks.gathered(found, [len(one) for one in labels])
    loss = LOSSES[settings.loss](
        patches,
        torch.cat(list(labels)),
        texts,
        settings.temperature,
        settings.chunk_patches,
        weights,
    )
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    if settings.max_grad_norm is not None:
        torch.nn.utils.clip_grad_norm_(model.parameters(), settings.max_grad_norm)
    optimizer.step()
    return float(loss.detach())


def learning_rate(step: int, total: int, settings: TrainParams) -> float:
    """The rate of a step, counted from 0: a linear warm-up, then a cosine that may stop halfway."""
    warm_up = max(1.0, settings.warm_up_fraction * total)
    done = step / total
    if settings.hold_rate_from is not None:
        done = min(done, settings.hold_rate_from)
    falls = 0.5 * (1 + math.cos(math.pi * done))
    return settings.learning_rate * min(1.0, (step + 1) / warm_up) * falls


class MovingAverage(AveragedModel):
    """The moving average of the head's weights, to be told of every step.

    After n steps the weights of the k-th count d^(n - k), all together 1, where d^(average_over x
    total) is 1/e: unlike torch's own the first weights count no more than any, and the number of
    steps stays on the CPU.
    """

    def __init__(self, head: AlignmentHead, settings: TrainParams, total: int) -> None:
        """Begin with no step.

        Args:
            head: whose weights.
            settings: see `average_over`.
            total: steps of the training.
        """
        super().__init__(head)
        self._decay = math.exp(-1 / ((settings.average_over or 1) * total))

    @torch.no_grad()
    def update_parameters(self, model: nn.Module) -> None:
        """Add the weights of a step."""
        self.n_averaged += 1
        share = (1 - self._decay) / (1 - self._decay ** int(self.n_averaged))
        torch._foreach_lerp_(list(self.module.parameters()), list(model.parameters()), share)


def make_optimizer(head: AlignmentHead, settings: TrainParams) -> torch.optim.SGD:
    """SGD with momentum; weights decay, biases do not."""
    matrices = [p for p in head.parameters() if p.ndim > 1]
    vectors = [p for p in head.parameters() if p.ndim < 2]
    groups = [
        {"params": matrices, "weight_decay": settings.weight_decay},
        {"params": vectors, "weight_decay": 0.0},
    ]
    return torch.optim.SGD(
        groups, lr=settings.learning_rate, momentum=settings.momentum, foreach=True
    )


def repeatable_attention(device: torch.device) -> AbstractContextManager[None]:
    """CUDA's fused attention of float32 sums its gradient in any order: the plain one is taken."""
    return nullcontext() if device.type == "cpu" else sdpa_kernel(SDPBackend.MATH)


@contextmanager
def repeatable(device: str) -> Iterator[None]:
    """Deterministic kernels; off the CPU, where some have none, torch warns instead of failing.

    Without torch's filling of new memory, a guard for kernels that read what they never wrote:
    it cost a twentieth of the time.
    """
    memory: Any = torch.utils.deterministic
    fill_before = memory.fill_uninitialized_memory
    before = torch.are_deterministic_algorithms_enabled()
    warn_before = torch.is_deterministic_algorithms_warn_only_enabled()
    torch.use_deterministic_algorithms(True, warn_only=device != "cpu")
    memory.fill_uninitialized_memory = False
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before, warn_only=warn_before)
        memory.fill_uninitialized_memory = fill_before
