"""Reading an array of a large JSON file element by element: memory holds one at a time."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ijson

from fmbseg.datasets.base import DatasetError


def elements_of(path: Path, key: str) -> Iterator[Any]:
    """The elements of one array that is a value of the file's outermost object.

    The file is read to its end, so a cut or damaged one is noticed. A file of any size needs
    memory for its largest element (COCO's and PASCAL's annotation files are arrays of small
    objects).

    Args:
        path: a JSON file whose outermost value is an object.
        key: of the array; nothing is yielded where the file has none of that name.

    Raises:
        DatasetError: no such file, or not whole, valid JSON.
    """
    if not path.is_file():
        raise DatasetError(f"{path}: no such file")
    try:
        with path.open("rb") as stream:
            yield from ijson.items(stream, f"{key}.item", use_float=True)
    except (ijson.JSONError, UnicodeDecodeError) as error:
        words = str(error).splitlines()[0]
        raise DatasetError(f"{path}: not a whole JSON file ({words}); fetch it again") from None
