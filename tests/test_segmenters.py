"""Segmenters on small models that truly compute: colours are CLIP's and the encoder's features."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image as PilImage
from torch import Tensor
from torch.nn import functional

from fmbseg import store
from fmbseg.align.head import AlignmentHead
from fmbseg.models.build import FoundationModels
from fmbseg.models.protocols import DenseClip, SamEmbedding, SamPrediction
from fmbseg.pseudo.automatic import AutomaticOptions
from fmbseg.pseudo.stage1 import Stage1Options
from fmbseg.segmenter import Segmenter
from fmbseg.segmenters.aligned import AlignedSegmentation
from fmbseg.segmenters.base import SlidingSegmentation, TextFeatures, label_pixels
from fmbseg.segmenters.maskclip import DenseClipSegmentation
from fmbseg.segmenters.stage1 import Stage1Segmentation
from fmbseg.types import Image

COLOURS = {"red": (255, 0, 0), "green": (0, 255, 0), "blue": (0, 0, 255)}
NAMES = list(COLOURS)
PATCH_PX = 4


def image() -> Image:
    """24 x 16 px: red above, green below left, blue below right."""
    pixels = np.zeros((24, 16, 3), np.uint8)
    pixels[:12], pixels[12:, :8], pixels[12:, 8:] = COLOURS.values()
    return pixels


def truth() -> np.ndarray:
    labels = np.zeros((24, 16), int)
    labels[12:, :8], labels[12:, 8:] = 1, 2
    return labels


def patch_colours(pixels: Image) -> Tensor:
    channels = torch.from_numpy(pixels.copy()).permute(2, 0, 1).float() / 255
    return functional.avg_pool2d(channels[None], PATCH_PX)[0].permute(1, 2, 0)


class ColourClip:
    """Joint space = RGB. Every patch is a crop of its own."""

    dim = 3

    def __init__(self) -> None:
        self.text_calls = self.image_calls = 0

    def encode_dense(self, image: Image) -> DenseClip:
        self.image_calls += 1
        patches = functional.normalize(patch_colours(image), dim=-1)
        return DenseClip(patches, patches.flatten(0, 1))

    def encode_text(self, names: Sequence[str]) -> Tensor:
        self.text_calls += 1
        return functional.normalize(torch.tensor([COLOURS[n] for n in names]).float(), dim=1)


class ColourVision:
    dim = 3

    def encode(self, image: Image) -> Tensor:
        return patch_colours(image)


class ColourSam:
    """The mask of a point: the pixels of its colour; blue has no mask that is any good."""

    def embed(self, image: Image) -> SamEmbedding:
        features = torch.from_numpy(image.copy()).permute(2, 0, 1)[None].float()
        return SamEmbedding(features, image.shape[:2], image.shape[:2])

    def predict_points(self, embedding: SamEmbedding, points_xy_px: np.ndarray) -> SamPrediction:
        logits, quality = [], []
        for points in points_xy_px:
            x, y = points[0].astype(int)
            colour = embedding.features[0, :, y, x]
            same = (embedding.features[0] == colour[:, None, None]).all(0)
            logits.append((same.float() * 20 - 10).expand(3, -1, -1))
            quality.append([0.9, 0.8, 0.1])
        return SamPrediction(torch.stack(logits), torch.tensor(quality))

    def upscale(self, embedding: SamEmbedding, logits: Tensor) -> Tensor:
        return logits


class BlindSam(ColourSam):
    """Every mask is empty, so nothing is covered."""

    def predict_points(self, embedding: SamEmbedding, points_xy_px: np.ndarray) -> SamPrediction:
        found = super().predict_points(embedding, points_xy_px)
        return SamPrediction(
            torch.full_like(found.logits, -10), torch.zeros_like(found.predicted_iou)
        )


OPTIONS = Stage1Options(
    presence_votes=1,
    prompt_points=2,
    automatic=AutomaticOptions(
        points_per_side=6, min_predicted_iou=0.5, min_stability=0.5, stability_offset=1.0,
        nms_iou=0.7, min_area_fraction=0.01, max_area_fraction=0.95,
    ),
)  # fmt: skip


def identity_head() -> AlignmentHead:
    """No attention, no MLP, a norm, and the identity: colours less their mean."""
    head = AlignmentHead(3, 3, 1, 1.0)
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.zero_()
        head.to_text.weight.copy_(torch.eye(3))
    return head


def test_dense_clip_labels_every_pixel_in_any_order_of_names() -> None:
    method = DenseClipSegmentation(ColourClip())
    assert method.name == "maskclip"
    assert np.array_equal(method.segment(image(), NAMES).labels, truth())
    answer = method.segment(image(), NAMES[::-1])
    assert np.array_equal(answer.labels, 2 - truth())
    assert answer.class_names == ("blue", "green", "red")


def test_aligned_labels_every_pixel_through_the_head() -> None:
    method = AlignedSegmentation(ColourVision(), identity_head(), ColourClip())
    assert method.name == "fmbseg"
    answer = method.segment(image(), NAMES, similarities=True)
    assert np.array_equal(answer.labels, truth())
    assert answer.similarities is not None
    assert answer.similarities.shape == (3, 24, 16)
    assert np.abs(answer.similarities).max() <= 1 + 1e-6
    assert np.array_equal(answer.similarities.argmax(0), answer.labels)


def test_aligned_refuses_a_head_of_other_widths() -> None:
    with pytest.raises(ValueError, match="models it was trained with"):
        AlignedSegmentation(ColourVision(), AlignmentHead(4, 3, 1, 1.0), ColourClip())


def test_texts_are_encoded_once_per_class_list() -> None:
    clip = ColourClip()
    method = DenseClipSegmentation(clip)
    for names in (NAMES, NAMES, ["red", "blue"], NAMES):
        method.segment(image(), names)
    assert clip.text_calls == 2


def test_the_text_cache_forgets_the_list_used_longest_ago() -> None:
    clip = ColourClip()
    texts = TextFeatures(clip, most_lists=2)
    for names in (["red"], ["blue"], ["red"], ["green"], ["red"]):
        texts(names)
    assert clip.text_calls == 3
    texts(["blue"])
    assert clip.text_calls == 4


def test_an_empty_class_list_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one name"):
        DenseClipSegmentation(ColourClip()).segment(image(), [])


def test_class_by_class_labels_equal_the_plain_argmax() -> None:
    grid = torch.randn(7, 3, 4)
    grid[5] = grid[2]  # a tie
    names = [str(k) for k in range(7)]
    full = label_pixels(grid, (11, 9), names, similarities=True)
    for most in (1, 99, 250, 10**6):
        some = label_pixels(grid, (11, 9), names, max_elements=most)
        assert np.array_equal(some.labels, full.labels)
        assert some.similarities is None
    assert not (full.labels == 5).any()


@pytest.mark.parametrize("stages", [("1.1",), ("1.2",), ("1.1", "1.2")])
def test_stage1_labels_every_pixel_by_its_masks(stages: tuple[str, ...]) -> None:
    clip = ColourClip()
    method = Stage1Segmentation(clip, ColourSam(), OPTIONS, stages)  # type: ignore[arg-type]
    assert np.array_equal(method.segment(image(), NAMES).labels, truth())
    assert clip.image_calls == 1


def test_stage1_without_masks_falls_back_to_dense_clip_among_present_classes() -> None:
    """One blue patch of 24 gets one vote, which is not more than 1: blue is not present."""
    pixels = image()
    pixels[12:, 8:] = COLOURS["green"]
    pixels[20:, 12:] = COLOURS["blue"]
    labels = Stage1Segmentation(ColourClip(), BlindSam(), OPTIONS).segment(pixels, NAMES).labels
    assert set(np.unique(labels)) == {0, 1}
    expected = truth().clip(max=1)
    assert np.array_equal(labels[:20], expected[:20])


def test_stage1_refuses_an_unknown_stage() -> None:
    with pytest.raises(ValueError, match="stages"):
        Stage1Segmentation(ColourClip(), ColourSam(), OPTIONS, ("1.3",))  # type: ignore[arg-type]


def test_sliding_answers_at_the_image_size_and_refuses_methods_without_similarities() -> None:
    sliding = SlidingSegmentation(DenseClipSegmentation(ColourClip()), 32, 16, 8)
    answer = sliding.segment(image(), NAMES)
    assert answer.labels.shape == (24, 16)
    assert (answer.labels == truth()).mean() > 0.9
    stage1 = SlidingSegmentation(Stage1Segmentation(ColourClip(), ColourSam(), OPTIONS), 32, 16, 8)
    with pytest.raises(ValueError, match="protocol whole"):
        stage1.segment(image(), NAMES)


def test_segmenter_loads_a_folder_and_predicts_from_arrays_pictures_and_files(
    tmp_path: Path,
) -> None:
    identity_head().save(tmp_path)
    store.write_json(tmp_path / "segmenter.json", {"trained_classes": ["red"], "models": {}})
    models = FoundationModels(ColourClip(), ColourSam(), ColourVision())
    segmenter = Segmenter.load(tmp_path, "cpu", models=models)
    assert segmenter.trained_classes == ("red",)
    picture = PilImage.fromarray(image())
    picture.save(tmp_path / "image.png")
    for given in (image(), picture, tmp_path / "image.png"):
        answer = segmenter.predict(given, NAMES, similarities=True)
        assert np.array_equal(answer.labels, truth())
        assert answer.similarities is not None
    assert segmenter.predict(image(), NAMES).similarities is None


def test_segmenter_names_what_is_wrong(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="run the train step"):
        Segmenter.load(tmp_path, "cpu")
    segmenter = Segmenter(AlignedSegmentation(ColourVision(), identity_head(), ColourClip()))
    with pytest.raises(ValueError, match="list of names"):
        segmenter.predict(image(), "red")
    with pytest.raises(ValueError, match="uint8"):
        segmenter.predict(image().astype(float), NAMES)  # type: ignore[arg-type]
