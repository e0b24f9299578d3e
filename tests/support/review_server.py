"""`fmbseg review` as a process of its own, which tests kill and start again."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from scripts.browser import Page
from tests.conftest import REPOSITORY

SAVED = "document.getElementById('saved').textContent === 'saved'"
RETRIES = "document.getElementById('saved').textContent.startsWith('not saved')"
QUICK_S = 0.02


class Server:
    """The command on one workspace; it gets the same port and token each time."""

    def __init__(self, root: Path) -> None:
        """Nothing is started yet."""
        self._root = root
        self._process: subprocess.Popen[str] | None = None
        self.address = ""

    def start(self) -> None:
        """Start it, and wait until it listens."""
        command = ["-m", "fmbseg.cli", "review", "--workspace", str(self._root), "--by", "anna"]
        self._process = subprocess.Popen(
            [sys.executable, *command, "--no-open"], cwd=REPOSITORY, text=True,
            env={**os.environ, "PYTHONPATH": str(REPOSITORY)}, stdout=subprocess.PIPE,
        )  # fmt: skip
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        self.address = re.findall(r"http://\S+", line)[0]

    def kill(self) -> None:
        """End it as a crash does."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def end(self) -> str:
        """Press Ctrl-C; returns what it says then."""
        assert self._process is not None
        self._process.send_signal(signal.SIGINT)
        said, _ = self._process.communicate(timeout=30)
        assert self._process.returncode == 0
        return said


@contextmanager
def serving(root: Path) -> Iterator[Server]:
    """A server that has started; whatever became of it, it is gone when the block ends."""
    server = Server(root)
    server.start()
    try:
        yield server
    finally:
        server.kill()


def show(page: Page, server: Server, size_wh: tuple[int, int] = (1280, 800)) -> None:
    """Open the page in a window that stays in front, and wait for its first image."""
    page.call("Emulation.setFocusEmulationEnabled", enabled=True)
    page.open(server.address, size_wh, settle_s=0)
    page.until("document.body.dataset.ready", every_s=QUICK_S)


def text(page: Page, name: str) -> str:
    """What an element says, by its id."""
    return str(page.run(f"document.getElementById('{name}').textContent"))


def act(page: Page, *keys: str, then: str = SAVED) -> None:
    """Press keys, and wait until something is true."""
    for key in keys:
        page.press(key)
    page.until(then, every_s=QUICK_S)
