"""Results per image, so that an interrupted evaluation resumes after the last one."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from fmbseg.progress import progress
from fmbseg.store.lines import append_line, read_lines

_FILE = "images.jsonl"


class ImageRecords:
    """A line an image, written as soon as it is finished.

    Python writes and reads back floats and whole numbers exactly, so figures that are summed from
    records are those of an evaluation that was never cut.
    """

    def __init__(self, folder: Path, names: Sequence[str]) -> None:
        """Read what a cut run left.

        Args:
            folder: belongs to one unit and one content key.
            names: of the images, in the data set's order.
        """
        self._path, self._names = folder / _FILE, names
        self._found: dict[int, dict[str, Any]] = {}
        for line in read_lines(self._path):
            index = line.get("index")
            if isinstance(index, int) and line.get("image") == self._name(index):
                self._found[index] = line

    def __len__(self) -> int:
        """Images that are finished."""
        return len(self._found)

    def each(self, title: str) -> Iterator[tuple[int, dict[str, Any] | None]]:
        """Every image's index and what is known of it, None when it is not finished.

        Says meanwhile where the evaluation is, under the title.
        """
        with progress(title, total=len(self._names), initial=len(self)) as done:
            for index in range(len(self._names)):
                record = self._found.get(index)
                yield index, record
                if record is None:
                    done.update()

    def add(self, index: int, record: dict[str, Any]) -> dict[str, Any]:
        """Note what was found in an image; returns it.

        A cut of power may cost the lines of the last half minute, which are then computed again.
        """
        line = {"index": index, "image": self._name(index), **record}
        append_line(self._path, line, flush=False)
        self._found[index] = line
        return line

    def _name(self, index: int) -> str | None:
        return self._names[index] if 0 <= index < len(self._names) else None
