"""Steps run as `python -m fmbseg.steps` runs them, without paying its imports each time.

A server process imports the library once and forks a child for every call. A child can be told to
take a signal in the middle of its n-th change to the workspace's files.
"""

import multiprocessing
import os
import signal
import sys
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(["fmbseg.steps.units"])
_CHANGES = ("os.rename", "os.mkdir", "os.remove", "os.rmdir")
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT


@dataclass(frozen=True)
class Ended:
    """A step that has ended.

    Attributes:
        code: exit code; -9 after SIGKILL.
        changes: how often it opened a file for writing, renamed, removed or made one; 0 if killed.
        error: its standard error.
    """

    code: int
    changes: int
    error: str


def run_step(root: Path, step: str, at: int = 0, number: signal.Signals = signal.SIGKILL) -> Ended:
    """Run `python -m fmbseg.steps <step> --workspace <root>`.

    Args:
        root: the workspace.
        step: name of the step.
        at: the change, from 1, at which it signals itself; 0 for none. SIGKILL leaves a file that
            was to be opened for writing behind with half a line in it.
        number: the signal.
    """
    error = root.parent / f"{root.name}.{step}.err"
    receiver, sender = _CONTEXT.Pipe(duplex=False)
    child = _CONTEXT.Process(target=_child, args=(str(root), step, at, number, error, sender))
    child.start()
    sender.close()
    child.join()
    assert child.exitcode is not None
    try:
        changes = int(receiver.recv())
    except EOFError:
        changes = 0
    return Ended(child.exitcode, changes, error.read_text())


def _child(
    root: str, step: str, at: int, number: signal.Signals, error: Path, sender: Connection
) -> None:
    descriptor = os.open(error, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    from fmbseg.steps.__main__ import main

    changes = _Changes(root, at, number)
    sys.addaudithook(changes)
    sys.argv = ["python -m fmbseg.steps", step, "--workspace", root]
    code = main()
    sender.send(changes.count)
    sys.exit(code)


class _Changes:
    """An audit hook that counts changes below a folder and raises a signal at one of them."""

    def __init__(self, root: str, at: int, number: signal.Signals) -> None:
        self._below, self._at, self._number = root + os.sep, at, number
        self.count = 0

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open":
            path, _, flags = arguments
            if not flags & _WRITES:
                return
        elif event in _CHANGES:
            path = arguments[0]
        else:
            return
        if not str(path).startswith(self._below):
            return
        self.count += 1
        if self.count != self._at:
            return
        if event == "open" and self._number == signal.SIGKILL:
            with open(path, "ab") as torn:  # noqa: PTH123
                torn.write(b'{"torn')
        os.kill(os.getpid(), self._number)
