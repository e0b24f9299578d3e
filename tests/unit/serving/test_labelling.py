"""Pictures on their way to their labels: together on an accelerator, never other answers."""

import io
from collections.abc import Sequence

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from torch import Tensor

from fmbseg.align.head import AlignmentHead
from fmbseg.methods.aligned import AlignedSegmentation
from fmbseg.models.vision import TimmVision
from fmbseg.segmenter import Segmenter
from fmbseg.serving.answers import Answer
from fmbseg.serving.asked import Query, asked_of
from fmbseg.serving.labelling import Job, Labeller
from fmbseg.serving.refused import RefusedError
from fmbseg.serving.settings import Limits
from fmbseg.vocabulary import Vocabulary
from tests.support.method_fakes import NAMES, ColourClip, ColourVision, identity_head, image
from tests.support.pretend_gpu import pretend

OWN = Vocabulary(tuple(NAMES))
SMALL = {"img_size": 32, "patch_size": 8, "embed_dim": 24, "depth": 2, "num_heads": 2}
PIXELS = image().shape[0] * image().shape[1]


class CountedVision(ColourVision):
    """Takes several images, as on an accelerator, and remembers how many at once."""

    def __init__(self, images_at_once: int = 4) -> None:
        self.images_at_once, self.together = images_at_once, list[int]()

    def prepare(self, image: np.ndarray) -> np.ndarray:
        return image

    def encode(self, image: np.ndarray) -> Tensor:
        return self.encode_prepared([image])[0]

    def encode_prepared(self, prepared: Sequence[np.ndarray]) -> list[Tensor]:
        self.together.append(len(prepared))
        return [super(CountedVision, self).encode(one) for one in prepared]


def labeller(vision: CountedVision, max_pixels: int = 10**6, **more: int) -> Labeller:
    method = AlignedSegmentation(vision, identity_head(), ColourClip())
    return Labeller(Segmenter(method, NAMES, temperature=0.2), max_pixels, **more)


def picture(number: int, size_hw: tuple[int, int] = (24, 16)) -> np.ndarray:
    return np.random.default_rng(number).integers(0, 255, (*size_hw, 3), np.uint8)


def job(pixels: np.ndarray, **query: object) -> Job:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return Job(file.getvalue(), asked_of(Query.model_validate(query), OWN, Limits()))


def labels(answer: Answer | Exception) -> np.ndarray:
    assert isinstance(answer, Answer), answer
    return np.asarray(Image.open(io.BytesIO(answer.content)))


def test_pictures_that_wait_go_through_the_encoder_together_whatever_their_words():
    vision = CountedVision()
    several = labeller(vision)
    jobs = [job(picture(1)), job(picture(2), classes=["green", "red"]), job(picture(3))]
    answers = list(several.answers(jobs))
    assert vision.together == [3]
    assert (several.at_once, several.encoded, several.known) == (4, 3, 0)
    alone = Segmenter(AlignedSegmentation(ColourVision(), identity_head(), ColourClip()))
    for one, number, names in zip(
        answers, (1, 2, 3), (NAMES, ["green", "red"], NAMES), strict=True
    ):
        assert np.array_equal(labels(one), alone.predict(picture(number), names).labels)


def test_together_they_have_no_more_pixels_than_one_may_have_and_a_bad_one_stops_no_other():
    vision = CountedVision(9)
    several = labeller(vision, 2 * PIXELS)
    bad = Job(b"no picture", job(picture(0)).asked)
    answers = list(several.answers([job(picture(n)) for n in range(5)] + [bad, job(picture(9))]))
    assert vision.together == [2, 2, 1, 1]
    assert isinstance(answers[5], RefusedError)
    assert [isinstance(one, Answer) for one in answers] == [True] * 5 + [False, True]
    large = next(labeller(vision, PIXELS - 1).answers([job(picture(0))]))
    assert isinstance(large, RefusedError)
    assert large.status == 422


def test_a_model_that_fails_tells_each_of_those_that_went_together(monkeypatch: pytest.MonkeyPatch):
    vision = CountedVision()
    several = labeller(vision)
    monkeypatch.setattr(vision, "encode_prepared", lambda _: 1 / 0)
    answers = list(several.answers([job(picture(n)) for n in range(2)]))
    assert [type(one) for one in answers] == [ZeroDivisionError] * 2


@pytest.mark.parametrize("form", ["png", "coco", "overlay", "confidence", "similarity"])
def test_a_picture_asked_about_again_is_encoded_once_and_the_answer_has_the_same_bytes(form: str):
    vision = CountedVision(1)
    again, new = labeller(vision), labeller(CountedVision(1))
    first = job(picture(1))
    list(again.answers([first]))
    asked = job(picture(1), format=form, classes=["blue", "red=crimson"], background=["white"])
    (found,), (wanted,) = again.answers([asked]), new.answers([asked])
    assert isinstance(found, Answer)
    assert found == wanted
    assert (vision.together, again.encoded, again.known) == ([1], 1, 1)


def test_twice_the_same_picture_at_once_is_encoded_once():
    vision = CountedVision()
    answers = list(
        labeller(vision).answers([job(picture(1)), job(picture(1), format="similarity")])
    )
    assert vision.together == [1]
    assert all(isinstance(one, Answer) for one in answers)


def test_features_are_kept_of_the_pictures_seen_last_up_to_a_size():
    vision, bytes_each = CountedVision(1), PIXELS // 16 * 3 * 4
    small = labeller(vision, kept_bytes=2 * bytes_each)
    for number in (1, 2, 1, 3, 1, 2):  # 2 has gone when it comes again
        list(small.answers([job(picture(number))]))
    assert (small.encoded, small.known) == (4, 2)
    none = labeller(vision, kept_bytes=0)
    for _ in range(2):
        list(none.answers([job(picture(1))]))
    assert (none.encoded, none.known) == (2, 0)


def test_a_similarity_picture_is_the_cosine_of_the_best_class():
    several = labeller(CountedVision(1))
    (found,) = several.answers([job(picture(1), classes=["green"], format="similarity")])
    alone = Segmenter(AlignedSegmentation(ColourVision(), identity_head(), ColourClip()))
    wanted = alone.predict(picture(1), ["green"], similarities=True).similarities[0]
    assert np.abs(labels(found) / 65535 * 2 - 1 - wanted).max() < 2e-5
    assert wanted.std() > 0.1


class DrawnTexts(ColourClip):
    """Drawn text features."""

    def encode_text(self, names: Sequence[str], templates: Sequence[str] | None = None) -> Tensor:
        drawn = torch.randn(len(names), 3, generator=torch.Generator().manual_seed(5))
        return torch.nn.functional.normalize(drawn, dim=1)


def counted_passes(vision: TimmVision, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    together, forward = list[int](), vision._patches

    def counted(pixels: Sequence[Tensor]) -> Tensor:
        together.append(len(pixels))
        return forward(pixels)

    monkeypatch.setattr(vision, "_patches", counted)
    return together


def test_on_a_gpu_pictures_of_one_size_go_together_and_on_a_processor_each_by_itself(
    monkeypatch: pytest.MonkeyPatch,
):
    jobs = [job(picture(n, size), classes=["cat", "grass"])
            for n, size in enumerate([(24, 32), (24, 32), (32, 24), (24, 32)])]  # fmt: skip
    answers = {}
    for device in ("cpu", "cuda"):
        if device == "cuda":
            pretend(monkeypatch)
        torch.manual_seed(0)
        small = timm.create_model("vit_small_patch16_224", dynamic_img_size=True, **SMALL)
        vision = TimmVision(small, torch.device(device), short_side_px=24)
        head = AlignmentHead(24, 3, 1, 1.0, generator=torch.Generator().manual_seed(3))
        method = AlignedSegmentation(vision, head.to(vision.device), DrawnTexts())
        serving = Labeller(Segmenter(method, temperature=0.2), 10**6)
        together = counted_passes(vision, monkeypatch)
        list(serving.answers([job(picture(9, (24, 32)))]))  # whose memory is measured
        answers[device] = [labels(one) for one in serving.answers(jobs)]
        assert serving.at_once == (1 if device == "cpu" else 16)
        assert together == ([1] * 5 if device == "cpu" else [1, 3, 1])
    for ours, theirs in zip(*answers.values(), strict=True):
        assert np.array_equal(ours, theirs)
    assert len(np.unique(np.stack(answers["cpu"][:2]))) > 1
