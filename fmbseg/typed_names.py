"""Class names in one line of text: commas part the classes, `=` parts the names of one."""

from pathlib import PurePath

from fmbseg.vocabulary import VocabularyError, names_of_line

_SUFFIXES = frozenset((
    ".txt", ".text", ".csv", ".tsv", ".json", ".jsonl", ".yaml", ".yml", ".toml", ".md", ".names",
    ".labels", ".lst", ".list", ".classes", ".xml", ".html", ".pdf", ".doc", ".docx", ".xls",
    ".xlsx", ".odt", ".zip", ".py", ".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp",
))  # fmt: skip
"""Of files that somebody may hold for a class list."""


def typed_names(text: str, instead: str) -> list[tuple[str, ...]]:
    """The names of each class in a text such as "road=street=asphalt, sky". Opens nothing.

    Args:
        text: as typed.
        instead: for the message of a name that looks like a path: what was wanted.

    Raises:
        VocabularyError: a name that looks like a path, a semicolon, or an empty name.
    """
    groups = []
    for entry in text.split(","):
        if not entry.replace("=", "").strip():
            continue
        names = names_of_line(entry, "=")
        for name in names:
            if "/" in name or "\\" in name or PurePath(name).suffix.lower() in _SUFFIXES:
                raise VocabularyError(f"{name[:200]!r} looks like a file{instead}")
            if ";" in name:
                raise VocabularyError(
                    f"found a semicolon in {name[:60]!r}; commas part classes "
                    'and = parts the names of one: "road=street, sky"'
                )
        groups.append(names)
    return groups
