"""A disk of a few megabytes in memory, mounted where nobody but the tests' commands sees it."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Disk:
    """A mounted tmpfs.

    Attributes:
        inside: where commands with `prefix` find it.
        outside: where this process finds it.
        prefix: of a command that shall find it at `inside`.
    """

    inside: Path
    outside: Path
    prefix: tuple[str, ...]

    def leave(self, free_bytes: int) -> None:
        """Fill it up until only so much is free."""
        self.empty()
        status = os.statvfs(self.outside)
        with self._ballast.open("wb") as file:
            file.write(bytes(max(0, status.f_bavail * status.f_frsize - free_bytes)))

    def empty(self) -> None:
        """Free what `leave` filled up."""
        self._ballast.unlink(missing_ok=True)

    def read_only(self, yes: bool) -> None:
        """Forbid writing, or allow it again."""
        options = f"remount,{'ro' if yes else 'rw'}"
        subprocess.run([*self.prefix, "mount", "-o", options, str(self.inside)], check=True)

    @property
    def _ballast(self) -> Path:
        return self.outside / "ballast"


@contextmanager
def mounted(folder: Path, megabytes: int) -> Iterator[Disk | None]:
    """Mount one in a namespace of its own, which needs no privileges; None where it cannot be."""
    if not all(map(shutil.which, ("unshare", "nsenter", "mount"))):
        yield None
        return
    folder.mkdir()
    script = f'mount -t tmpfs -o size={megabytes}m none "$0" && echo ready && exec cat'
    holder = subprocess.Popen(
        ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", script, str(folder)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    assert holder.stdout is not None
    with holder:  # it ends when its input is closed
        if holder.stdout.readline() == b"ready\n":
            enter = ("nsenter", "-t", str(holder.pid), "-U", "-m", "--preserve-credentials")
            yield Disk(folder, Path(f"/proc/{holder.pid}/root{folder}"), enter)
        else:
            yield None
