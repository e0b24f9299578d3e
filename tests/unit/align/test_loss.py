import functools
import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode

from fmbseg.align.loss import LOSSES, clip_loss, cross_entropy_loss, prototype_supcon_loss
from fmbseg.types import IGNORE


def unit(count: int, dim: int, seed: int, dtype: torch.dtype = torch.float64) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return functional.normalize(torch.randn(count, dim, generator=generator, dtype=dtype), dim=1)


def double_loop(
    patches: Tensor, labels: Tensor, texts: Tensor, tau: float, weights: Tensor | None = None
) -> Tensor:
    """The four equations, term by term."""
    weights = torch.ones(len(labels)) if weights is None else weights
    used = [i for i in range(len(labels)) if int(labels[i]) != IGNORE]
    total = (patches.sum() + texts.sum()) * 0
    if not used:
        return total

    def others(i: int) -> list[Tensor]:
        return [patches[i] @ patches[j] / tau for j in used if j != i]

    for k in range(len(texts)):
        members = [i for i in used if int(labels[i]) == k]
        for i in members:
            every = others(i) + [patches[i] @ text / tau for text in texts]
            log_d = torch.stack(every).logsumexp(0)
            total = (
                total + (log_d - patches[i] @ texts[k] / tau) * weights[i] / weights[members].sum()
            )
    for i in used:
        positives = [p for p in used if p != i and int(labels[p]) == int(labels[i])]
        for p in positives:
            log_e = torch.stack(others(i)).logsumexp(0)
            own = (log_e - patches[i] @ patches[p] / tau) / len(positives)
            total = total + weights[i] * own
    return total / (len(texts) + weights[used].sum())


CASES = {
    "all labelled": [0, 1, 2, 0, 1, 2, 0, 0, 1, 2, 1],
    "ignored and absent": [IGNORE, 3, 3, IGNORE, 0, 0, 0, IGNORE, 3, 0, 0],
    "single patches": [0, 1, 2, 3, 1, 1, IGNORE, 1, 1, 1, 1],
    "one labelled patch": [IGNORE] * 5 + [2] + [IGNORE] * 5,
    "nothing labelled": [IGNORE] * 11,
    "one class": [1] * 11,
}


@pytest.mark.parametrize("tau", [0.01, 0.07, 0.5])
@pytest.mark.parametrize("chunk", [1, 3, 4, 11, 1024])
@pytest.mark.parametrize("case", CASES)
def test_loss_and_gradients_equal_a_double_loop(case: str, chunk: int, tau: float) -> None:
    labels = torch.tensor(CASES[case])
    values, gradients = [], []
    for function in (
        double_loop,
        functools.partial(prototype_supcon_loss, chunk=chunk),
    ):
        patches = unit(11, 7, 0).requires_grad_()
        texts = unit(4, 7, 1).requires_grad_()
        loss = function(patches, labels, texts, tau)
        (3 * -loss).backward()
        values.append(loss.detach())
        gradients.append((patches.grad, texts.grad))
    scale = max(1.0, abs(float(values[0])))
    assert abs(float(values[0] - values[1])) < 1e-8 * scale
    for slow, fast in zip(*gradients, strict=True):
        assert slow is not None
        assert fast is not None
        assert torch.isfinite(fast).all()
        assert (slow - fast).abs().max() < 1e-8 * max(1.0, float(slow.abs().max()))


@pytest.mark.parametrize("case", CASES)
def test_a_weight_is_how_much_a_patchs_own_terms_count(case: str) -> None:
    labels, weights = torch.tensor(CASES[case]), torch.linspace(0.5, 7, 11)
    found = []
    for function in (double_loop, functools.partial(prototype_supcon_loss, chunk=4)):
        patches = unit(11, 7, 0).requires_grad_()
        loss = function(patches, labels, unit(4, 7, 1), 0.1, weights=weights)
        loss.backward()
        found.append((loss.detach(), patches.grad))
    torch.testing.assert_close(found[1], found[0])


@pytest.mark.parametrize("name", LOSSES)
def test_equal_weights_change_nothing_and_the_mean_of_others_is_weighted(name: str) -> None:
    patches, texts, labels = unit(5, 4, 0), unit(3, 4, 1), torch.tensor([0, IGNORE, 2, 2, 1])
    plain = LOSSES[name](patches, labels, texts, 0.2)
    torch.testing.assert_close(LOSSES[name](patches, labels, texts, 0.2, 8, torch.ones(5)), plain)
    weights = torch.tensor([2.0, 50.0, 1.0, 1.0, 1.0])
    found = LOSSES[name](patches, labels, texts, 0.2, 8, weights)
    assert float(found) != pytest.approx(float(plain), abs=1e-6)
    if name == "cross_entropy":
        kept = labels != IGNORE
        terms = functional.cross_entropy(
            patches[kept] @ texts.T / 0.2, labels[kept], reduction="none"
        )
        assert float(found) == pytest.approx(float((terms * weights[kept]).sum() / 5), abs=1e-9)


def test_gradients_of_ignored_patches_are_zero() -> None:
    patches = unit(11, 7, 0).requires_grad_()
    labels = torch.tensor(CASES["ignored and absent"])
    prototype_supcon_loss(patches, labels, unit(4, 7, 1), 0.1).backward()
    assert patches.grad is not None
    assert (patches.grad[labels == IGNORE] == 0).all()
    assert (patches.grad[labels != IGNORE].abs().sum(1) > 0).all()


def test_prototype_term_is_the_smooth_maximum_of_supcon_and_cross_entropy() -> None:
    """Every patch alone in its class: no positives, so the loss is the mean of l(i, y_i)."""
    patches, texts, tau = unit(5, 6, 2), unit(7, 6, 3), 0.1
    labels = torch.tensor([4, 0, 6, 1, 3])
    expected = 0.0
    for i in range(5):
        own = float(patches[i] @ texts[labels[i]]) / tau
        e = sum(math.exp(float(patches[i] @ patches[j]) / tau) for j in range(5) if j != i)
        a = -math.log(math.exp(own) / e)
        b = -math.log(math.exp(own) / sum(math.exp(float(patches[i] @ t) / tau) for t in texts))
        smooth = math.log(math.exp(a) + math.exp(b))
        assert max(a, b) < smooth <= max(a, b) + math.log(2) + 1e-12
        expected += smooth
    loss = prototype_supcon_loss(patches, labels, texts, tau)
    assert float(loss) * (7 + 5) == pytest.approx(expected, abs=1e-10)


@pytest.mark.parametrize("tau", [0.01, 0.02, 0.1])
def test_float32_stays_close_to_float64_on_unit_vectors(tau: float) -> None:
    """Opposite patches at tau 0.01 span exponents of +-100, beyond float32's exp."""
    patches, texts = unit(40, 2, 4), unit(3, 2, 5)
    patches[20:] = -patches[:20]
    labels = torch.arange(40) % 3
    results = []
    for dtype in (torch.float64, torch.float32):
        z = patches.to(dtype, copy=True).requires_grad_()
        loss = prototype_supcon_loss(z, labels, texts.to(dtype), tau, chunk=16)
        loss.backward()
        assert z.grad is not None
        results.append((float(loss.detach()), z.grad.double()))
    assert results[1][0] == pytest.approx(results[0][0], rel=2e-5)
    assert (results[1][1] - results[0][1]).abs().max() < 1e-4 * results[0][1].abs().max()


def test_two_opposite_patches_at_a_low_temperature_give_a_finite_loss() -> None:
    patches = torch.tensor([[1.0, 0.0], [-1.0, 0.0]]).requires_grad_()
    loss = prototype_supcon_loss(patches, torch.tensor([0, 0]), torch.eye(2), 0.01)
    loss.backward()
    assert math.isfinite(float(loss.detach()))
    assert patches.grad is not None
    assert torch.isfinite(patches.grad).all()


def test_half_precision_patches_are_computed_in_float32() -> None:
    patches, labels = unit(9, 4, 0, torch.float32).bfloat16(), torch.arange(9) % 3
    loss = prototype_supcon_loss(patches, labels, unit(3, 4, 1, torch.float32), 0.1)
    assert loss.dtype == torch.float32


class LargestAllocation(TorchDispatchMode):
    """Elements of the largest tensor that any operation puts out, forward and backward."""

    largest = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for one in out if isinstance(out, tuple | list) else [out]:
            if isinstance(one, Tensor):
                self.largest = max(self.largest, one.numel())
        return out


@pytest.mark.parametrize("tau", [0.1, 0.01])
def test_memory_grows_linearly_with_the_patches(tau: float) -> None:
    dim, chunk, categories = 16, 64, 5
    largest, saved = [], []
    for count in (512, 2048):
        patches = unit(count, dim, 0, torch.float32).requires_grad_()
        texts = unit(categories, dim, 1, torch.float32)
        kept: dict[int, int] = {}

        def pack(tensor: Tensor, kept: dict[int, int] = kept) -> Tensor:
            kept[tensor.data_ptr()] = tensor.numel()
            return tensor

        with (
            torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor),
            LargestAllocation() as mode,
        ):
            labels = torch.arange(count) % categories
            prototype_supcon_loss(patches, labels, texts, tau, chunk=chunk).backward()
        assert mode.largest <= max(count * dim, chunk * chunk)  # at 2048, M x M is 128 times that
        largest.append(mode.largest)
        saved.append(sum(kept.values()))
    assert largest[1] <= 4 * largest[0]
    assert saved[1] <= 4.1 * saved[0]
    assert saved[1] < 10 * 2048 * dim


def test_cross_entropy_is_the_mean_over_labelled_patches() -> None:
    patches, texts, labels = unit(5, 4, 0), unit(3, 4, 1), torch.tensor([0, IGNORE, 2, 2, 1])
    terms = []
    for i in (0, 2, 3, 4):
        scores = [math.exp(float(patches[i] @ t) / 0.2) for t in texts]
        terms.append(-math.log(scores[int(labels[i])] / sum(scores)))
    found = cross_entropy_loss(patches, labels, texts, 0.2)
    assert float(found) == pytest.approx(sum(terms) / 4, abs=1e-12)


def test_clip_loss_equals_the_symmetric_contrast_of_pairs() -> None:
    patches, texts, labels = unit(5, 4, 0), unit(4, 4, 1), torch.tensor([0, IGNORE, 2, 2, 1])
    kept = labels != IGNORE
    logits = patches[kept] @ texts[labels[kept]].T / 0.2
    pairs = torch.arange(4)
    expected = functional.cross_entropy(logits, pairs) + functional.cross_entropy(logits.T, pairs)
    found = clip_loss(patches, labels, texts, 0.2)
    assert float(found) == pytest.approx(float(expected) / 2, abs=1e-12)


@pytest.mark.parametrize("name", LOSSES)
def test_every_loss_is_zero_and_differentiable_without_labels(name: str) -> None:
    patches = unit(3, 4, 0).requires_grad_()
    loss = LOSSES[name](patches, torch.full((3,), IGNORE), unit(2, 4, 1), 0.1)
    loss.backward()
    assert float(loss.detach()) == 0
    assert patches.grad is not None
    assert (patches.grad == 0).all()


@pytest.mark.parametrize(
    ("labels", "temperature", "says"),
    [([0, 1], 0.1, "one per patch"), ([0, 1, 3], 0.1, "0 to 2"), ([0, 1, 2], 0.0, "temperature")],
)
@pytest.mark.usefixtures("unchecked")
def test_bad_arguments_are_named(labels: list[int], temperature: float, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        prototype_supcon_loss(unit(3, 4, 0), torch.tensor(labels), unit(3, 4, 1), temperature)
