"""Full disks: checked for before much is written, and explained when one fills up anyway."""

import contextlib
import errno
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

_FULL = (errno.ENOSPC, errno.EDQUOT)
_FULL_WORDS = ("no space left on device", "storagefull", "disk quota exceeded", "disk is full")
_ADVICE = "free some, or choose a folder on another disk, then run again"
_NO_FILES = "no further file can be made (no inodes are left); delete files, or use another disk"
_UNITS = ("B", "kB", "MB", "GB", "TB", "PB")


class DiskFullError(OSError):
    """There is no room to write; trying again does not help. `errno` is ENOSPC."""

    def __str__(self) -> str:
        return str(self.strerror)


def human_bytes(count: int) -> str:
    """A size as people read it, in powers of 1000: "0 B", "999 B", "1.5 GB"."""
    size, unit = float(count), 0
    while size >= 999.5 and unit < len(_UNITS) - 1:
        size, unit = size / 1000, unit + 1
    digits = 0 if unit == 0 or size >= 99.5 else 1
    return f"{size:.{digits}f} {_UNITS[unit]}"


def free_bytes(folder: str | Path) -> int:
    """Room for unprivileged writers on the disk of a folder, which need not exist yet."""
    return shutil.disk_usage(_nearest(folder)).free


def require_space(folder: str | Path, wanted_bytes: int, what: str) -> None:
    """Refuse to start writing what cannot fit.

    Args:
        folder: where it will be written; the nearest folder above that exists is asked.
        wanted_bytes: about how much.
        what: is to be written ("the data set", "a checkpoint").

    Raises:
        DiskFullError: less is free, or no further file can be made.
    """
    free = free_bytes(folder)
    if free < wanted_bytes:
        raise _error(
            f"{what} needs about {human_bytes(wanted_bytes)} in {folder}, where "
            f"{human_bytes(free)} are free; {_ADVICE}"
        )
    if _no_more_files(folder):
        raise _error(f"{what} needs files in {folder}, where {_NO_FILES}")


@contextlib.contextmanager
def explain_full_disk(what: str, folder: str | Path = ".") -> Iterator[None]:
    """Turn a full disk met inside into a `DiskFullError`; any other error passes as it is.

    Recognised in whatever library met it: by `errno` (also of the errors behind an error), or by
    the system's words in the text, which is all that safetensors keeps of it.

    Args:
        what: was being written.
        folder: where; the failing file's own folder is named instead when the error has one.

    Raises:
        DiskFullError: the disk, or the user's quota on it, is full.
    """
    try:
        yield
    except DiskFullError:
        raise
    except Exception as error:
        cause = _full_disk_behind(error)
        if cause is None:
            raise
        raise _error(_words(what, _place(cause, folder), cause)) from error


def _error(words: str) -> DiskFullError:
    return DiskFullError(errno.ENOSPC, words)


def _words(what: str, place: Path, cause: BaseException) -> str:
    words = f"{what} could not be written to {place}"
    if isinstance(cause, OSError) and cause.errno == errno.EDQUOT:
        return f"{words}: your quota on that disk is used up; {_ADVICE}"
    if _no_more_files(place):
        return f"{words}, where {_NO_FILES}"
    return f"{words}: the disk is full, {human_bytes(free_bytes(place))} are free; {_ADVICE}"


def _full_disk_behind(error: BaseException) -> BaseException | None:
    seen: list[BaseException] = []
    current: BaseException | None = error
    while current is not None and current not in seen:
        seen.append(current)
        text = str(current).lower()
        if isinstance(current, OSError) and current.errno in _FULL:
            return current
        if any(words in text for words in _FULL_WORDS):
            return current
        current = current.__cause__ or current.__context__
    return None


def _place(cause: BaseException, folder: str | Path) -> Path:
    name = getattr(cause, "filename", None)
    return Path(os.fsdecode(name)).parent if isinstance(name, str | bytes) else Path(folder)


def _nearest(folder: str | Path) -> Path:
    """The folder itself, or the nearest one above it that exists."""
    path = Path(folder).absolute()
    for place in (path, *path.parents):
        with contextlib.suppress(OSError):
            place.stat()
            return place
    raise AssertionError("the root of all folders can be asked")


def _no_more_files(folder: str | Path) -> bool:
    if not hasattr(os, "statvfs"):  # Windows, whose file systems count no files
        return False
    status = os.statvfs(_nearest(folder))
    return status.f_files > 0 and status.f_favail == 0
