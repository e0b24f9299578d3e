"""What is said of class names: seen, found, mistaken, written otherwise."""

import numpy as np
import pytest
import torch

from fmbseg.preview.page import page
from fmbseg.preview.seen import PHOTO_SIDE_PX, Seen, load, save, see
from fmbseg.preview.words import BEST, Facts, facts_of
from fmbseg.store import decode_rle
from fmbseg.vocabulary import Vocabulary
from tests.support.pseudo_fakes import COLOURS, OPTIONS, ColourClip, ColourSam, painted
from tests.unit.report.test_hostile import HOSTILE
from tests.unit.report.test_report import Page

NAMES = ("red", "green", "blue", "yellow")
NEAR = 0.05
"""A temperature for tests."""


def text(rgb: tuple[int, int, int]) -> torch.Tensor:
    return torch.nn.functional.normalize(torch.tensor(rgb).float() - 127.5, dim=0)


@pytest.fixture(scope="module")
def sample() -> list[Seen]:
    pictures = [("red", "green"), ("green", "blue"), ("red", "blue", "green")]
    return [
        see(painted(*names, seed=i), f"{i}.png", ColourClip(), ColourSam(), OPTIONS)
        for i, names in enumerate(pictures)
    ]


def facts(sample: list[Seen], vocabulary: Vocabulary, texts: torch.Tensor, **written) -> Facts:
    writings = [written.get(name, {}) for name in vocabulary.names]
    return facts_of(sample, vocabulary, texts, writings, 1, NEAR)


class WithPictures(Page):
    void = Page.void | {"img"}


def test_what_is_seen_and_found_is_what_a_slow_reader_counts(sample: list[Seen]):
    texts = torch.stack([text(COLOURS[name]) for name in NAMES])
    found = facts(sample, Vocabulary(NAMES), texts)
    for place, seen in enumerate(sample):
        votes = [0] * len(NAMES)
        for crop in seen.cls:
            votes[max(range(4), key=lambda c: float(crop @ texts[c]))] += 1
        present = [c for c in range(4) if votes[c] > 1] or [votes.index(max(votes))]
        assert found.present[place] == tuple(present)
        for mask, feature in enumerate(seen.features):
            winner = max(present, key=lambda c: float(feature @ texts[c]))
            assert found.labels[place][mask] == winner
    for index, word in enumerate(found.words):
        assert word.images == sum(index in present for present in found.present)
        assert len(word.finds) == sum(labels.count(index) for labels in found.labels)
        assert [f.margin for f in word.finds] == sorted(
            (f.margin for f in word.finds), reverse=True
        )
        for find in word.finds:
            cosines = sample[find.image].features[find.mask] @ texts.T
            others = [float(cosines[c]) for c in range(4) if c != index]
            assert find.margin == pytest.approx(float(cosines[index]) - max(others), abs=1e-6)
            assert find.rival != index
        assert word.undecided == sum(find.margin <= NEAR for find in word.finds)
        assert not set(word.best) & set(word.worst)
        assert word.best == word.finds[:BEST]
    assert found.never_seen == ("yellow",)
    assert found.never_found == ()


def test_two_names_for_one_thing_are_mistaken_for_each_other_and_no_others_are(sample: list[Seen]):
    names = ("red", "crimson", "green", "blue")
    texts = torch.stack([text((220, 30, 30)), text((214, 32, 34)), text(COLOURS["green"]),
                         text(COLOURS["blue"])])  # fmt: skip
    found = facts(sample, Vocabulary(names), texts)
    (one,) = found.confusions
    assert set(one.names) == {0, 1}
    reds = sum(float(row @ texts[0]) > 0.9 for seen in sample for row in seen.features)
    assert one.undecided == one.places == reds > 0


def test_a_variant_counts_what_would_be_seen_with_its_text_alone_changed(sample: list[Seen]):
    texts = torch.stack([text(COLOURS[name]) for name in ("red", "yellow")])
    vocabulary = Vocabulary(("red", "yellow"), (("scarlet",), ()))
    written = {("one name alone", "scarlet"): text(COLOURS["blue"])}
    found = facts(sample, vocabulary, texts, red=written)
    base, scarlet = found.words[0].variants
    assert (base.text, base.images) == ("red = scarlet", found.words[0].images)
    swapped = facts(
        sample, vocabulary, torch.stack([written["one name alone", "scarlet"], texts[1]])
    )
    assert scarlet.images == swapped.words[0].images
    where = [sample[i] for i, present in enumerate(found.present) if 0 in present]
    nearest = [max(float(crop @ text(COLOURS["blue"])) for crop in seen.cls) for seen in where]
    assert scarlet.similarity == pytest.approx(sum(nearest) / len(nearest), abs=1e-6)


def test_what_is_kept_of_an_image_comes_back_and_large_photographs_are_reduced(tmp_path):
    image = painted("red", "green", "blue", size_hw=(300, 900))
    seen = see(image, "a.png", ColourClip(16), ColourSam(), OPTIONS)
    assert seen.photo.shape == (213, PHOTO_SIDE_PX, 3)
    save(tmp_path / "a", seen)
    back = load(tmp_path / "a", "a.png")
    assert torch.equal(back.cls, seen.cls)
    assert torch.equal(back.features, seen.features)
    assert (back.masks, back.areas) == (seen.masks, seen.areas)
    assert np.abs(back.photo.astype(int) - seen.photo).mean() < 5
    for rle, area in zip(back.masks, back.areas, strict=True):
        assert decode_rle(rle).mean() == pytest.approx(area, abs=0.02)


def test_names_full_of_html_are_shown_as_text_and_the_page_loads_nothing(sample: list[Seen]):
    names = HOSTILE[:2]
    hostile = Vocabulary((*names, "green", "blue"))
    texts = torch.stack([text(COLOURS[name]) for name in ("red", "yellow", "green", "blue")])
    written = {("one name alone", "<img src=x onerror=alert(1)>"): texts[0]}
    found = facts(sample, hostile, texts, **{names[0]: written})
    bad = [Seen(f"<script>{i}</script>.png", s.photo, s.cls, s.features, s.masks, s.areas)
           for i, s in enumerate(sample)]  # fmt: skip
    text_of = page(bad, found, "<b>bold</b>", {"<i>.png": "</p><script>1"})
    assert text_of == page(bad, found, "<b>bold</b>", {"<i>.png": "</p><script>1"})
    tags = WithPictures(text_of).tags
    assert not {"script", "b", "i", "iframe", "object"} & {tag for tag, _ in tags}
    assert not [a for _, attrs in tags for a in attrs if a.startswith("on")]
    sources = [attrs["src"] for tag, attrs in tags if tag == "img"]
    assert sources
    assert all(str(source).startswith("data:image/jpeg;base64,") for source in sources)
    assert "&lt;script&gt;0&lt;/script&gt;.png" in text_of


def test_a_watched_page_alone_has_a_script_which_looks_beside_it(sample: list[Seen]):
    texts = torch.stack([text(COLOURS[name]) for name in NAMES])
    found = facts(sample, Vocabulary(NAMES), texts)
    assert "<script" not in page(sample, found, "", {})
    watched = page(sample, found, "", {}, version="0a1b", problem="line 3 is empty")
    assert "version.js" in watched
    assert '"0a1b"' in watched
    assert "script-src 'self' file: 'sha256-" in watched
    assert "line 3 is empty" in watched
