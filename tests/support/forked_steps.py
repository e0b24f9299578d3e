"""Steps run as `python -m fmbseg.steps` runs them, without paying its imports each time.

A server process imports the library, and what it loads when it is first used, once and forks a
child for every call. A child can be told to suffer something at its n-th change to the workspace's
files.
"""

import contextlib
import multiprocessing
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from tests.support.shape_checks import modules_with_shapes

_CONTEXT = multiprocessing.get_context("forkserver")
_LOADED_WHEN_USED = ("open_clip", "scipy.ndimage", "segment_anything", "timm", "torchvision.ops")
_CONTEXT.set_forkserver_preload(["fmbseg.steps.plan", *modules_with_shapes(), *_LOADED_WHEN_USED])
_CHANGES = ("os.rename", "os.mkdir", "os.remove", "os.rmdir")
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT
Event = Callable[[Path, Path, bool], None]
"""What happens at a change; is told the workspace, the file, and whether it is to be written."""


def killed(root: Path, path: Path, written: bool) -> None:
    """SIGKILL; a file that was to be written is left behind with half a line in it."""
    if written:
        with path.open("ab") as torn:
            torn.write(b'{"torn')
    os.kill(os.getpid(), signal.SIGKILL)


def interrupted(root: Path, path: Path, written: bool) -> None:
    """Ctrl-C."""
    os.kill(os.getpid(), signal.SIGINT)


def terminated(root: Path, path: Path, written: bool) -> None:
    """SIGTERM."""
    os.kill(os.getpid(), signal.SIGTERM)


def crowded(root: Path, path: Path, written: bool) -> None:
    """Somebody else's file, beside the workspace, takes all the room there is left."""
    with contextlib.suppress(OSError), (root.parent / "ballast").open("wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))


def robbed(root: Path, path: Path, written: bool) -> None:
    """Somebody removes .scratch."""
    shutil.rmtree(root / ".scratch", ignore_errors=True)


@dataclass(frozen=True)
class Ended:
    """A step that has ended.

    Attributes:
        code: exit code; -9 after SIGKILL.
        changes: how often it opened a file for writing, renamed, removed or made one; 0 if killed.
        error: its standard error and output.
    """

    code: int
    changes: int
    error: str


def run_step(root: Path, step: str, at: int = 0, event: Event = killed) -> Ended:
    """Run `python -m fmbseg.steps <step> --workspace <root>`.

    Args:
        root: the workspace.
        step: name of the step.
        at: the change, from 1, just before which it happens; 0 for never.
        event: what happens.
    """
    receiver, sender = _CONTEXT.Pipe(duplex=False)
    with tempfile.NamedTemporaryFile() as printed:
        arguments = (root, step, at, event, printed.name, sender)
        child = _CONTEXT.Process(target=_child, args=arguments)
        child.start()
        sender.close()
        child.join()
        error = printed.read().decode(errors="replace")
    assert child.exitcode is not None
    try:
        changes = int(receiver.recv())
    except EOFError:
        changes = 0
    return Ended(child.exitcode, changes, error)


def _child(root: Path, step: str, at: int, event: Event, printed: str, sender: Connection) -> None:
    descriptor = os.open(printed, os.O_WRONLY)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    from fmbseg.steps.__main__ import main

    changes = _Changes(root, at, event)
    sys.addaudithook(changes)
    sys.argv = ["python -m fmbseg.steps", step, "--workspace", str(root)]
    code = main()
    sender.send(changes.count)
    sys.exit(code)


class _Changes:
    """An audit hook that counts changes below a folder and lets something happen at one of them."""

    def __init__(self, root: Path, at: int, event: Event) -> None:
        self._root, self._at, self._event = root, at, event
        self._below = f"{root}{os.sep}"
        self.count = 0

    def __call__(self, name: str, arguments: tuple[Any, ...]) -> None:
        written = name == "open" and bool(arguments[2] & _WRITES)
        if (written or name in _CHANGES) and str(arguments[0]).startswith(self._below):
            self.count += 1
            if self.count == self._at:
                self._event(self._root, Path(arguments[0]), written)
