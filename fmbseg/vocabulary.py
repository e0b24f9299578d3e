"""The class list: names with synonyms, at most 255 of them, and their text features."""

import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from fmbseg.types import IGNORE

if TYPE_CHECKING:  # who only reads a class list does not wait for torch
    from jaxtyping import Float
    from torch import Tensor

    from fmbseg.models.protocols import TextModel

MAX_NAME_CHARACTERS = 200
"""A longer class name is refused: it is text that is no class list, and CLIP reads 77 tokens."""

_TURNING = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
_INVISIBLE = frozenset("\u00ad\u200b\u2060\ufeff")


class VocabularyError(ValueError):
    """The class list cannot be used; the text is one short line."""


def name_problem(name: str) -> str | None:
    """Say why a class name could not be shown as it is; None when it can.

    Letters of every script are fine, those written from right to left too, and so are HTML,
    quotes and the joiners U+200C and U+200D that some scripts need. Not allowed are control
    characters and line ends, marks that turn the reading direction of the text around them,
    characters that show nothing (two names would look the same), halves of a character, and more
    than `MAX_NAME_CHARACTERS`.

    Returns:
        The end of a sentence that begins with the name, with what to do.
    """
    if len(name) > MAX_NAME_CHARACTERS:
        return f"has {len(name)} characters; wanted at most {MAX_NAME_CHARACTERS}"
    for character in name:
        kind = unicodedata.category(character)
        if character in _TURNING:
            words = "which turns the reading direction of the text around it"
        elif character in _INVISIBLE:
            words = "which shows nothing"
        elif kind in ("Cc", "Zl", "Zp"):
            words = "a control character"
        elif kind == "Cs":
            words = "half of a character"
        else:
            continue
        named = unicodedata.name(character, "")
        return f"holds U+{ord(character):04X}{named and f' ({named})'}, {words}; remove it"
    return None


@dataclass(frozen=True)
class Vocabulary:
    """The classes, checked on construction.

    Attributes:
        names: one a class; its place is the class index, 0 to 254 (255 is IGNORE).
        synonyms: other names of each class, possibly none; () stands for no synonyms at all.

    Raises:
        VocabularyError: no class, more than 255, an empty name, one that `name_problem` objects
            to, or a name given twice (letter case and repeated spaces play no part; synonyms
            count too).
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
                problem = name_problem(word)
                if problem is not None:
                    raise VocabularyError(f"the class name {word[:60]!r} {problem}")
                if folded in seen:
                    raise VocabularyError(
                        f"{word!r} is given twice: for {seen[folded]!r} and for {name!r}"
                    )
                seen[folded] = name

    def __len__(self) -> int:
        """Number of classes."""
        return len(self.names)

    @property
    def groups(self) -> tuple[tuple[str, ...], ...]:
        """All names of each class, its own first."""
        return tuple(
            (name, *others) for name, others in zip(self.names, self.synonyms, strict=True)
        )

    def lines(self) -> tuple[str, ...]:
        """The lines of a class file that says the same."""
        return tuple(", ".join(group) for group in self.groups)

    @staticmethod
    def of(groups: Iterable[str | Sequence[str]]) -> "Vocabulary":
        """A vocabulary from one entry a class: its name, or a sequence of its names.

        Raises:
            VocabularyError: an entry without a name, or what `Vocabulary` refuses.
        """
        lists = [[group] if isinstance(group, str) else list(group) for group in groups]
        if not all(lists):
            raise VocabularyError("a class without a name; wanted one or more names a class")
        return Vocabulary(
            tuple(names[0] for names in lists), tuple(tuple(names[1:]) for names in lists)
        )


def names_of_line(line: str, marks: str = ",;") -> tuple[str, ...]:
    """The names of one class: the marks part them, repeated spaces are one space.

    Raises:
        VocabularyError: nothing stands between two of them.
    """
    names = tuple(" ".join(word.split()) for word in re.split(f"[{marks}]", line))
    if not all(names):
        raise VocabularyError(f"an empty name in {line.strip()[:60]!r}")
    return names


def read_classes(path: str | Path) -> Vocabulary:
    """Read a class list: one class a line, its names parted by commas or semicolons.

    The first name is the class's own, the others are synonyms. Blank lines do not count.

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
    groups: list[tuple[str, ...]] = []
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            groups.append(names_of_line(line))
        except VocabularyError as error:
            raise VocabularyError(f"{path}, line {number}: {error}") from None
    try:
        return Vocabulary.of(groups)
    except VocabularyError as error:
        raise VocabularyError(f"{path}: {error}") from None


def joined(classes: Vocabulary, background: Vocabulary) -> Vocabulary:
    """The classes and, after them, the names that compete with them.

    Raises:
        VocabularyError: a name is in both, or they are too many.
    """
    try:
        return Vocabulary.of([*classes.groups, *background.groups])
    except VocabularyError as error:
        raise VocabularyError(f"classes and background together: {error}") from None


def encode(clip: "TextModel", vocabulary: Vocabulary) -> 'Float[Tensor, "category dim"]':
    """Text features of the classes: mean over a class's names, brought back to unit length.

    Args:
        clip: gives one unit-length feature a name, through its one template.
        vocabulary: the classes.

    Returns:
        Unit-length float32 features, one row a class.

    Paper: section 3.1 (one template, no ensemble); the mean over synonyms is ours.
    """
    import torch

    groups = vocabulary.groups
    features = clip.encode_text([word for group in groups for word in group])
    means = [rows.mean(dim=0) for rows in features.split([len(group) for group in groups])]
    return torch.nn.functional.normalize(torch.stack(means), dim=-1)
