"""A folder, a ZIP archive or one file that a tool wrote, read in place: nothing is unpacked."""

import json
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, cast

import ijson

from fmbseg.importing.edited import EditError
from fmbseg.store import MANIFEST, UnreadableImageError
from fmbseg.store.archives import MAX_ENTRIES
from fmbseg.store.images import MAX_BYTES, open_regular

_OURS = {MANIFEST, "export.json", "labels.json"}
"""Files of an export that are nobody's labels."""


class Files:
    """The files below a path, whatever it is; names are relative, with forward slashes."""

    def __init__(self, path: Path) -> None:
        """Look at what there is.

        Raises:
            EditError: it cannot be read.
        """
        self.path = path
        self._zip: zipfile.ZipFile | None = None
        if path.is_dir():
            self._root = path
            self.names = sorted(
                name for one in path.rglob("*")
                if one.is_file() and (name := one.relative_to(path).as_posix()) not in _OURS
                and not any(part.startswith(".") for part in name.split("/"))
            )  # fmt: skip
        elif zipfile.is_zipfile(path):
            with _damage_named(path):
                self._zip = zipfile.ZipFile(path)
            self.names = sorted(one.filename for one in self._zip.infolist() if not one.is_dir())
        else:
            self._root, self.names = path.parent, [path.name]
        if len(self.names) > MAX_ENTRIES:
            raise EditError(f"{path}: holds more than {MAX_ENTRIES} files")

    def named(self, suffix: str) -> list[str]:
        """The files whose names end so.

        Raises:
            EditError: there is none.
        """
        found = [name for name in self.names if name.lower().endswith(suffix)]
        if not found:
            raise EditError(f"{self.path}: found no file *{suffix}; wanted at least one")
        return found

    def where(self, name: str) -> str:
        """A file's name for messages."""
        return str(self.path / name if self._zip or self.path.is_dir() else self.path)

    @contextmanager
    def open(self, name: str) -> Iterator[IO[bytes]]:
        """Read a file of any size piece by piece.

        Raises:
            EditError: it is damaged, or none.
        """
        with _damage_named(self.where(name)):
            if self._zip is not None:
                with self._zip.open(name) as entry:
                    yield entry
            else:
                with open_regular(self._root / name) as stream:
                    yield cast(IO[bytes], stream)

    def content(self, name: str) -> bytes:
        """All of a file of at most 1 GiB, which is known before any of it is read.

        Raises:
            EditError: it is larger, damaged, or none.
        """
        if self._zip is not None and self._zip.getinfo(name).file_size > MAX_BYTES:
            raise EditError(f"{self.where(name)}: more than {MAX_BYTES} bytes unpacked")
        with self.open(name) as stream:
            return stream.read()

    def json_object(self, name: str) -> dict[str, Any]:
        """A JSON file whose outermost value is an object.

        Raises:
            EditError: it is none.
        """
        try:
            found = json.loads(self.content(name))
        except (ValueError, RecursionError) as error:
            raise self._no_json(name, error) from None
        if not isinstance(found, dict):
            raise EditError(f"{self.where(name)}: found a list; wanted a JSON object")
        return found

    def json_items(self, name: str, place: str) -> Iterator[Any]:
        """The elements of a list in a JSON file of any size, one after the other.

        Args:
            name: of the file.
            place: of the elements, such as `item` or `images.item`.

        Raises:
            EditError: no whole JSON file.
        """
        try:
            with self.open(name) as stream:
                yield from ijson.items(stream, place, use_float=True)
        except (ijson.JSONError, UnicodeDecodeError, RecursionError) as error:
            raise self._no_json(name, error) from None

    def _no_json(self, name: str, error: Exception) -> EditError:
        words = str(error).splitlines()[0]
        return EditError(f"{self.where(name)}: no whole JSON file ({words}); save it again")


@contextmanager
def _damage_named(where: object) -> Iterator[None]:
    try:
        yield
    except EditError:
        raise
    except (OSError, UnreadableImageError) as error:
        raise EditError(f"{where}: {error}; wanted a file that can be read") from None
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, NotImplementedError) as error:
        raise EditError(f"{where}: damaged, or encrypted ({error}); export it again") from None
