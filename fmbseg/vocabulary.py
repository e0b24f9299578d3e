"""The class list: names with synonyms, at most 255 of them, and their text features."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from fmbseg.types import IGNORE

if TYPE_CHECKING:  # who only reads a class list does not wait for torch
    from jaxtyping import Float
    from torch import Tensor

    from fmbseg.models.protocols import ClipModel


class VocabularyError(ValueError):
    """The class list cannot be used; the text is one short line."""


@dataclass(frozen=True)
class Vocabulary:
    """The classes, checked on construction.

    Attributes:
        names: one a class; its place is the class index, 0 to 254 (255 is IGNORE).
        synonyms: other names of each class, possibly none; () stands for no synonyms at all.

    Raises:
        VocabularyError: no class, more than 255, an empty name, or a name given twice (letter
            case and repeated spaces play no part; synonyms count too).
    """

    names: tuple[str, ...]
    synonyms: tuple[tuple[str, ...], ...] = ()

    def __post_init__(self) -> None:
        if not self.synonyms:
            object.__setattr__(self, "synonyms", ((),) * len(self.names))
        if not self.names:
            raise VocabularyError("the class list is empty; wanted at least one class name")
        if len(self.names) > IGNORE:
            raise VocabularyError(
                f"found {len(self.names)} classes; wanted at most {IGNORE}, because the class "
                f"index {IGNORE} means 'no label'; split the list or merge synonyms on one line"
            )
        if len(self.synonyms) != len(self.names):
            raise VocabularyError(
                f"found synonyms for {len(self.synonyms)} classes; wanted {len(self.names)}"
            )
        seen: dict[str, str] = {}
        for name, others in zip(self.names, self.synonyms, strict=True):
            for word in (name, *others):
                folded = " ".join(word.split()).casefold()
                if not folded:
                    raise VocabularyError(f"an empty name in the class {name!r}")
                if folded in seen:
                    raise VocabularyError(
                        f"{word!r} is given twice: for {seen[folded]!r} and for {name!r}"
                    )
                seen[folded] = name

    def __len__(self) -> int:
        """Number of classes."""
        return len(self.names)


def read_classes(path: str | Path) -> Vocabulary:
    """Read a class list: one class a line, synonyms after commas; blank lines do not count.

    Args:
        path: a UTF-8 text file.

    Returns:
        The vocabulary, class index = order of the lines.

    Raises:
        VocabularyError: no such file, no text, or what `Vocabulary` refuses.
    """
    path = Path(path)
    if not path.is_file():
        raise VocabularyError(f"{path}: no such file; wanted a text file with one class a line")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise VocabularyError(f"{path}: not UTF-8 text; save the class list as UTF-8") from None
    names: list[str] = []
    synonyms: list[tuple[str, ...]] = []
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        words = [" ".join(word.split()) for word in line.split(",")]
        if not all(words):
            raise VocabularyError(f"{path}, line {number}: an empty name in {line.strip()!r}")
        names.append(words[0])
        synonyms.append(tuple(words[1:]))
    try:
        return Vocabulary(tuple(names), tuple(synonyms))
    except VocabularyError as error:
        raise VocabularyError(f"{path}: {error}") from None


def encode(clip: "ClipModel", vocabulary: Vocabulary) -> 'Float[Tensor, "category dim"]':
    """Text features of the classes: mean over a class's names, brought back to unit length.

    Args:
        clip: gives one unit-length feature a name, through its one template.
        vocabulary: the classes.

    Returns:
        Unit-length float32 features, one row a class.

    Paper: section 3.1 (one template, no ensemble); the mean over synonyms is ours.
    """
    import torch

    groups: list[Sequence[str]] = [
        (name, *others) for name, others in zip(vocabulary.names, vocabulary.synonyms, strict=True)
    ]
    features = clip.encode_text([word for group in groups for word in group])
    means = [rows.mean(dim=0) for rows in features.split([len(group) for group in groups])]
    return torch.nn.functional.normalize(torch.stack(means), dim=-1)
