"""Text features of class names, kept for the class lists used last, and who prompts with them."""

from collections.abc import Callable, Sequence
from copy import copy
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
        self._known: dict[tuple[str, ...] | Vocabulary, Float[Tensor, "category dim"]] = {}

    def prompted(self, prompts: Prompts) -> "TextFeatures":
        """The same CLIP with other templates and synonyms."""
        return TextFeatures(self._clip, self._most_lists, prompts=prompts)

    def __call__(self, class_names: Sequence[str]) -> Float[Tensor, "category dim"]:
        """Unit-length features of the names, float32 on the CPU.

        Raises:
            ValueError: no name at all.
        """
        names = tuple(class_names)
        if not names:
            raise ValueError("class names: found an empty list; wanted at least one name")
        return self._remembered(names, lambda: self._encode(names))

    def of(self, vocabulary: Vocabulary) -> Float[Tensor, "category dim"]:
        """The features that training aims at, synonyms included; prompts play no part."""
        return self._remembered(vocabulary, lambda: encode(self._clip, vocabulary))

    def _remembered(
        self, key: tuple[str, ...] | Vocabulary, compute: Callable[[], Tensor]
    ) -> Float[Tensor, "category dim"]:
        texts = self._known.pop(key, None)
        if texts is None:
            texts = compute().float().cpu()
        self._known[key] = texts
        if len(self._known) > self._most_lists:
            del self._known[next(iter(self._known))]
        return texts

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
