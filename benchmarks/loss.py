"""The alignment loss with its gradient: ours against a textbook version and three matrix products.

A step of the paper's: 5 images of 37 x 37 patches, 768 numbers each, 14 classes, one thread.
"""

import argparse
import sys

import torch
from torch import Tensor
from torch.nn import functional

from benchmarks.common import ROUNDS, Table, in_turn, pin_threads
from fmbseg.align.loss import Loss, prototype_supcon_loss

PATCHES, WIDTH, CLASSES, TEMPERATURE = 5 * 37 * 37, 768, 14, 0.2


def main() -> int:
    """Print a table: processor seconds of loss and gradient."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=ROUNDS)
    arguments = parser.parse_args()
    pin_threads()
    drawn = torch.Generator().manual_seed(0)
    patches = functional.normalize(torch.randn(PATCHES, WIDTH, generator=drawn), dim=1)
    texts = functional.normalize(torch.randn(CLASSES, WIDTH, generator=drawn), dim=1)
    labels = torch.randint(CLASSES, (PATCHES,), generator=drawn)
    square = torch.empty(PATCHES, PATCHES)

    def ours() -> tuple[Tensor, Tensor]:
        return _with_gradient(prototype_supcon_loss, patches, labels, texts)

    def textbook() -> tuple[Tensor, Tensor]:
        return _with_gradient(textbook_loss, patches, labels, texts)

    def products() -> None:
        torch.mm(patches, patches.T, out=square)
        torch.mm(patches, patches.T, out=square)
        square @ patches

    timed = in_turn({"ours": ours, "textbook": textbook, "products": products}, arguments.pairs)
    mine, theirs = timed["ours"].answer, timed["textbook"].answer
    equal = all(
        torch.allclose(a, b, rtol=1e-4, atol=1e-7) for a, b in zip(mine, theirs, strict=True)
    )
    table = Table()
    table.row(
        f"M = {PATCHES:,}, D = {WIDTH}; stock a textbook version, floor three M x M x D products",
        timed["ours"], timed["textbook"], timed["products"], times_floor=0.7, equal=equal,
    )  # fmt: skip
    return table.exit_code


def _with_gradient(
    loss: Loss, patches: Tensor, labels: Tensor, texts: Tensor
) -> tuple[Tensor, Tensor]:
    leaf = patches.clone().requires_grad_()
    value = loss(leaf, labels, texts, TEMPERATURE)
    value.backward()
    assert leaf.grad is not None
    return value.detach(), leaf.grad


def textbook_loss(patches: Tensor, labels: Tensor, texts: Tensor, temperature: float) -> Tensor:
    """The formula of `prototype_supcon_loss` with all M x M similarities at once."""
    similar = patches @ patches.T / temperature
    similar.fill_diagonal_(float("-inf"))
    others, to_texts = similar.logsumexp(1), patches @ texts.T / temperature
    every = torch.logaddexp(others, to_texts.logsumexp(1))
    own = to_texts.gather(1, labels[:, None]).squeeze(1)
    counts = torch.bincount(labels, minlength=len(texts))[labels]
    same = (labels[:, None] == labels).fill_diagonal_(False)
    positives = similar.masked_fill(~same, 0.0).sum(1) / (counts - 1)
    total = ((every - own) / counts).sum() + (others - positives).sum()
    loss: Tensor = total / (len(texts) + len(labels))
    return loss


if __name__ == "__main__":
    sys.exit(main())
