"""A method under a protocol: synonyms, background, image labels, and the metric file."""

import dataclasses
import json

import numpy as np
import pytest
import torch

from fmbseg.evaluate.background import Background
from fmbseg.evaluate.metrics import Tally
from fmbseg.evaluate.prepared import PreparedMethod, classes_in
from fmbseg.evaluate.protocol import protocol_named
from fmbseg.methods import pixels
from fmbseg.methods.maskclip import DenseClipSegmentation
from fmbseg.methods.stage1 import Stage1Segmentation
from fmbseg.types import IGNORE, LabelMap
from fmbseg.vocabulary import Vocabulary
from tests.support.method_fakes import OPTIONS, ColourClip, ColourSam, SeveralClip, image

WHOLE = dataclasses.replace(protocol_named("whole"), templates=("{}",))
COSINE = Background("threshold", score="cosine", threshold=0.5)


class Scripted:
    """Answers with the similarities it was made with; remembers what it was asked."""

    name = "scripted"

    def __init__(self, similarities, kept=True) -> None:
        self.similarities, self.kept = np.asarray(similarities, np.float32), kept

    def segment(self, image, class_names, *, similarities=False):
        self.asked = tuple(class_names)
        labels = self.similarities.argmax(0).astype(np.int32)
        return LabelMap(labels, self.asked, self.similarities if self.kept else None)

    def prompted(self, prompts):
        self.prompts = prompts
        return self


def picture(height=2, width=3):
    return np.zeros((height, width, 3), np.uint8)


def prepared(method, names, protocol=WHOLE, background=None, **fields):
    classes = names if isinstance(names, Vocabulary) else Vocabulary(tuple(names))
    return PreparedMethod(dataclasses.replace(protocol, **fields), method, classes, background)


def test_ignored_background_is_neither_asked_for_nor_scored() -> None:
    method = Scripted([[[1, 0, 0]], [[0, 1, 1]]])
    one = prepared(method, ["cat", "background", "dog"], background=1)
    assert one.asked == ("cat", "dog")
    assert one.predict(picture(1, 3)).tolist() == [[0, 2, 2]]
    assert method.asked == ("cat", "dog")
    target = np.array([[0, 1, IGNORE]], np.uint8)
    assert one.truth(target).tolist() == [[0, IGNORE, IGNORE]]
    assert target.tolist() == [[0, 1, IGNORE]]


def test_below_the_threshold_the_background_is_answered_and_it_is_scored() -> None:
    method = Scripted([[[0.9, 0.4, 0.1]], [[0.2, 0.45, 0.5]]])
    names = ["cat", "background", "dog"]
    free, cut = (
        prepared(method, names, dataclasses.replace(WHOLE, background=rule), background=1)
        for rule in (Background("ignore"), COSINE)
    )
    assert free.predict(picture(1, 3)).tolist() == [[0, 2, 2]]
    assert cut.predict(picture(1, 3)).tolist() == [[0, 1, 2]]
    target = np.array([[0, 1, IGNORE]], np.uint8)
    assert cut.truth(target).tolist() == target.tolist()


def test_without_a_background_class_the_background_plays_no_part() -> None:
    method = Scripted([[[0.9, 0.4]], [[0.2, 0.45]]])
    for background in (COSINE, Background("stuff_names", ("sky",)), Background("ignore")):
        rules = dataclasses.replace(WHOLE, background=background)
        one = PreparedMethod(rules, method, Vocabulary(("cat", "dog")))
        assert one.asked == ("cat", "dog")
        assert one.predict(picture(1, 2)).tolist() == [[0, 1]]


def test_stuff_names_answer_for_the_background_unless_a_class_has_the_name() -> None:
    classes = Vocabulary(("background", "cat", "wall"), ((), ("Kitten",), ()))
    rules = dataclasses.replace(
        WHOLE, background=Background("stuff_names", ("sky", "Wall", "kitten", "grass", "SKY"))
    )
    method = Scripted(np.eye(4)[:, None, :])
    one = PreparedMethod(rules, method, classes, 0)
    assert set(one.asked) == {"SKY", "grass", "cat", "wall"}
    assert one.asked[2:] == ("cat", "wall")
    assert one.predict(picture(1, 4)).tolist() == [[0, 0, 1, 2]]


def test_stuff_names_with_a_threshold_have_both_ways_to_the_background() -> None:
    rule = Background("stuff_names", ("sky",), score="softmax", temperature=0.1, threshold=0.6)
    scores = [[[0.9, 0.1, 0.30]], [[0.1, 0.9, 0.31]], [[0.1, 0.1, 0.29]]]
    one = prepared(Scripted(scores), ["background", "cat", "dog"], background=0,
                   protocol=dataclasses.replace(WHOLE, background=rule))  # fmt: skip
    assert one.predict(picture(1, 3)).tolist() == [[0, 1, 0]]


def test_the_best_synonym_counts_for_its_class() -> None:
    classes = Vocabulary(("cat", "dog"), (("kitten", "tom"), ("puppy",)))
    method = Scripted(np.eye(5)[:, None, :])
    one = prepared(method, classes, synonyms="max")
    assert one.asked == ("cat", "kitten", "tom", "dog", "puppy")
    assert one.predict(picture(1, 5)).tolist() == [[0, 0, 0, 1, 1]]
    assert method.prompts.synonyms == {}


def test_averaged_synonyms_go_to_the_prompts_and_first_names_alone_do_not() -> None:
    classes = Vocabulary(("red", "green", "blue"), ((), ("lime", "white"), ()))
    averaged, alone = (
        prepared(DenseClipSegmentation(ColourClip()), classes, synonyms=way)
        for way in ("mean", "none")
    )
    assert averaged.asked == alone.asked == ("red", "green", "blue")
    pixels = picture(4, 4)
    pixels[:] = (170, 80, 0)  # nearer to red than to green, nearest to green among its synonyms
    assert (alone.predict(pixels) == 0).all()
    assert (averaged.predict(pixels) == 0).all()
    pixels[:] = (150, 130, 120)
    assert (alone.predict(pixels) == 0).all()
    assert (averaged.predict(pixels) == 1).all()


def test_more_than_255_names_are_told_apart_from_no_answer() -> None:
    classes = Vocabulary(("a", "b"), (tuple(f"a{k}" for k in range(254)), ("b1",)))
    scores = np.zeros((257, 1, 3))
    scores[254, 0, 0] = scores[255, 0, 1] = scores[256, 0, 2] = 1
    one = prepared(Scripted(scores), classes, synonyms="max")
    assert len(one.asked) == 257
    assert one.predict(picture(1, 3)).tolist() == [[0, 1, 1]]


def test_no_answer_stays_no_answer() -> None:
    class Silent(Scripted):
        def segment(self, image, class_names, *, similarities=False):
            labels = np.array([[IGNORE, 1]], np.int32)
            return LabelMap(labels, tuple(class_names), self.similarities)

    scores = [[[0.9, 0.1]], [[0.1, 0.9]]]
    names = ["background", "cat", "dog"]
    one = prepared(Silent(scores), names, background=0)
    assert one.predict(picture(1, 2)).tolist() == [[IGNORE, 2]]


def test_image_labels_reach_the_method_as_the_names_of_their_classes() -> None:
    told = Stage1Segmentation(ColourClip(), ColourSam(), OPTIONS, needs_image_labels=True)
    classes = Vocabulary(("background", "green", "red"), ((), (), ("crimson",)))
    one = PreparedMethod(dataclasses.replace(WHOLE, synonyms="max"), told, classes, 0)
    assert one.needs_image_labels
    assert set(np.unique(one.predict(image(), [0, 2]))) == {2}
    assert (one.predict(image(), [0]) == 0).all()
    with pytest.raises(ValueError, match="image labels"):
        one.predict(image())
    blank = PreparedMethod(WHOLE, told, Vocabulary(("red", "green")))
    assert (blank.predict(image(), []) == IGNORE).all()
    assert classes_in(np.array([[2, 0], [IGNORE, 2]], np.uint8)) == [0, 2]


def test_a_threshold_needs_similarities() -> None:
    one = prepared(Scripted(np.eye(2)[:, None, :], kept=False), ["background", "cat", "dog"],
                   dataclasses.replace(WHOLE, background=COSINE), background=0)  # fmt: skip
    with pytest.raises(ValueError, match="no similarities"):
        one.predict(picture(1, 2))


def test_a_metric_file_always_holds_protocol_hash_and_the_use_of_labels() -> None:
    names = ("background", "cat", "dog")
    one = prepared(Scripted([[[1, 0, 0]], [[0, 1, 1]]]), names, background=0)
    target = np.array([[0, 2, 2]], np.uint8)
    tally = Tally.of_image(one.predict(picture(1, 3)), one.truth(target), 3)
    found = one.metrics(tally, data_set="voc", split="val", seed=3, images=1, seconds_per_image=0.5)
    assert json.loads(json.dumps(found)) == found
    assert found["protocol"] == one.protocol.facts()
    assert found["protocol_hash"] == one.protocol.digest
    assert found["iou"] == {"background": None, "cat": None, "dog": 1.0}
    assert (found["miou"], found["pixel_accuracy"], found["method"]) == (1.0, 1.0, "scripted")
    assert (found["uses_image_labels"], found["background_class"]) == (False, "background")
    with pytest.raises(ValueError, match="wanted 3"):
        one.metrics(
            Tally.of_image(target % 2, target % 2, 2),
            data_set="voc", split="val", seed=0, images=0, seconds_per_image=0,
        )  # fmt: skip


def test_a_background_index_out_of_range_or_no_name_at_all_is_refused() -> None:
    method = Scripted(torch.zeros(1, 1, 1))
    with pytest.raises(ValueError, match="background_index: found 2"):
        prepared(method, ["cat", "dog"], background=2)
    with pytest.raises(ValueError, match="no name to ask for"):
        prepared(method, ["background"], background=0)


@pytest.mark.parametrize("background", [Background("ignore"), COSINE])
def test_images_that_go_through_the_encoder_together_are_labelled_as_alone(background) -> None:
    images = [image(), image()[::-1], image()[:, :12]]
    alone, together = (
        prepared(DenseClipSegmentation(clip), ["red", "none", "blue"], background=1,
                 protocol=dataclasses.replace(WHOLE, background=background))
        for clip in (ColourClip(), SeveralClip())
    )  # fmt: skip
    assert (alone.images_at_once, together.images_at_once) == (1, 4)
    expected = [alone.predict(one) for one in images]
    for one in (alone, together):
        for found, wanted in zip(one.predict_each(images), expected, strict=True):
            np.testing.assert_array_equal(found, wanted)


class OfPixels:
    """A method of patches that answers with pixels alone."""

    name = "of pixels"

    def __init__(self, method) -> None:
        self.segment, self._method = method.segment, method

    def prompted(self, prompts):
        return OfPixels(self._method.prompted(prompts))


@pytest.mark.parametrize("rules", [
    Background("threshold", score="cosine", threshold=0.93),
    Background("threshold", score="sigmoid", midpoint=0.5, temperature=0.1, threshold=0.6),
    Background("threshold", score="softmax", temperature=0.1, threshold=0.7),
])  # fmt: skip
@pytest.mark.parametrize("windows", [(None,) * 4, (48, None, 32, 12)])
def test_a_threshold_is_compared_some_rows_at_a_time(monkeypatch, rules, windows) -> None:
    sizes = dict(zip(("short_side_px", "longest_px", "window_px", "stride_px"), windows,
                     strict=True))  # fmt: skip
    method, names = DenseClipSegmentation(ColourClip()), ["red", "nothing", "green", "crimson"]
    noise = np.random.default_rng(0).integers(0, 150, (24, 16, 3))
    noisy = np.clip(image() + noise, 0, 255).astype(np.uint8)
    protocol = dataclasses.replace(WHOLE, background=rules, **sizes)
    wanted = prepared(OfPixels(method), names, protocol, background=1).predict(noisy)
    assert 0.02 < (wanted == 1).mean() < 0.9
    monkeypatch.setattr(pixels, "MAX_ELEMENTS", 3 * 16 * 5)
    one = prepared(method, names, protocol, background=1)
    assert np.array_equal(one.predict(noisy), wanted)
    assert all(np.array_equal(found, wanted) for found in one.predict_each([noisy, noisy]))
