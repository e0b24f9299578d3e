"""Names of files and classes that logs, reports and Markdown can show."""

import re
import unicodedata

_BREAKING_CATEGORIES = ("Cc", "Zl", "Zp")
_TURNING = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
"""They reverse the letters after them: such a name is not what it looks like."""

_JOINERS = "\u200c\u200d"
"""They shape the letters beside them in Persian, Hindi and emoji."""
_MARKUP = re.compile(r"[\\`*_\[\]<>&|~@#]|:(?=/)|(?<=www)\.", re.IGNORECASE)
"""What Markdown may obey within a line; the last two would begin an address."""


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


def markdown_text(text: str) -> str:
    """The text so that Markdown, in a table too, shows each of its characters and obeys none.

    It must not begin a line, where a `-` or a number would begin a list.

    Markup stands as character references, which all readers of Markdown understand; marks
    that nobody sees, such as those that turn the direction of writing, as backslash escapes.
    """
    shown = "".join(
        c.encode("unicode_escape").decode() if _is_unseen(c) else c for c in printable(text)
    )
    return _MARKUP.sub(lambda found: f"&#{ord(found[0])};", shown)


def _breaks_a_line(character: str) -> bool:
    return unicodedata.category(character) in _BREAKING_CATEGORIES or character in _TURNING


def _is_unseen(character: str) -> bool:
    return unicodedata.category(character) == "Cf" and character not in _JOINERS
