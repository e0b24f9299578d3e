"""Segmenters on small models that truly compute."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image as PilImage

from fmbseg import store
from fmbseg.align.head import AlignmentHead
from fmbseg.evaluate.sliding import SlidingSegmentation
from fmbseg.methods import pixels
from fmbseg.methods.aligned import AlignedSegmentation
from fmbseg.methods.maskclip import DenseClipSegmentation
from fmbseg.methods.pixels import label_pixels
from fmbseg.methods.segmentation import Prompts
from fmbseg.methods.stage1 import Stage1Segmentation
from fmbseg.methods.text_features import TextFeatures
from fmbseg.models.build import FoundationModels
from fmbseg.segmenter import Segmenter
from fmbseg.types import LabelMap
from fmbseg.vocabulary import Vocabulary, encode
from tests.support.method_fakes import (
    COLOURS,
    NAMES,
    OPTIONS,
    BlindSam,
    ColourClip,
    ColourSam,
    ColourVision,
    identity_head,
    image,
    truth,
)


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


def test_class_by_class_labels_equal_the_plain_argmax(monkeypatch: pytest.MonkeyPatch) -> None:
    grid = torch.randn(7, 3, 4)
    grid[5] = grid[2]  # a tie
    names = [str(k) for k in range(7)]
    full = label_pixels(grid, (11, 9), names, similarities=True)
    for most in (1, 99, 250, 10**6):
        monkeypatch.setattr(pixels, "MAX_ELEMENTS", most)
        some = label_pixels(grid, (11, 9), names)
        assert np.array_equal(some.labels, full.labels)
        assert some.similarities is None
    assert not (full.labels == 5).any()


@pytest.mark.parametrize("stages", [("1.1",), ("1.2",), ("1.1", "1.2")])
def test_stage1_labels_every_pixel_by_its_masks(stages: tuple[str, ...]) -> None:
    clip = ColourClip()
    method = Stage1Segmentation(clip, ColourSam(), OPTIONS, stages)
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


@pytest.mark.usefixtures("unchecked")
def test_stage1_refuses_an_unknown_stage() -> None:
    with pytest.raises(ValueError, match="stages"):
        Stage1Segmentation(ColourClip(), ColourSam(), OPTIONS, ("1.3",))


class Mute:
    """Labels alone, whatever it is asked for."""

    name = "mute"

    def segment(self, image, class_names, *, similarities=False):
        return LabelMap(np.zeros(image.shape[:2], np.int32), tuple(class_names))

    def prompted(self, prompts):
        return self


def test_sliding_answers_at_the_image_size_and_refuses_methods_without_similarities() -> None:
    sliding = SlidingSegmentation(DenseClipSegmentation(ColourClip()), 32, 16, 8)
    answer = sliding.segment(image(), NAMES)
    assert answer.labels.shape == (24, 16)
    assert (answer.labels == truth()).mean() > 0.9
    with pytest.raises(ValueError, match="protocol whole"):
        SlidingSegmentation(Mute(), 32, 16, 8).segment(image(), NAMES)


def test_several_templates_are_averaged_and_the_method_itself_stays_as_it_was() -> None:
    clip = ColourClip()
    method = DenseClipSegmentation(clip)
    twin = method.prompted(Prompts(("a {}", "{} and blue")))
    plain, turned = (m.segment(image(), NAMES, similarities=True) for m in (method, twin))
    texts = clip.encode_text(NAMES, ["a {}", "{} and blue"])
    patches = clip.encode_dense(image()).patches
    expected = torch.einsum("rcd,kd->krc", patches, texts)
    assert torch.allclose(torch.from_numpy(turned.similarities)[:, 2::4, 2::4], expected, atol=0.2)
    assert turned.similarities[0, 23, 15] > plain.similarities[0, 23, 15] + 0.2
    again = method.segment(image(), NAMES, similarities=True)
    assert np.array_equal(again.similarities, plain.similarities)


def test_one_template_equal_to_the_models_own_changes_no_byte() -> None:
    clip = ColourClip()
    own, given = TextFeatures(clip)(NAMES), TextFeatures(clip, prompts=Prompts(("{}",)))(NAMES)
    assert torch.equal(own, given)


def test_synonyms_are_averaged_as_the_vocabulary_averages_them() -> None:
    clip = ColourClip()
    vocabulary = Vocabulary(("red", "green"), (("crimson", "white"), ()))
    prompts = Prompts(("{}",), dict(zip(vocabulary.names, vocabulary.synonyms, strict=True)))
    found = TextFeatures(clip, prompts=prompts)(vocabulary.names)
    torch.testing.assert_close(found, encode(clip, vocabulary))
    assert not torch.allclose(found[0], clip.encode_text(["red"])[0], atol=0.05)


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


@pytest.mark.usefixtures("unchecked")
def test_segmenter_names_what_is_wrong(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="run the train step"):
        Segmenter.load(tmp_path, "cpu")
    segmenter = Segmenter(AlignedSegmentation(ColourVision(), identity_head(), ColourClip()))
    with pytest.raises(ValueError, match="list of names"):
        segmenter.predict(image(), "red")
    with pytest.raises(ValueError, match="uint8"):
        segmenter.predict(image().astype(float), NAMES)
