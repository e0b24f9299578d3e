"""What the encoders compute in, and what leaves them."""

import contextlib

import pytest
import torch

from fmbseg.miniature.world import generate
from fmbseg.models import precision
from fmbseg.models.build import build_model
from fmbseg.models.precision import resolve_precision


@pytest.fixture
def cuda(monkeypatch, tmp_path):
    """Pretends that there is a CUDA device; the test says whether it computes in bfloat16."""
    monkeypatch.setattr(precision, "_ACCELERATORS", (str(tmp_path),))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device", lambda device: contextlib.nullcontext())
    precision._of_cuda.cache_clear()
    yield lambda capable: monkeypatch.setattr(
        torch.cuda, "is_bf16_supported", lambda including_emulation=True: capable
    )
    precision._of_cuda.cache_clear()


@pytest.mark.parametrize(("capable", "wanted"), [(True, "bfloat16"), (False, "float16")])
@pytest.mark.parametrize("device", ["auto", "cuda", "cuda:1", torch.device("cuda")])
def test_auto_is_half_precision_on_cuda(cuda, capable, wanted, device):
    cuda(capable)
    assert resolve_precision("auto", device) == wanted
    assert resolve_precision("float32", device) == "float32"


def test_auto_is_float32_without_cuda(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    precision._of_cuda.cache_clear()
    for device in ("auto", "cpu", "mps", torch.device("cpu")):
        assert resolve_precision("auto", device) == "float32"
    assert resolve_precision("float16", "cpu") == "float16"


@pytest.mark.weights
@pytest.mark.parametrize("name", ["bfloat16", "float16"])
def test_half_precision_gives_float32_features_close_to_those_of_float32(name):
    image = next(iter(generate(0, 1, "test"))).image

    def features(kind):
        def built(role, **more):
            return build_model(role, "miniature", {}, device="cpu", precision=kind, **more)

        clip = built("clip", projection="naclip", short_side_px="auto")
        dense = clip.encode_dense(image)
        side = built("sam").embed(image).encoded.side
        vision = built("vision").encode(image)
        texts = clip.encode_text(["tree", "sky"])
        return [dense.patches, dense.cls, texts, vision, side.tokens[0]]

    for exact, half in zip(features("float32"), features(name), strict=True):
        assert half.dtype == torch.float32
        assert not torch.equal(exact, half), "it did compute in another precision"
        likeness = torch.nn.functional.cosine_similarity(exact, half, dim=-1)
        assert likeness.min() > 0.98
