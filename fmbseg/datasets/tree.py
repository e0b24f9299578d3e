"""Checking a data set's folders, so that one error names everything that is missing."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from fmbseg.datasets.base import DatasetError


def split_folder(name: str, split: str, splits: Mapping[str, str]) -> str:
    """The official name of a split that is asked for by our name or by the official one.

    Args:
        name: of the data set, for the error.
        split: what was asked for.
        splits: our name to the official one.

    Raises:
        DatasetError: neither.
    """
    if split in splits.values():
        return split
    if split not in splits:
        raise DatasetError(f"{name}: unknown split {split!r}; wanted one of {sorted(splits)}")
    return splits[split]


class Tree:
    """A data set's folders below the root a user names; collects what is missing.

    Args:
        name: of the data set.
        root: what the user names.
        tops: where the tree may begin, relative to the root; the first is the official place.
        marks: folders directly below the top, by which the top is told.

    Attributes:
        top: the first of `tops` that has one of `marks`, else the official place.
    """

    def __init__(
        self, name: str, root: str | Path, tops: Sequence[str], marks: Sequence[str]
    ) -> None:
        self._name = name
        self._root = Path(root)
        self._missing: list[str] = []
        places = [self._root / top for top in tops]
        found = (top for top in places if any((top / mark).is_dir() for mark in marks))
        self.top = next(found, places[0])

    def files(self, folder: Path, suffix: str, *, nested: bool = False) -> set[str]:
        """Names of the files with this ending in a folder; a missing folder is noted.

        Args:
            folder: where to look; names with a leading dot are left out.
            suffix: end of the names.
            nested: look in the folders directly below instead; names are `<folder>/<file>`.
        """
        if not folder.is_dir():
            self._missing.append(f"{self.place(folder)}/")
            return set()
        with os.scandir(folder) as listing:
            entries = [entry for entry in listing if not entry.name.startswith(".")]
        if not nested:
            return {entry.name for entry in entries if entry.name.endswith(suffix)}
        below = [entry.name for entry in entries if entry.is_dir()]
        return {f"{one}/{file}" for one in below for file in self.files(folder / one, suffix)}

    def listed(self, file: Path) -> list[str]:
        """First word of every line of a list file; notes a missing or an empty one."""
        if not file.is_file():
            self._missing.append(self.place(file))
            return []
        lines = file.read_text(encoding="utf-8").splitlines()
        words = [line.split()[0] for line in lines if line.strip()]
        if not words:
            self._missing.append(f"entries in {self.place(file)}, which is empty")
        return words

    def require(self, what: str, folder: Path, names: Sequence[str]) -> None:
        """Note which of these files a folder lacks."""
        there = self.files(folder, "")
        self.lacking(what, folder, [name for name in names if name not in there], len(names))

    def lacking(self, what: str, folder: Path, absent: Sequence[str], total: int) -> None:
        """Note files that are absent from a folder, with the first of them as an example.

        Args:
            what: for instance "images without a label".
            folder: where they belong; when it is missing as a whole, that was noted already.
            absent: names of the files that are not there, relative to the folder.
            total: how many there should be.
        """
        if absent and folder.is_dir():
            first = self.place(folder / absent[0])
            self._missing.append(f"{len(absent)} of {total} {what} (first: {first})")

    def note(self, what: str) -> None:
        """Note something else that is missing."""
        self._missing.append(what)

    def place(self, path: Path) -> str:
        """A path as the errors write it: relative to the root."""
        return path.relative_to(self._root).as_posix()

    def check(self) -> None:
        """Refuse the tree when anything was noted.

        Raises:
            DatasetError: with everything that was noted, and the command that fetches it.
        """
        if not self._missing:
            return
        is_there = "" if self._root.is_dir() else " (no such folder)"
        raise DatasetError(
            f"{self._name}: {self._root}{is_there} lacks {'; '.join(self._missing)}. "
            f"To fetch it: fmbseg download {self._name}"
        )
