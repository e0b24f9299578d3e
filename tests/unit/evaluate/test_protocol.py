"""Protocols: published numbers, hashes, facts, and what is below a background's threshold."""

import dataclasses
import json

import numpy as np
import pytest

from fmbseg.evaluate.background import Background
from fmbseg.evaluate.prepared import PreparedMethod
from fmbseg.evaluate.protocol import PROTOCOLS, EvaluationProtocol, protocol_named
from fmbseg.methods.aligned import AlignedSegmentation
from fmbseg.methods.clip_diy import ClipDiySegmentation
from fmbseg.methods.maskclip import DenseClipSegmentation
from fmbseg.methods.stage1 import Stage1Segmentation
from fmbseg.vocabulary import Vocabulary
from tests.support.method_fakes import (
    NAMES,
    OPTIONS,
    ColourClip,
    ColourSam,
    ColourVision,
    identity_head,
    image,
    truth,
)


def test_named_protocols_have_the_published_numbers() -> None:
    tcl, sclip = protocol_named("tcl"), protocol_named("sclip")
    assert (tcl.short_side_px, tcl.longest_px, tcl.window_px, tcl.stride_px) == (
        448, 2048, 448, 224,
    )  # fmt: skip
    assert tcl.templates == ("a photo of a {}",)
    assert (sclip.short_side_px, sclip.longest_px, sclip.window_px, sclip.stride_px) == (
        336, 2048, 224, 112,
    )  # fmt: skip
    assert [protocol_named(n).short_side_px for n in ("sclip_stuff", "sclip_city")] == [448, 560]
    assert len(set(sclip.templates)) == len(sclip.templates) == 80
    assert "a photo of a {}." in sclip.templates
    assert sclip.background.threshold == 0.1
    assert protocol_named("whole").templates == ('a photo of a "{}"',)
    assert set(PROTOCOLS) == {protocol_named(name).name for name in PROTOCOLS}


def test_every_field_is_in_the_hash_and_equal_protocols_have_equal_hashes() -> None:
    base = protocol_named("tcl")
    others = [
        dataclasses.replace(base, **change)
        for change in (
            {"name": "mine"}, {"short_side_px": 449}, {"longest_px": None}, {"window_px": 449},
            {"stride_px": 223}, {"templates": ("a {}",)}, {"synonyms": "mean"},
            {"class_names": "mine"}, {"background": Background("ignore")},
        )
    ]  # fmt: skip
    assert len(others) == len(dataclasses.fields(EvaluationProtocol))
    digests = {p.digest for p in [*others, *map(protocol_named, PROTOCOLS)]}
    assert len(digests) == len(others) + len(PROTOCOLS)
    assert dataclasses.replace(base).digest == base.digest
    assert len(base.digest) == 10


def test_facts_are_json_and_say_sizes_templates_and_background() -> None:
    facts = json.loads(json.dumps(protocol_named("tcl").facts()))
    assert facts["resize"] == "short side 448 px, long side at most 2048 px, bilinear"
    assert facts["windows"] == "448 px every 224 px, similarities averaged"
    assert facts["templates"] == ["a photo of a {}"]
    assert facts["background"] == {
        "mode": "threshold", "score": "sigmoid", "midpoint": 0.25, "temperature": 0.1,
        "threshold": 0.4,
    }  # fmt: skip
    assert protocol_named("whole").facts()["resize"].startswith("none")
    assert protocol_named("whole").facts()["background"] == {"mode": "ignore"}
    assert "mean of 80" in protocol_named("sclip").facts()["templates"]


@pytest.mark.parametrize(
    "wrong",
    [{"window_px": None}, {"short_side_px": None}, {"templates": ()}, {"templates": ("a",)}],
)
def test_a_protocol_that_does_not_go_together_is_refused(wrong) -> None:
    with pytest.raises(ValueError, match="protocol tcl"):
        dataclasses.replace(protocol_named("tcl"), **wrong)
    with pytest.raises(ValueError, match="protocol whole"):
        dataclasses.replace(protocol_named("whole"), longest_px=9)


def test_tcl_asks_for_448_px_windows_of_the_image_at_short_side_448() -> None:
    sizes, templates = [], []

    class Watched(ColourClip):
        def encode_dense(self, image):
            sizes.append(image.shape[:2])
            return super().encode_dense(image)

        def encode_text(self, names, given=None):
            templates.append(tuple(given))
            return super().encode_text(names, given)

    method = protocol_named("tcl").segmenter_for(DenseClipSegmentation(Watched()))
    found = method.segment(image(), NAMES)  # 24 x 16 becomes 672 x 448: windows at 0 and 224
    assert sizes == [(448, 448)] * 2
    assert templates == [("a photo of a {}",)]
    assert (found.labels == truth()).mean() > 0.95


def test_every_method_works_under_every_protocol() -> None:
    methods = [
        DenseClipSegmentation(ColourClip()),
        AlignedSegmentation(ColourVision(), identity_head(), ColourClip()),
        Stage1Segmentation(ColourClip(), ColourSam(), OPTIONS),
        Stage1Segmentation(
            ColourClip(), ColourSam(), OPTIONS, ("1.1",), "told", needs_image_labels=True
        ),
        ClipDiySegmentation(ColourClip(), ColourSam(), OPTIONS),
    ]
    for protocol in map(protocol_named, PROTOCOLS):
        small = {"short_side_px": 16, "window_px": 16, "stride_px": 8}
        rules = dataclasses.replace(protocol, **(small if protocol.window_px else {}))
        for method in methods:
            one = PreparedMethod(rules, method, Vocabulary(("red", "green", "blue")))
            told = [0, 1, 2] if one.needs_image_labels else None
            assert one.needs_image_labels == (method.name == "told")
            labels = one.predict(image(), told)
            assert labels.shape == (24, 16)
            assert (labels == truth()).mean() > 0.75, (protocol.name, method.name)


def test_scores_of_the_threshold_equal_their_formulas_pixel_by_pixel(monkeypatch) -> None:
    similarities = np.random.default_rng(0).uniform(-1, 1, (4, 5, 3)).astype(np.float32)
    monkeypatch.setattr("fmbseg.evaluate.background._ELEMENTS_AT_ONCE", 24)  # two rows at once
    rules = [
        Background("threshold", score="cosine", threshold=0.6),
        Background("threshold", score="sigmoid", midpoint=0.25, temperature=0.1, threshold=0.97),
        Background("threshold", score="softmax", temperature=0.5, threshold=0.5),
    ]
    for rule in rules:
        expected = np.zeros((5, 3), bool)
        for y in range(5):
            for x in range(3):
                values = [float(v) for v in similarities[:, y, x]]
                if rule.score == "cosine":
                    score = max(values)
                elif rule.score == "sigmoid":
                    score = 1 / (1 + np.exp((0.25 - max(values)) / 0.1))
                else:
                    score = np.exp(max(values) / 0.5) / sum(np.exp(v / 0.5) for v in values)
                expected[y, x] = score < rule.threshold
        assert 0 < expected.sum() < expected.size
        assert np.array_equal(rule.below(similarities), expected), rule.score
    assert not Background("ignore").below(similarities).any()


def test_tcls_constant_is_a_cosine_of_about_a_fifth() -> None:
    cosines = np.array([[[0.20, 0.2094, 0.2095, 0.22]]], np.float32)
    assert protocol_named("tcl").background.below(cosines).tolist() == [[True, True, False, False]]


@pytest.mark.parametrize(
    "wrong",
    [
        {"mode": "all"}, {"mode": "ignore", "names": ("sky",)}, {"mode": "stuff_names"},
        {"mode": "threshold"}, {"mode": "threshold", "threshold": 0.1},
        {"mode": "ignore", "threshold": 0.1, "score": "cosine"},
        {"mode": "threshold", "threshold": 0.1, "score": "cosine", "names": ("sky",)},
        {"mode": "threshold", "threshold": 0.1, "score": "cosine", "temperature": 1.0},
        {"mode": "threshold", "threshold": 0.1, "score": "softmax"},
        {"mode": "threshold", "threshold": 0.1, "score": "softmax", "temperature": 0.0},
        {"mode": "threshold", "threshold": 0.1, "score": "sigmoid", "temperature": 1.0},
        {"mode": "threshold", "threshold": 0.1, "score": "best"},
    ],
)  # fmt: skip
@pytest.mark.usefixtures("unchecked")
def test_a_background_that_does_not_go_together_is_refused(wrong) -> None:
    with pytest.raises(ValueError, match="background: found"):
        Background(**wrong)
