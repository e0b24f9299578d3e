"""Names of files and classes that logs, reports and Markdown can show."""

import re
import unicodedata

_BREAKING = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")
"""They break a line, or reverse the letters after them: such a name is not what it looks like."""
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
    return "its name holds control characters" if _BREAKING.search(name) else None


def printable(name: str) -> str:
    """The name on one line; what `name_problem` objects to stands as backslash escapes."""
    text = name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return _BREAKING.sub(lambda found: _escaped(found[0]), text)


def markdown_text(text: str) -> str:
    """The text so that Markdown, in a table too, shows each of its characters and obeys none.

    It must not begin a line, where a `-` or a number would begin a list.

    Markup stands as character references, which all readers of Markdown understand; marks
    that nobody sees, such as those that turn the direction of writing, as backslash escapes.
    """
    shown = "".join(_escaped(c) if _is_unseen(c) else c for c in printable(text))
    return _MARKUP.sub(lambda found: f"&#{ord(found[0])};", shown)


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode()


def _is_unseen(character: str) -> bool:
    return unicodedata.category(character) == "Cf" and character not in _JOINERS
