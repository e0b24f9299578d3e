from pathlib import Path

import pytest
import torch
from torch.nn import functional

from fmbseg.align.head import AlignmentHead


def untrained(seed: int = 0) -> AlignmentHead:
    return AlignmentHead(12, 7, 3, 2.0, generator=torch.Generator().manual_seed(seed))


def head(seed: int = 0) -> AlignmentHead:
    """One whose block does something, as after training."""
    model, generator = untrained(seed), torch.Generator().manual_seed(seed)
    for last in (model.attended, model.contract):
        torch.nn.init.xavier_uniform_(last.weight, generator=generator)
    return model


def test_before_training_the_head_is_its_linear_map_alone() -> None:
    model, features = untrained(), torch.randn(2, 15, 12)
    normed = functional.layer_norm(features, (12,))
    mapped = normed @ model.to_text.weight.T + model.to_text.bias
    assert torch.allclose(model(features), functional.normalize(mapped, dim=-1), atol=1e-6)
    other = untrained(seed=1)
    assert not torch.equal(model.query.weight, other.query.weight)


def test_output_is_unit_length_in_the_text_space() -> None:
    out = head()(torch.randn(2, 15, 12))
    assert out.shape == (2, 15, 7)
    assert torch.allclose(out.norm(dim=-1), torch.ones(2, 15), atol=1e-6)


def test_wanted_patches_come_out_as_in_the_full_pass() -> None:
    model, features = head(), torch.randn(2, 15, 12)
    wanted = torch.tensor([[3, 14, 0], [7, 7, 1]])
    full, some = model(features), model(features, wanted)
    for image in range(2):
        assert torch.allclose(some[image], full[image, wanted[image]], atol=1e-6)


def test_the_short_way_for_few_patches_gives_the_same_output_and_gradients() -> None:
    generator = torch.Generator().manual_seed(4)
    features = torch.randn(2, 15, 12, generator=generator).double()
    wanted = torch.tensor([[3, 14, 0], [7, 7, 1]])
    towards = torch.randn(2, 3, 7, generator=generator).double()
    gradients = []
    for all_patches in (False, True):
        model = head().double()
        for bias in (p for p in model.parameters() if p.ndim == 1):
            torch.nn.init.normal_(bias, generator=torch.Generator().manual_seed(len(bias)))
        assert 3 * model.heads < model.vision_dim <= 15 * model.heads
        found = model(features)[[[0], [1]], wanted] if all_patches else model(features, wanted)
        (found * towards).sum().backward()
        gradients.append([found, *(p.grad for p in model.parameters())])
    for short, long in zip(*gradients, strict=True):
        torch.testing.assert_close(short, long, rtol=0, atol=1e-12)


def test_patches_of_one_image_see_each_other_and_no_other_image() -> None:
    model, features = head(), torch.randn(2, 15, 12)
    before = model(features)
    features[0, 3] += torch.randn(12)
    after = model(features)
    assert (before[0] - after[0]).abs().sum(1).min() > 0
    assert torch.equal(before[1], after[1])


def test_saved_head_comes_back_the_same(tmp_path: Path) -> None:
    model, features = head(), torch.randn(1, 15, 12)
    model.save(tmp_path)
    again = AlignmentHead.load(tmp_path)
    assert again.config() == model.config()
    assert not again.training
    assert torch.equal(model(features), again(features))


def test_missing_head_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="run the train step"):
        AlignmentHead.load(tmp_path)


def test_heads_that_do_not_divide_the_width_are_refused() -> None:
    with pytest.raises(ValueError, match=r"train\.heads"):
        AlignmentHead(12, 7, 5)
