"""Class names as they are typed on the command line."""

from pathlib import Path

from fmbseg.errors import UserError
from fmbseg.typed_names import typed_names
from fmbseg.vocabulary import Vocabulary, VocabularyError, read_classes

_INSTEAD = (
    ", and there is no such file; wanted a class file (one class a line) or names: "
    '"road=street, sky"'
)


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
        return Vocabulary.of(typed_names(text, _INSTEAD))
    except VocabularyError as error:
        raise UserError(f"{option}: {error}") from None


def _is_file(text: str) -> bool:
    try:
        return Path(text).is_file()
    except (OSError, ValueError):  # a list of names may be longer than a file's name, or hold \0
        return False
