"""Class names as they are typed on the command line."""

from pathlib import Path, PurePath

from fmbseg.errors import UserError
from fmbseg.vocabulary import Vocabulary, VocabularyError, names_of_line, read_classes

_SUFFIXES = frozenset((
    ".txt", ".text", ".csv", ".tsv", ".json", ".jsonl", ".yaml", ".yml", ".toml", ".md", ".names",
    ".labels", ".lst", ".list", ".classes", ".xml", ".html", ".pdf", ".doc", ".docx", ".xls",
    ".xlsx", ".odt", ".zip", ".py", ".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp",
))  # fmt: skip
"""Of files that somebody may hold for a class list."""


def class_list(text: str, option: str) -> Vocabulary:
    """What `--classes` or `--background` means: a class file where there is one, else names.

    Commas part the classes, `=` parts the names of one class: "road=street=asphalt, sky".

    Args:
        text: as typed.
        option: its name, for messages.

    Raises:
        UserError: a name that looks like a path (there is no such file), a semicolon, no name, or
            what `Vocabulary` refuses.
    """
    try:
        if _is_file(text):
            return read_classes(text)
        return Vocabulary.of(_groups(text))
    except VocabularyError as error:
        raise UserError(f"{option}: {error}") from None


def _groups(text: str) -> list[tuple[str, ...]]:
    groups = []
    for entry in text.split(","):
        if not entry.replace("=", "").strip():
            continue
        names = names_of_line(entry, "=")
        for name in names:
            if "/" in name or "\\" in name or PurePath(name).suffix.lower() in _SUFFIXES:
                raise VocabularyError(
                    f"{name[:200]!r} looks like a file, and there is no such file; wanted a class "
                    'file (one class a line) or names: "road=street, sky"'
                )
            if ";" in name:
                raise VocabularyError(
                    f"found a semicolon in {name[:60]!r}; on the command line commas part classes "
                    'and = parts the names of one: "road=street, sky"'
                )
        groups.append(names)
    return groups


def _is_file(text: str) -> bool:
    try:
        return Path(text).is_file()
    except (OSError, ValueError):  # a list of names may be longer than a file's name, or hold \0
        return False
