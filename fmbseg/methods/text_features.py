"""Text features of class names, kept for the class lists used last, and who prompts with them."""

from collections.abc import Sequence
from copy import copy
from functools import lru_cache
from typing import Self

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import normalize

from fmbseg.methods.segmentation import Prompts
from fmbseg.models.protocols import ClipModel
from fmbseg.vocabulary import Vocabulary, encode


class TextFeatures:
    """CLIP's features of class names, computed once per class list."""

    def __init__(
        self, clip: ClipModel, most_lists: int = 16, *, prompts: Prompts | None = None
    ) -> None:
        """Keep the features of the `most_lists` lists used last.

        Without `prompts` every name goes through CLIP's own template.
        """
        self._clip, self._most_lists, self._prompts = clip, most_lists, prompts
        self._features = lru_cache(most_lists)(self._computed)

    def prompted(self, prompts: Prompts) -> "TextFeatures":
        """The same CLIP with other templates and synonyms."""
        return TextFeatures(self._clip, self._most_lists, prompts=prompts)

    def __call__(self, classes: Sequence[str] | Vocabulary) -> Float[Tensor, "category dim"]:
        """Unit-length features, float32 on the CPU.

        Args:
            classes: names; or a vocabulary, for the features that training aims at, synonyms
                included, where prompts play no part.

        Raises:
            ValueError: no name at all.
        """
        if isinstance(classes, Vocabulary):
            return self._features(classes)
        names = tuple(classes)
        if not names:
            raise ValueError("class names: found an empty list; wanted at least one name")
        return self._features(names)

    def _computed(self, classes: tuple[str, ...] | Vocabulary) -> Tensor:
        if isinstance(classes, Vocabulary):
            return encode(self._clip, classes).float().cpu()
        return self._encode(classes).float().cpu()

    def _encode(self, names: tuple[str, ...]) -> Float[Tensor, "category dim"]:
        if self._prompts is None:
            return self._clip.encode_text(names)
        groups = [(name, *self._prompts.synonyms.get(name, ())) for name in names]
        words = [word for group in groups for word in group]
        features = self._clip.encode_text(words, self._prompts.templates)
        if len(words) == len(names):
            return features
        return normalize(
            torch.stack([part.mean(dim=0) for part in features.split([len(g) for g in groups])]),
            dim=1,
        )


class TextPrompted:
    """What methods share that turn class names into text features.

    Attributes:
        name: what the method's results are filed under.
    """

    def __init__(self, name: str, clip: ClipModel) -> None:
        """Take the CLIP that reads the class names."""
        self.name, self._texts = name, TextFeatures(clip)

    def prompted(self, prompts: Prompts) -> Self:
        """The same method with its class names put into words another way."""
        twin = copy(self)
        twin._texts = self._texts.prompted(prompts)
        return twin
