import json

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from segment_anything import SamPredictor

from fmbseg.models.build import build_sam
from fmbseg.models.sam_architecture import build_sam_from_config
from fmbseg.models.sam_weights import PUBLISHED, sam_source
from fmbseg.models.weights import MissingWeightsError
from tests.support.official_weights import SAM as SMALL


@pytest.fixture(autouse=True)
def _offline(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("sam")
    (path / "sam_config.json").write_text(json.dumps(SMALL))
    torch.manual_seed(5)
    model = build_sam_from_config(SMALL)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    save_file(model.state_dict(), path / "sam.safetensors")
    return path


def random_image(height, width):
    coarse = np.random.default_rng(0).integers(0, 256, (height // 8 + 1, width // 8 + 1, 3))
    return np.repeat(np.repeat(coarse, 8, 0), 8, 1)[:height, :width].astype(np.uint8)


def random_prompts(height, width, prompts, points):
    rng = np.random.default_rng(1)
    return rng.uniform([0, 0], [width, height], (prompts, points, 2))


def assert_equal_to_predictor(sam, image, prompts):
    embedding = sam.embed(image)
    prediction = sam.predict_points(embedding, prompts)
    predictor = SamPredictor(sam.model)
    predictor.set_image(image)
    for points, logits, quality in zip(
        prompts, prediction.logits.unflatten(0, (-1, 3)), prediction.predicted_iou, strict=True
    ):
        theirs, their_quality, their_logits = predictor.predict(
            points, np.ones(len(points)), multimask_output=True, return_logits=True
        )
        torch.testing.assert_close(quality, torch.tensor(their_quality), rtol=1e-3, atol=1e-4)
        torch.testing.assert_close(logits, torch.tensor(their_logits), rtol=1e-3, atol=1e-3)
        ours = sam.upscale(embedding, logits)
        assert ours.shape == (3, *image.shape[:2])
        torch.testing.assert_close(ours, torch.tensor(theirs), rtol=1e-3, atol=1e-3)
        certain = np.abs(theirs) > 1e-3
        assert ((ours.numpy() > 0) == (theirs > 0))[certain].all()


@pytest.mark.parametrize("image_hw", [(40, 100), (100, 40), (64, 64), (30, 17)])
@pytest.mark.parametrize("points", [1, 5])
def test_prompts_give_sam_predictors_masks_and_scores(folder, image_hw, points):
    sam = build_sam(f"local-dir:{folder}")
    height, width = image_hw
    prompts = random_prompts(height, width, 3, points)
    assert_equal_to_predictor(sam, random_image(height, width), prompts)


def test_a_batch_of_prompt_sets_equals_the_sets_one_by_one(folder):
    sam = build_sam(f"local-dir:{folder}")
    embedding = sam.embed(random_image(40, 100))
    prompts = random_prompts(40, 100, 6, 5)
    together = sam.predict_points(embedding, prompts)
    assert together.logits.shape == (18, 32, 32)
    assert together.predicted_iou.shape == (6, 3)
    for index in range(6):
        alone = sam.predict_points(embedding, prompts[index : index + 1])
        three = together.logits[3 * index : 3 * index + 3]
        torch.testing.assert_close(three, alone.logits, rtol=1e-4, atol=1e-4)


def test_the_embedding_tells_the_sizes_of_a_non_square_image(folder):
    embedding = build_sam(f"local-dir:{folder}").embed(random_image(40, 100))
    assert embedding.image_hw == (40, 100)
    assert embedding.encoded.input_hw == (26, 64)
    assert embedding.encoded.side.tokens.shape == (1, 64, 16)


def test_the_model_is_frozen_and_unchanged_by_use(folder):
    sam = build_sam(f"local-dir:{folder}")
    before = {k: v.clone() for k, v in sam.model.state_dict().items()}
    prediction = sam.predict_points(sam.embed(random_image(40, 50)), random_prompts(40, 50, 2, 5))
    assert not sam.model.training
    assert not any(p.requires_grad for p in sam.model.parameters())
    assert all(torch.equal(v, before[k]) for k, v in sam.model.state_dict().items())
    prediction.logits[prediction.logits < 0] = 0  # an ordinary tensor: callers may change it


@pytest.mark.parametrize("shape", [(5, 2), (0, 5, 2), (2, 5, 3)])
@pytest.mark.usefixtures("unchecked")
def test_points_of_another_shape_are_refused(folder, shape):
    sam = build_sam(f"local-dir:{folder}")
    with pytest.raises(ValueError, match="points_xy_px"):
        sam.predict_points(sam.embed(random_image(20, 30)), np.zeros(shape))


@pytest.mark.usefixtures("unchecked")
def test_an_image_that_is_not_rgb_bytes_is_refused(folder):
    with pytest.raises(ValueError, match="image:"):
        build_sam(f"local-dir:{folder}").embed(random_image(20, 30).astype(np.float32) / 255)


def test_weights_of_another_architecture_are_refused(folder, tmp_path):
    other = {**SMALL, "mask_in_chans": 8}
    (tmp_path / "sam_config.json").write_text(json.dumps(other))
    (tmp_path / "sam.safetensors").write_bytes((folder / "sam.safetensors").read_bytes())
    with pytest.raises(ValueError, match="do not fit the architecture"):
        build_sam(f"local-dir:{tmp_path}")
    state = build_sam_from_config(SMALL).state_dict()
    state.pop("mask_decoder.mask_tokens.weight")
    save_file(state, tmp_path / "sam.safetensors")
    (tmp_path / "sam_config.json").write_text(json.dumps(SMALL))
    with pytest.raises(ValueError, match=r"missing \['mask_decoder.mask_tokens.weight'\]"):
        build_sam(f"local-dir:{tmp_path}")


def test_an_unknown_name_is_refused():
    with pytest.raises(ValueError, match=r"models\.sam\.name.*vit_b"):
        build_sam("vit_x")


def test_a_missing_checkpoint_names_the_command_and_nothing_is_downloaded(tmp_path, monkeypatch):
    def forbidden(*args, **kwargs):
        raise AssertionError("a download was tried")

    monkeypatch.setattr("socket.socket.connect", forbidden)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    for flag in ("FMBSEG_OFFLINE", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"):
        monkeypatch.delenv(flag, raising=False)
    with pytest.raises(MissingWeightsError) as caught:
        build_sam("vit_h", PUBLISHED["vit_h"].file)
    message = str(caught.value)
    for part in ["vit_h", "fmbseg download --weights"]:
        assert part in message
    assert "OFFLINE" not in message
    with pytest.raises(MissingWeightsError, match="no file"):
        build_sam("vit_b", "somewhere/else.pth")


def test_a_checkpoint_placed_by_hand_is_found(tmp_path, monkeypatch):
    monkeypatch.setattr("torch.hub.get_dir", lambda: str(tmp_path))
    name = PUBLISHED["vit_b"].file
    assert sam_source("vit_b", name).find() is None
    path = tmp_path / "checkpoints" / name
    path.parent.mkdir()
    path.touch()
    assert sam_source("vit_b", name).find() == path
    assert str(path) in sam_source("vit_b", name).searched()


class EncodedOnce(torch.nn.Module):
    """Runs an encoder on its first input; the second must be equal and gets the same features."""

    def __init__(self, encoder):
        super().__init__()
        self.encoder, self.img_size = encoder, encoder.img_size
        self.pixels = self.features = None

    def forward(self, pixels):
        if self.pixels is None:
            self.pixels, self.features = pixels.clone(), self.encoder(pixels)
        assert torch.equal(pixels, self.pixels)
        return self.features


@pytest.mark.slow
@pytest.mark.parametrize("blocks", [1, pytest.param(12, marks=pytest.mark.e2e)])
def test_vit_b_gives_sam_predictors_masks_and_scores_on_a_non_square_image(tmp_path, blocks):
    torch.manual_seed(0)
    random = build_sam("vit_b")
    torch.save(random.model.state_dict(), tmp_path / "vit_b.pth")
    sam = build_sam("vit_b", tmp_path / "vit_b.pth")
    assert len(sam.model.image_encoder.blocks) == 12
    sam.model.image_encoder.blocks = sam.model.image_encoder.blocks[:blocks]
    sam.model.image_encoder = EncodedOnce(sam.model.image_encoder)
    image = random_image(120, 200)
    embedding = sam.embed(image)
    assert embedding.encoded.side.tokens.shape == (1, 4096, 256)
    assert embedding.encoded.input_hw == (614, 1024)
    prompts = random_prompts(120, 200, 2, 5)
    prediction = sam.predict_points(embedding, prompts)
    assert prediction.logits.shape == (6, 256, 256)
    assert_equal_to_predictor(sam, image, prompts)


@pytest.mark.weights
def test_the_shipped_miniature_sam_loads_and_agrees_with_sam_predictor():
    sam = build_sam("miniature")
    assert_equal_to_predictor(sam, random_image(90, 128), random_prompts(90, 128, 2, 5))
