"""File names that logs and reports can show."""

import unicodedata

_BREAKING_CATEGORIES = ("Cc", "Zl", "Zp")
_TURNING = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
"""They reverse the letters after them: such a name is not what it looks like."""


def name_problem(name: str) -> str | None:
    """Say why a name cannot be used: not UTF-8, or characters that break or turn a line."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return "its name is not UTF-8"
    if any(_breaks_a_line(character) for character in name):
        return "its name holds control characters"
    return None


def printable(name: str) -> str:
    """The name on one line; what `name_problem` objects to stands as backslash escapes."""
    text = name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return "".join(c.encode("unicode_escape").decode() if _breaks_a_line(c) else c for c in text)


def _breaks_a_line(character: str) -> bool:
    return unicodedata.category(character) in _BREAKING_CATEGORIES or character in _TURNING
