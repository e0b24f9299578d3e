"""What becomes of each class name on a few images: seen, found, mistaken, written otherwise."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from fmbseg.preview.seen import Seen
from fmbseg.pseudo.presence import count_votes, present_classes
from fmbseg.vocabulary import Vocabulary

BEST, WORST = 3, 3
"""So many finds of a name are shown of each kind."""


@dataclass(frozen=True)
class Find:
    """A mask that a name won.

    Attributes:
        image: place of its image in the sample.
        mask: place in the image's masks.
        winner: class index of the name; `rival` is that of the most similar other one.
        similarity: cosine of the mask's feature and the name's.
        margin: that less the rival's; negative where the rival fits better, but is not present in
            the image.
        area: share of the image, 0 to 1.
    """

    image: int
    mask: int
    winner: int
    rival: int
    similarity: float
    margin: float
    area: float


@dataclass(frozen=True)
class Variant:
    """A class written in another way.

    Attributes:
        text: what CLIP reads.
        kind: what is other about it.
        images: in how many images CLIP then sees the class.
        similarity: cosine of its text and the nearest crop, mean over the images in which the class
            as it is written is seen; over all of them where there is none.
    """

    text: str
    kind: str
    images: int
    similarity: float


@dataclass(frozen=True)
class Word:
    """What became of one class.

    Attributes:
        name: of the class; `synonyms` are its other names.
        images: in how many images CLIP sees it; it is present there.
        crops: how many crops vote for it.
        finds: masks that it won, the clearest first.
        undecided: how many of them another name almost won.
        variants: other ways to write it; the first is how it is written.
    """

    name: str
    synonyms: tuple[str, ...]
    images: int
    crops: int
    finds: tuple[Find, ...]
    undecided: int
    variants: tuple[Variant, ...]

    @property
    def area(self) -> float:
        """Sum of its finds' shares of their images."""
        return sum(find.area for find in self.finds)

    @property
    def best(self) -> tuple[Find, ...]:
        """The clearest finds."""
        return self.finds[:BEST]

    @property
    def worst(self) -> tuple[Find, ...]:
        """The least clear of the others, the least clear first."""
        return self.finds[BEST:][::-1][:WORST]


@dataclass(frozen=True)
class Confusion:
    """Two names between which CLIP cannot decide.

    Attributes:
        names: class indices, the one that won more often first.
        undecided: masks for which these two are the nearest names, with cosines that differ by no
            more than CLIP's temperature.
        places: masks for which one of the two is the nearest name.
        example: the closest call.
    """

    names: tuple[int, int]
    undecided: int
    places: int
    example: Find


@dataclass(frozen=True)
class Facts:
    """What becomes of a class list on the sample.

    Attributes:
        words: one a class.
        confusions: most frequent first.
        present: class indices that CLIP sees, of each image.
        labels: class index of every mask of each image.
        temperature: names whose cosines differ by no more count as undecided.
    """

    words: tuple[Word, ...]
    confusions: tuple[Confusion, ...]
    present: tuple[tuple[int, ...], ...]
    labels: tuple[tuple[int, ...], ...]
    temperature: float

    @property
    def never_seen(self) -> tuple[str, ...]:
        """Names that CLIP sees in no image."""
        return tuple(word.name for word in self.words if not word.images)

    @property
    def never_found(self) -> tuple[str, ...]:
        """Names that are seen, but win no mask."""
        return tuple(word.name for word in self.words if word.images and not word.finds)


Writings = Mapping[tuple[str, str], Float[Tensor, " dim"]]
"""What is other about a way to write a class, and the text, to the text's feature."""


def facts_of(
    sample: Sequence[Seen],
    vocabulary: Vocabulary,
    texts: Float[Tensor, "category dim"],
    writings: Sequence[Writings],
    presence_votes: int,
    temperature: float,
) -> Facts:
    """Give the masks of the sample their names, as stage 1.2 does, and see how that went.

    Args:
        sample: images, at least one.
        vocabulary: at least two classes.
        texts: unit-length text features, one a class.
        writings: of each class other ways to write it.
        presence_votes: a class is present when more crops vote for it.
        temperature: of CLIP; names whose cosines differ by no more count as undecided.
    """
    votes = torch.stack([count_votes(seen.cls, texts) for seen in sample])
    present = [tuple(present_classes(row, presence_votes)) for row in votes]
    finds = [
        find
        for place, (seen, names) in enumerate(zip(sample, present, strict=True))
        for find in _finds(place, seen, texts, names)
    ]
    words = []
    for index, (name, synonyms) in enumerate(
        zip(vocabulary.names, vocabulary.synonyms, strict=True)
    ):
        own = sorted((f for f in finds if f.winner == index), key=lambda f: -f.margin)
        seen_in = [place for place, names in enumerate(present) if index in names]
        written = {("as it is written", " = ".join((name, *synonyms))): texts[index]}
        words.append(Word(
            name, synonyms, len(seen_in), int(votes[:, index].sum()), tuple(own),
            sum(f.margin <= temperature for f in own),
            tuple(
                _variant(kind, text, feature, sample, texts, index, seen_in, presence_votes)
                for (kind, text), feature in {**written, **writings[index]}.items()
            ),
        ))  # fmt: skip
    labels = tuple(
        tuple(find.winner for find in finds if find.image == place) for place in range(len(sample))
    )
    confusions = _confusions(sample, texts, temperature)
    return Facts(tuple(words), confusions, tuple(present), labels, temperature)


def _finds(
    place: int, seen: Seen, texts: Float[Tensor, "category dim"], present: Sequence[int]
) -> list[Find]:
    """Every mask of an image with the nearest name among those present."""
    cosines = seen.features @ texts.float().T
    found = []
    for mask, row in enumerate(cosines):
        winner = present[int(row[list(present)].argmax())]
        others = row.clone()
        others[winner] = -torch.inf
        rival = int(others.argmax())
        found.append(Find(
            place, mask, winner, rival, float(row[winner]), float(row[winner] - row[rival]),
            seen.areas[mask],
        ))  # fmt: skip
    return found


def _variant(
    kind: str, text: str, feature: Float[Tensor, " dim"], sample: Sequence[Seen],
    texts: Float[Tensor, "category dim"], index: int, seen_in: Sequence[int], presence_votes: int,
) -> Variant:  # fmt: skip
    """A class with another text, all other classes as they are."""
    changed = texts.clone()
    changed[index] = feature
    images = sum(
        index in present_classes(count_votes(seen.cls, changed), presence_votes) for seen in sample
    )
    looked = [sample[place] for place in seen_in] or sample
    nearest = [float((seen.cls @ feature).max()) for seen in looked]
    return Variant(text, kind, images, sum(nearest) / len(nearest))


def _confusions(
    sample: Sequence[Seen], texts: Float[Tensor, "category dim"], temperature: float
) -> tuple[Confusion, ...]:
    """Pairs of names that were undecided at least once, whether or not both are present."""
    every = range(len(texts))
    places = Counter[int]()
    close: dict[tuple[int, int], list[Find]] = {}
    for place, seen in enumerate(sample):
        for find in _finds(place, seen, texts, every):
            places[find.winner] += 1
            if find.margin <= temperature:
                first, second = sorted((find.winner, find.rival))
                close.setdefault((first, second), []).append(find)
    found = []
    for (first, second), calls in close.items():
        names = (first, second) if places[first] >= places[second] else (second, first)
        example = min(calls, key=lambda find: find.margin)
        found.append(Confusion(names, len(calls), places[first] + places[second], example))
    return tuple(sorted(found, key=lambda one: (-one.undecided, -one.undecided / one.places)))
