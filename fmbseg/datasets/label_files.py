"""Label pictures: reading their numbers, and what a data set's own numbers mean."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import PIL.Image
from jaxtyping import Integer, UInt8

from fmbseg.datasets.base import DatasetError
from fmbseg.types import IGNORE

_UNUSED = -1


def read_label_file(path: Path) -> Integer[np.ndarray, "height width"]:
    """Numbers of a one-channel picture; of a palette picture the palette indices.

    Raises:
        DatasetError: not a picture, or one with several channels or with float pixels.
    """
    try:
        with PIL.Image.open(path) as picture:
            picture.load()
            mode, values = picture.mode, np.asarray(picture)
    except Exception as error:  # decoders raise anything on damaged data
        raise DatasetError(f"{path}: cannot be read as a label file ({error})") from None
    if values.ndim != 2 or mode == "F":
        raise DatasetError(
            f"{path}: found a picture of mode {mode}; wanted one channel with class indices"
        )
    return values.astype(np.uint8) if values.dtype == np.bool_ else values


class Encoding:
    """The numbers one kind of label file holds, and the class index of each.

    Args:
        title: names the kind in errors, for instance "ADE20K annotations".
        meaning: number in the file, 0 to 255, to class index or IGNORE. Numbers that are not in
            it do not occur in such files and are refused.
    """

    def __init__(self, title: str, meaning: Mapping[int, int]) -> None:
        self.title = title
        self._table = np.full(257, _UNUSED, np.int16)  # the last for whatever is not 0 to 255
        self._table[list(meaning)] = list(meaning.values())

    def read(self, path: Path) -> UInt8[np.ndarray, "height width"]:
        """Class index per pixel of one label file, IGNORE where it says void.

        Raises:
            DatasetError: the file cannot be read, or holds a number of another encoding.
        """
        numbers = read_label_file(path)
        inside = (numbers >= 0) & (numbers <= 255)
        indices = self._table[np.where(inside, numbers, 256)]
        unused = indices == _UNUSED
        if unused.any():
            raise DatasetError(
                f"{path}: found label {numbers[unused][0]} on {int(unused.sum())} pixels; "
                f"wanted {self.title}, which hold {self._ranges()}"
            )
        return indices.astype(np.uint8)

    def _ranges(self) -> str:
        used = np.flatnonzero(self._table != _UNUSED)
        runs = np.split(used, np.flatnonzero(np.diff(used) > 1) + 1)
        return ", ".join(f"{run[0]}-{run[-1]}" if len(run) > 1 else str(run[0]) for run in runs)


def counted(classes: int, *, first: int = 0) -> dict[int, int]:
    """The meaning of numbers that count the classes up from `first`; others and 255 are void."""
    void = dict.fromkeys([*range(first), 255], IGNORE)
    return void | {first + index: index for index in range(classes)}
