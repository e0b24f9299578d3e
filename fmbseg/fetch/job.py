"""Fetching and unpacking the archives of one data set."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from tqdm import tqdm

from fmbseg.datasets.entry import Archive, Entry
from fmbseg.fetch.checksums import check, record_path, set_aside
from fmbseg.fetch.http import fetch
from fmbseg.fetch.remote import DownloadError
from fmbseg.fetch.unpack import archives_folder, fetched_bytes, is_staged, is_unpacked, unpack
from fmbseg.store import ArchiveError, require_space


@dataclass(frozen=True)
class Job:
    """One call of `install`, which says what the attributes mean."""

    entry: Entry
    root: Path
    zips: Path | None
    mirrors: tuple[str, ...]
    keep_archives: bool

    def wanted(self, splits: Sequence[str]) -> list[Archive]:
        """The archives the splits need; an alternative where that is what lies here already."""
        chosen = []
        for archive in self.entry.needed(splits):
            options = [archive, *self._alternatives(archive)]
            here = [one for one in options if is_unpacked(one, self.root) or self._own(one)]
            chosen.append(next(iter(here), archive))
        return chosen

    def require_archives(self, archives: Sequence[Archive]) -> None:
        """Refuse before anything is fetched when something can only be fetched by hand.

        Raises:
            DownloadError: with the steps to take.
        """
        absent = [one for one in archives if one.login and not self._at_hand(one)]
        names = " and ".join(one.file_name for one in absent)
        if absent and self.zips is None:
            raise DownloadError(
                f"{self.entry.name}: only an account opens its archives. Register at "
                f"{self.entry.home}, log in, fetch {names} from {absent[0].urls[0]}, then run: "
                f"fmbseg download {self.entry.name} --zips FOLDER_WITH_THEM"
            )
        if absent:
            raise DownloadError(
                f"{self.entry.name}: {self.zips} lacks {names}; wanted what {absent[0].urls[0]} "
                "gives, under its own name"
            )

    def require_room(self, archives: Sequence[Archive]) -> None:
        """Refuse to begin what will not fit: all content, and the archives kept at once.

        Raises:
            DiskFullError: less is free.
        """
        most = used = 0
        for archive in archives:
            if is_unpacked(archive, self.root) or is_staged(archive, self.root):
                continue
            size = archive.about_bytes or 0
            fetched = size if self._own(archive) else fetched_bytes(archive, self.root)
            most = max(most, used + 2 * size - fetched)
            used += size * (2 if self.keep_archives and not self._own(archive) else 1)
        require_space(self.root, most, " and ".join(one.file_name for one in archives))

    def put(self, archive: Archive) -> None:
        """Fetch and unpack one archive, or an alternative that gives the same data set.

        Raises:
            DownloadError: it cannot be had, or is refused.
            ArchiveError: a user's own one is refused.
            DiskFullError: no room.
        """
        if is_unpacked(archive, self.root):
            return
        file, own = archives_folder(self.root) / archive.file_name, self._own(archive)
        if own is not None:
            self._check_own(archive, own, file)
            try:
                unpack(archive, own, self.root)
            except ArchiveError:
                record_path(file).unlink(missing_ok=True)
                raise
            return
        try:
            if not is_staged(archive, self.root):
                copies = [f"{folder.rstrip('/')}/{archive.file_name}" for folder in self.mirrors]
                fetch(replace(archive, urls=(*copies, *archive.urls)), file)
        except DownloadError as error:
            alternatives = self._alternatives(archive)
            if not alternatives:
                raise
            tqdm.write(f"{error}\n{self.entry.name}: trying {alternatives[0].file_name} instead")
            self.put(alternatives[0])
            return
        try:
            unpack(archive, file, self.root)
        except ArchiveError as error:
            bad = set_aside(file, file)
            record_path(file).unlink(missing_ok=True)
            raise DownloadError(f"{error} (kept as {bad}; nothing of it was unpacked)") from None
        if not self.keep_archives:
            file.unlink(missing_ok=True)

    def _alternatives(self, archive: Archive) -> list[Archive]:
        """Archives that give the very same data set in the end."""
        return [one for one in self.entry.archives if one.instead_of == archive.file_name]

    def _own(self, archive: Archive) -> Path | None:
        """The user's own copy."""
        path = None if self.zips is None else self.zips / archive.file_name
        return path if path is not None and path.is_file() else None

    def _at_hand(self, archive: Archive) -> bool:
        return (
            self._own(archive) is not None
            or is_unpacked(archive, self.root)
            or is_staged(archive, self.root)
            or (archives_folder(self.root) / archive.file_name).is_file()
        )

    def _check_own(self, archive: Archive, own: Path, file: Path) -> None:
        try:
            check(own, archive, file)
        except DownloadError as error:
            raise DownloadError(
                f"{error}. Fetch {own} again, from {archive.urls[0]}, or take it out of that folder"
            ) from None
