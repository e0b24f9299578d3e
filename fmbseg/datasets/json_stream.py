"""Reading a large JSON object piece by piece, so that memory holds one element at a time."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

from fmbseg.datasets.base import DatasetError

_CHUNK = 1 << 20


def elements_of_arrays(path: Path) -> Iterator[tuple[str, Any]]:
    """Every element of every array that is a value of the file's outermost object.

    Values of other kinds are passed over. A file of any size needs memory for its largest element
    (COCO's and PASCAL's annotation files are arrays of small objects).

    Args:
        path: a UTF-8 JSON file whose outermost value is an object.

    Yields:
        Key of the array and element, in the file's order.

    Raises:
        DatasetError: no such file, or not whole, valid JSON with an object outermost.
    """
    if not path.is_file():
        raise DatasetError(f"{path}: no such file")
    with path.open(encoding="utf-8") as stream:
        text = _Text(stream, path)
        text.take("{")
        while text.peek() != "}":
            key = text.value()
            text.take(":")
            if text.peek() != "[":
                text.value()
            else:
                text.take("[")
                while text.peek() != "]":
                    yield key, text.value()
                    text.pass_comma("]")
                text.take("]")
            text.pass_comma("}")
        text.take("}")


class _Text:
    """What was read of the stream and not yet used."""

    def __init__(self, stream: TextIO, path: Path) -> None:
        self._stream, self._path = stream, path
        self._buffer, self._at = "", 0
        self._decoder = json.JSONDecoder()

    def peek(self) -> str:
        """The next character that is not white space; it is not used up."""
        while True:
            while self._at < len(self._buffer) and self._buffer[self._at] in " \t\r\n":
                self._at += 1
            if self._at < len(self._buffer):
                return self._buffer[self._at]
            if not self._more():
                raise self._broken("it ends too early")

    def take(self, character: str) -> None:
        """Use up one character that has to come now."""
        if self.peek() != character:
            raise self._broken(f"found {self.peek()!r}, wanted {character!r}")
        self._at += 1

    def pass_comma(self, end: str) -> None:
        """Use up a comma, unless the array or object ends here."""
        if self.peek() != end:
            self.take(",")

    def value(self) -> Any:
        """Use up one whole value."""
        self.peek()
        while True:
            try:
                value, end = self._decoder.raw_decode(self._buffer, self._at)
            except json.JSONDecodeError as error:
                if not self._more():
                    raise self._broken(error.msg) from None
                continue
            if end == len(self._buffer) and self._more():
                continue  # a number may go on
            self._at = end
            return value

    def _more(self) -> bool:
        rest = self._buffer[self._at :]
        try:
            new = self._stream.read(max(_CHUNK, len(rest)))
        except UnicodeDecodeError:
            raise self._broken("not UTF-8 text") from None
        self._buffer, self._at = rest + new, 0
        return bool(new)

    def _broken(self, why: str) -> DatasetError:
        return DatasetError(f"{self._path}: not a whole JSON object ({why}); fetch it again")
