"""A headless Chromium that shows a page at a given size, and saves what it shows.

Over the browser's own protocol (Chrome DevTools), because a window of a headless browser is never
narrower than 500 px, and because pages made by scripts have to be waited for.
"""

import base64
import contextlib
import itertools
import json
import shutil
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from websockets.sync.client import connect
from websockets.sync.connection import Connection

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
WIDE, PHONE = (1280, 900), (390, 844)
"""Window sizes in px, width and height."""
_CODES = {
    " ": 32, "Backspace": 8, "Tab": 9, "Enter": 13, "Escape": 27, "PageUp": 33, "PageDown": 34,
    "ArrowLeft": 37, "ArrowUp": 38, "ArrowRight": 39, "ArrowDown": 40, "Delete": 46,
}  # fmt: skip
"""Of the keys that the browser itself does something at."""


def find_browser() -> str | None:
    """Path of the first browser there is."""
    return next((path for name in BROWSERS if (path := shutil.which(name))), None)


class Page:
    """One page of a running browser.

    Attributes:
        requested: addresses that the page asked for, in order; of a request that was led on, each.
    """

    def __init__(self, socket: Connection) -> None:
        """Speak to the page behind a connection; see `opened`."""
        self._socket, self._numbers = socket, itertools.count(1)
        self.requested: list[str] = []
        for domain in ("Page", "Runtime", "Network"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """Call a method of the protocol and wait for its answer.

        Raises:
            RuntimeError: the browser refused.
        """
        number = next(self._numbers)
        self._socket.send(json.dumps({"id": number, "method": method, "params": params}))
        while True:
            answer = json.loads(self._socket.recv(timeout=60))
            if answer.get("method") == "Network.requestWillBeSent":
                self.requested.append(answer["params"]["request"]["url"])
            if answer.get("id") == number:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']['message']}")
                return dict(answer["result"])

    def open(self, url: str, size_wh: tuple[int, int], settle_s: float = 1.0) -> None:
        """Show a page in a window of a size in px, and wait until it has loaded and settled."""
        width, height = size_wh
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width, height=height, deviceScaleFactor=1, mobile=width < 500,
        )  # fmt: skip
        self.call("Page.navigate", url="about:blank")
        self.call("Page.navigate", url=url)
        self.until("document.readyState === 'complete'")
        time.sleep(settle_s)

    def run(self, script: str) -> Any:
        """Value of a JavaScript expression in the page."""
        found = self.call("Runtime.evaluate", expression=script, returnByValue=True)
        if "exceptionDetails" in found:
            raise RuntimeError(f"{script}: {found['exceptionDetails']['text']}")
        return found["result"].get("value")

    def until(self, script: str, seconds: float = 60, every_s: float = 0.2) -> None:
        """Wait until an expression is true in the page; it is asked every so many seconds.

        Raises:
            TimeoutError: it did not become true.
        """
        deadline = time.monotonic() + seconds
        while not self.run(f"!!({script})"):
            if time.monotonic() > deadline:
                raise TimeoutError(f"the page never came to {script}: {self.text()[:500]}")
            time.sleep(every_s)

    def press(self, key: str, modifiers: int = 0) -> None:
        """Press a key and let it go, as a person does.

        Args:
            key: its name in `KeyboardEvent.key`: "a", "A" (with Shift), "1", "Enter", "ArrowLeft".
            modifiers: 1 Alt, 2 Control, 4 Meta, 8 Shift, added up.
        """
        shift = 8 if len(key) == 1 and key.isupper() else 0
        given: dict[str, Any] = {"key": key, "modifiers": modifiers | shift}
        text = {"Enter": "\r"}.get(key, key if len(key) == 1 else "")
        if text and not modifiers & 7:
            given["text"] = text
        if key in _CODES:
            given["windowsVirtualKeyCode"] = _CODES[key]
        self.call("Input.dispatchKeyEvent", type="keyDown", **given)
        self.call("Input.dispatchKeyEvent", type="keyUp", **given)

    def click(self, x: float, y: float) -> None:
        """Press and let go the left button of the mouse at a place of the window, px."""
        for kind in ("mousePressed", "mouseReleased"):
            self.call(
                "Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1
            )  # fmt: skip

    def text(self) -> str:
        """What a reader sees as text."""
        return str(self.run("document.body ? document.body.innerText : ''"))

    def save(self, path: Path, *, whole: bool = False) -> None:
        """Write what is shown as PNG; with `whole` the page down to its end."""
        taken = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(base64.b64decode(taken["data"]))


@contextlib.contextmanager
def opened(browser: str) -> Iterator[Page]:
    """A page of a browser of its own, which ends with the block."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        process = subprocess.Popen(
            [
                browser, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars",
                "--disable-background-networking", "--remote-debugging-port=0",
                f"--user-data-dir={profile}", "about:blank",
            ],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            with connect(_address(process, Path(profile)), max_size=None) as socket:
                yield Page(socket)
        finally:
            process.terminate()
            process.wait(20)


def _address(process: "subprocess.Popen[bytes]", profile: Path) -> str:
    """Where the first page of a browser that has just been started listens."""
    port, deadline = profile / "DevToolsActivePort", time.monotonic() + 60
    while not (port.is_file() and "\n" in port.read_text()):
        if process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"the browser does not listen (exit code {process.poll()})")
        time.sleep(0.05)
    number = port.read_text().splitlines()[0]
    with urllib.request.urlopen(f"http://127.0.0.1:{number}/json", timeout=20) as answer:
        pages = json.load(answer)
    return str(next(one["webSocketDebuggerUrl"] for one in pages if one["type"] == "page"))
