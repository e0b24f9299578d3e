"""Synonyms and "none of these" in the Python API, on small models that truly compute."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from fmbseg import store
from fmbseg.methods import pixels
from fmbseg.methods.aligned import AlignedSegmentation
from fmbseg.methods.pixels import label_or_none, label_pixels
from fmbseg.models.build import FoundationModels
from fmbseg.segmenter import Segmenter
from fmbseg.types import IGNORE
from fmbseg.vocabulary import Vocabulary, VocabularyError, encode, read_classes
from tests.support.method_fakes import (
    NAMES,
    ColourClip,
    ColourSam,
    ColourVision,
    identity_head,
    image,
    truth,
)


class ListeningClip(ColourClip):
    """Keeps what it answered for text."""

    def __init__(self) -> None:
        super().__init__()
        self.answers: list[Tensor] = []

    def encode_text(self, names: Sequence[str], templates: Sequence[str] | None = None) -> Tensor:
        self.answers.append(super().encode_text(names, templates))
        return self.answers[-1]


@pytest.fixture
def segmenter() -> Segmenter:
    method = AlignedSegmentation(ColourVision(), identity_head(), ColourClip())
    return Segmenter(method, NAMES, temperature=0.2)


def test_synonyms_count_in_the_api_as_in_training(tmp_path: Path) -> None:
    (tmp_path / "classes.txt").write_text("red, crimson; white\ngreen; lime\nblue\n")
    vocabulary = read_classes(tmp_path / "classes.txt")
    trained = encode(ColourClip(), vocabulary)
    method = AlignedSegmentation(ColourVision(), identity_head(), ColourClip())
    assert torch.equal(method.encode_names(vocabulary), trained)
    segmenter = Segmenter(method)
    grid = method.similarity_grid(image(), trained)
    wanted = label_pixels(grid, (24, 16), vocabulary.names, similarities=True)
    for given in (vocabulary, vocabulary.groups, [list(group) for group in vocabulary.groups]):
        answer = segmenter.predict(image(), given, similarities=True)
        assert answer.class_names == ("red", "green", "blue")
        assert np.array_equal(answer.labels, wanted.labels)
        assert np.array_equal(answer.similarities, wanted.similarities)
    plain = segmenter.predict(image(), vocabulary.names, similarities=True)
    assert not np.allclose(plain.similarities, wanted.similarities, atol=0.05)


def test_a_list_of_names_is_answered_as_the_method_answers_it(segmenter: Segmenter) -> None:
    wanted = segmenter.segmentation.segment(image(), NAMES, similarities=True)
    for given in (NAMES, tuple(NAMES), Vocabulary(tuple(NAMES)), [["red"], "green", ("blue",)]):
        answer = segmenter.predict(image(), given, True)
        assert np.array_equal(answer.labels, wanted.labels)
        assert np.array_equal(answer.similarities, wanted.similarities)
        assert answer.best_similarity is None
        assert answer.confidence is None
    many = [*NAMES, *NAMES] * 50  # more than 255, and names given twice
    assert np.array_equal(segmenter.predict(image(), many).labels % 3, truth())


def test_a_trained_folder_keeps_the_synonyms_it_was_trained_with(tmp_path: Path) -> None:
    identity_head().save(tmp_path)
    described = {
        "models": {}, "trained_classes": ["red", "green"], "synonyms": [["crimson"], []],
        "temperature": 0.2,
    }  # fmt: skip
    store.write_json(tmp_path / "segmenter.json", described)
    models = FoundationModels(ColourClip(), ColourSam(), ColourVision())
    segmenter = Segmenter.load(tmp_path, "cpu", models=models)
    assert segmenter.trained_vocabulary == Vocabulary(("red", "green"), (("crimson",), ()))
    assert segmenter.trained_classes == ("red", "green")
    assert segmenter.temperature == 0.2
    del described["synonyms"], described["temperature"]  # a model of an earlier version
    store.write_json(tmp_path / "segmenter.json", described)
    segmenter = Segmenter.load(tmp_path, "cpu", models=models)
    assert segmenter.trained_vocabulary == Vocabulary(("red", "green"))
    assert segmenter.predict(image(), NAMES, scores=True).confidence is None


def test_a_pixel_that_a_background_name_wins_is_none(segmenter: Segmenter) -> None:
    answer = segmenter.predict(image(), ["red"], background=["green", "blue"])
    assert np.array_equal(answer.labels == IGNORE, truth() != 0)
    assert (answer.labels[truth() == 0] == 0).all()
    assert answer.class_names == ("red",)
    same = segmenter.predict(image(), ["red"], background=Vocabulary(("green", "blue")))
    assert np.array_equal(same.labels, answer.labels)


def test_a_pixel_below_min_similarity_is_none(segmenter: Segmenter) -> None:
    best = segmenter.predict(image(), ["red", "green"], scores=True).best_similarity
    assert best is not None
    for least in (-1.0, 0.0, 0.9, 1.0):
        answer = segmenter.predict(image(), ["red", "green"], min_similarity=least)
        assert np.array_equal(answer.labels == IGNORE, best < least)
        assert answer.best_similarity is None
    assert (segmenter.predict(image(), ["red"], min_similarity=-1.0).labels == 0).all()


def test_confidence_is_the_winners_share_of_a_softmax_at_the_trainings_temperature(
    segmenter: Segmenter,
) -> None:
    names = ["red", "green", "blue", "white"]
    full = segmenter.predict(image(), names, True).similarities
    assert full is not None
    shares = np.exp(full / 0.2) / np.exp(full / 0.2).sum(0)
    for classes, background in ((names, []), (names[:2], names[2:])):
        found = segmenter.predict(image(), classes, background=background, scores=True)
        np.testing.assert_allclose(found.confidence, shares.max(0), rtol=1e-5)
        np.testing.assert_allclose(found.best_similarity, full[: len(classes)].max(0), rtol=1e-6)
        won = full.argmax(0)
        assert np.array_equal(found.labels, np.where(won < len(classes), won, IGNORE))


def test_groups_of_names_give_what_all_at_once_give(monkeypatch: pytest.MonkeyPatch) -> None:
    grid = torch.randn(9, 3, 4)
    grid[5], grid[7] = grid[2], grid[1]  # ties, one with a background name
    names = [str(k) for k in range(6)]
    full = label_or_none(grid, (11, 9), names, min_similarity=0.1, temperature=0.3)
    for most in (1, 99, 250):
        monkeypatch.setattr(pixels, "MAX_ELEMENTS", most)
        some = label_or_none(grid, (11, 9), names, min_similarity=0.1, temperature=0.3)
        assert np.array_equal(some.labels, full.labels)
        np.testing.assert_allclose(some.confidence, full.confidence, rtol=1e-5)
    alone = label_or_none(grid[:6], (11, 9), names)
    assert np.array_equal(alone.labels, label_pixels(grid[:6], (11, 9), names).labels)


@pytest.mark.usefixtures("unchecked")
def test_what_cannot_be_asked_is_refused_with_words(segmenter: Segmenter, tmp_path: Path) -> None:
    with pytest.raises(VocabularyError, match="classes and background together: 'Red' is given"):
        segmenter.predict(image(), ["red"], background=["Red"])
    with pytest.raises(ValueError, match=r"min_similarity: found 40; wanted a cosine"):
        segmenter.predict(image(), ["red"], min_similarity=40)
    with pytest.raises(ValueError, match=r"read_classes\(path\)"):
        segmenter.predict(image(), tmp_path / "classes.txt")
    with pytest.raises(ValueError, match="background: found the string 'green'"):
        segmenter.predict(image(), ["red"], background="green")
    with pytest.raises(ValueError, match="wanted at most 255"):
        segmenter.predict(image(), ["red"] * 256, min_similarity=0.5)


def test_an_encoded_image_is_asked_about_as_the_image_itself(segmenter: Segmenter) -> None:
    (encoded,) = segmenter.encode([image()])
    assert encoded.image_hw == image().shape[:2]
    for asked in ({}, {"similarities": True}, {"background": ["white"], "scores": True}):
        found, wanted = (segmenter.predict(one, NAMES, **asked) for one in (encoded, image()))
        for part in ("labels", "similarities", "best_similarity", "confidence"):
            assert np.array_equal(getattr(found, part), getattr(wanted, part)), part
